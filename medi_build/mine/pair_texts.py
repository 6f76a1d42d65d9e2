"""Datasets that bring their positives, as numbers: which texts are candidates, and which are excluded for a query.

The pool is every distinct positive of any row, the documents beyond them, and for symmetric sets the queries too.
Excluded for a query are: its own text, every positive that any row with the same query text has, every text of one of
its groups (gold pages, sets), and with ``same_answer`` every text that answers another query with the same answer.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from medi_build.arrays import Ints
from medi_build.dataset.schema import DOCUMENTS
from medi_build.mine.marks import marked_pairs
from medi_build.mine.run import Run
from medi_build.mine.texts import Flat, Grouped, TextColumn, UniqueTexts, codes, column, concat, flatten, number
from medi_build.search.exclusions import BoolMatrix, incidence


@dataclass(frozen=True)
class Pairs:
    """A dataset's texts as numbers.

    Attributes:
        unique_texts: all distinct texts; numbers below ``pool`` are candidates, those below ``documents`` are encoded
            as documents (candidates and given negatives).
        query_of_row: int64 [rows], number of each row's distinct query.
        query_texts: int64 [q], the distinct queries' numbers among the texts.
        positives: int64 [p, 2], (row, text) of each given positive that is not the query itself.
        negatives: int64 [n, 2], (row, text) of each given negative.
        excluded: bool CSR [q, texts], distinct texts that are never negatives of a query.
        marked: by the distinct query, texts that are among these because somebody marked them.
    """

    unique_texts: UniqueTexts
    pool: int
    documents: int
    query_of_row: Ints
    query_texts: Ints
    positives: Ints
    negatives: Ints
    excluded: BoolMatrix
    marked: Grouped

    def query_of_positive(self) -> Ints:
        """The distinct query of each given positive, int64 [p]."""
        return self.query_of_row[self.positives[:, 0]]


def load(examples: pa.Table, documents: pa.Table | None, run: Run, *, symmetric: bool) -> Pairs:
    """Number the texts of a dataset and work out what is excluded."""
    documents = DOCUMENTS.empty_table() if documents is None else documents
    beside = documents.slice(0, 0)
    positives, negatives = flatten(examples, "positives"), flatten(examples, "negatives")
    if run.rule.candidates == "positives":
        candidate = concat([positives.values, column(examples, "query")]) if symmetric else positives.values
        told = column(documents, "text").is_in(candidate.unique().implode())
        given = column(documents, "text").is_in(negatives.values.unique().implode())
        documents, beside = documents.filter(told.to_arrow()), documents.filter((given & ~told).to_arrow())
    unique_texts = _numbered(examples, documents, beside, positives, negatives, symmetric)
    text_of = unique_texts.columns
    query_of_row, first_rows = number(text_of["query"])
    usable = text_of["positives"] != text_of["query"][positives.rows]
    graph = _Graph(
        query_of_row=query_of_row,
        text_of_row=text_of["query"],
        query_texts=text_of["query"][first_rows],
        positive_rows=positives.rows,
        positive_texts=text_of["positives"],
        texts=len(unique_texts),
        symmetric=symmetric,
    )
    excluded = graph.known()
    pages = flatten(pa.concat_tables([documents, beside]), "groups")
    of_documents = np.concatenate([text_of["documents"], text_of["beside"]])
    excluded += graph.sharing(flatten(examples, "groups"), (of_documents, pages))
    if run.rule.same_answer:
        excluded += graph.sharing(flatten(examples, "answers"))
    own = column(examples, "id")
    marked = marked_pairs(run.marks, own, query_of_row, graph.query_texts, unique_texts, run.ledger)
    excluded += incidence(*marked, excluded.shape)
    return Pairs(
        unique_texts,
        pool=unique_texts.count_up_to("query" if symmetric else "positives"),
        documents=unique_texts.count_up_to("negatives"),
        query_of_row=query_of_row,
        query_texts=graph.query_texts,
        positives=np.stack([positives.rows[usable], text_of["positives"][usable]], axis=1),
        negatives=np.stack([negatives.rows, text_of["negatives"]], axis=1),
        excluded=excluded.tocsr(),
        marked=Grouped.by(*marked, len(graph.query_texts)),
    )


def _numbered(
    examples: pa.Table, documents: pa.Table, beside: pa.Table, positives: Flat, negatives: Flat, symmetric: bool
) -> UniqueTexts:
    """The distinct texts in such an order that candidates come first, and after them all that is encoded as one.

    Documents stand before positives, and those that are no candidates (``beside``) before given negatives, so that a
    passage that is one as well is published under its own id.
    """
    candidates = {
        "documents": TextColumn(column(documents, "text"), column(documents, "id")),
        "positives": TextColumn(positives.values),
    }
    query = {"query": TextColumn(column(examples, "query"))}
    given = {
        "beside": TextColumn(column(beside, "text"), column(beside, "id")),
        "negatives": TextColumn(negatives.values),
    }
    others = query | given if symmetric else given | query
    return UniqueTexts.build(candidates | others)


@dataclass(frozen=True)
class _Graph:
    """Who is related to whom, as bool matrices [queries, distinct texts].

    Attributes:
        query_of_row: int64 [rows], number of each row's distinct query.
        text_of_row: int64 [rows], number of its query among the texts.
        query_texts: int64 [q], the distinct queries' numbers among the texts.
        positive_rows: int64 [p], the row of each given positive.
        positive_texts: int64 [p], its number among the texts.
        texts: how many distinct texts there are.
        symmetric: both sides are alike.
    """

    query_of_row: Ints
    text_of_row: Ints
    query_texts: Ints
    positive_rows: Ints
    positive_texts: Ints
    texts: int
    symmetric: bool

    def known(self) -> BoolMatrix:
        """Each query's own text and the positives of all rows with that query text.

        In a symmetric set the relation is read both ways and one step on: if a~b and b~c, c is excluded for a.
        """
        count = len(self.query_texts)
        own = incidence(np.arange(count, dtype=np.int64), self.query_texts, (count, self.texts))
        if not self.symmetric:
            return own + incidence(self.query_of_row[self.positive_rows], self.positive_texts, own.shape)
        from_texts, to_texts = self.text_of_row[self.positive_rows], self.positive_texts
        square = (self.texts, self.texts)
        related = (incidence(from_texts, to_texts, square) + incidence(to_texts, from_texts, square)).tocsr()
        near = related[self.query_texts]
        return own + near + near @ related

    def sharing(self, of_rows: Flat, documents: tuple[Ints, Flat] | None = None) -> BoolMatrix:
        """The texts that have a value in common with a query.

        A query has the values of all its rows. A text has the values of each row whose positive it is (whose query,
        too, in a symmetric set), and its own as a document.

        Args:
            of_rows: values of the rows of the examples, such as groups.
            documents: the documents' numbers among the texts, and the values that they have of their own.
        """
        rows = np.arange(len(self.query_of_row), dtype=np.int64)
        values = of_rows.values if documents is None else concat([of_rows.values, documents[1].values])
        numbers, firsts = codes(values)
        kinds, own = max(1, len(firsts)), len(of_rows.values)
        of_row = incidence(of_rows.rows, numbers[:own], (len(rows), kinds))
        of_query = incidence(self.query_of_row, rows, (len(self.query_texts), len(rows))) @ of_row
        stands_in = incidence(self.positive_texts, self.positive_rows, (self.texts, len(rows)))
        if self.symmetric:
            stands_in += incidence(self.text_of_row, rows, stands_in.shape)
        of_text = stands_in @ of_row
        if documents is not None:
            texts, of_documents = documents
            of_text += incidence(texts[of_documents.rows], numbers[own:], of_text.shape)
        return of_query @ of_text.T.tocsr()

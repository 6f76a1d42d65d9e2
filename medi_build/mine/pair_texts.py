"""Datasets that bring their positives, as numbers: which texts are candidates, and which are excluded for a query.

The pool is every distinct positive of any row, the documents beyond them, and for symmetric sets the queries too.
Excluded for a query are: its own text, every positive that any row with the same query text has, every text of one of
its groups (gold pages, sets), and with ``same_answer`` every text that answers another query with the same answer.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from medi_build.arrays import Bools, Ints
from medi_build.dataset.schema import DOCUMENTS
from medi_build.mine.texts import Flat, TextColumn, UniqueTexts, codes, column, concat, flatten, number
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
    """

    unique_texts: UniqueTexts
    pool: int
    documents: int
    query_of_row: Ints
    query_texts: Ints
    positives: Ints
    negatives: Ints
    excluded: BoolMatrix

    def is_positive(self) -> Bools:
        """Which of the distinct texts are a given positive of some row."""
        mask = np.zeros(len(self.unique_texts), dtype=bool)
        mask[self.positives[:, 1]] = True
        return mask


def load(examples: pa.Table, documents: pa.Table | None, *, symmetric: bool, same_answer: bool) -> Pairs:
    """Number the texts of a dataset and work out what is excluded."""
    documents = DOCUMENTS.empty_table() if documents is None else documents
    queries = column(examples, "query")
    positives, negatives = flatten(examples, "positives"), flatten(examples, "negatives")
    own = TextColumn(queries)
    given = TextColumn(negatives.values)
    # Documents first, so that a passage that is also a positive is published under its own id.
    candidates = [
        TextColumn(column(documents, "text"), column(documents, "id")),
        TextColumn(positives.values),
    ]
    order = [*candidates, own, given] if symmetric else [*candidates, given, own]
    unique_texts = UniqueTexts.build(order)
    document_texts, positive_texts = unique_texts.columns[:2]
    query_at = 2 if symmetric else 3
    text_of_row, negative_texts = unique_texts.columns[query_at], unique_texts.columns[5 - query_at]
    query_of_row, first_rows = number(text_of_row)
    query_texts = text_of_row[first_rows]
    usable = positive_texts != text_of_row[positives.rows]
    graph = _Graph(query_of_row, query_texts, len(unique_texts))
    members = (positives.rows, positive_texts)
    excluded = graph.known(*members, symmetric)
    excluded += graph.grouped(examples, "groups", members, (documents, document_texts), symmetric)
    if same_answer:
        excluded += graph.grouped(examples, "answers", members, None, symmetric)
    return Pairs(
        unique_texts,
        pool=unique_texts.count_in(3 if symmetric else 2),
        documents=unique_texts.count_in(4 if symmetric else 3),
        query_of_row=query_of_row,
        query_texts=query_texts,
        positives=np.stack([positives.rows[usable], positive_texts[usable]], axis=1),
        negatives=np.stack([negatives.rows, negative_texts], axis=1),
        excluded=excluded.tocsr(),
    )


@dataclass(frozen=True)
class _Graph:
    """Who is related to whom, as bool matrices [queries, distinct texts]."""

    query_of_row: Ints
    query_texts: Ints
    texts: int

    def known(self, rows: Ints, texts: Ints, symmetric: bool) -> BoolMatrix:
        """Each query's own text and the positives of all rows with that query text.

        In a symmetric set the relation is read both ways and one step on: if a~b and b~c, c is excluded for a.
        """
        count = len(self.query_texts)
        own = incidence(np.arange(count, dtype=np.int64), self.query_texts, (count, self.texts))
        if not symmetric:
            return own + incidence(self.query_of_row[rows], texts, own.shape)
        from_texts = self.query_texts[self.query_of_row[rows]]
        square = (self.texts, self.texts)
        related = (incidence(from_texts, texts, square) + incidence(texts, from_texts, square)).tocsr()
        near = related[self.query_texts]
        return own + near + near @ related

    def grouped(
        self,
        examples: pa.Table,
        name: str,
        members: tuple[Ints, Ints],
        documents: tuple[pa.Table, Ints] | None,
        symmetric: bool,
    ) -> BoolMatrix:
        """The texts that share a value of list column ``name`` with a query.

        A text has the values of each row whose positive it is (whose query, too, in a symmetric set) and its own
        as a document.
        """
        values = flatten(examples, name)
        others = Flat(*(np.empty(0, dtype=np.int64),) * 2, pl.Series([], dtype=pl.String))
        if documents is not None:
            others = flatten(documents[0], "groups")
        numbers, firsts = codes(concat([values.values, others.values]))
        kinds, rows = max(1, len(firsts)), len(self.query_of_row)
        of_row = incidence(values.rows, numbers[: len(values.rows)], (rows, kinds))
        of_text = incidence(members[1], members[0], (self.texts, rows)) @ of_row
        if documents is not None:
            of_text += incidence(documents[1][others.rows], numbers[len(values.rows) :], of_text.shape)
        by_query = incidence(self.query_of_row, np.arange(rows), (len(self.query_texts), rows))
        if symmetric:
            itself = np.arange(rows, dtype=np.int64)
            of_text += incidence(self.query_texts[self.query_of_row], itself, (self.texts, rows)) @ of_row
        return (by_query @ of_row) @ of_text.T.tocsr()

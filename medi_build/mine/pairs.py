"""Datasets that bring their positives: which texts are candidates, which are barred, and the negatives of each row.

The pool is every distinct positive of any row, the documents beyond them, and for symmetric sets the queries too.
Barred for a query are: its own text, every positive that any row with the same query text has, every text of one of
its groups (gold pages, sets), and with ``same_answer`` every text that answers another query with the same answer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from medi_build.embedding import Embed
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine.encoding import encode
from medi_build.mine.exclusions import BoolMatrix, Exclusions, contains, incidence
from medi_build.mine.filters import above_margin
from medi_build.mine.pool import (
    Flat,
    Ints,
    Keys,
    Segment,
    Vocabulary,
    codes,
    column,
    concat,
    flatten,
    member_ids,
    number,
    seeded_hash,
)
from medi_build.mine.result import Found, empty, join
from medi_build.mine.search import NOTHING, Vectors, pair_scores, topk
from medi_build.mine.select import GIVEN, Candidates, depth, pick, reject, repeated, side_by_side, window
from medi_build.mining_rule import MiningRule
from medi_build.records import DOCUMENTS

ROWS_AT_ONCE = 32768


@dataclass(frozen=True)
class Pairs:
    """A dataset's texts as numbers.

    Attributes:
        vocabulary: all distinct texts; numbers below ``pool`` are candidates, those below ``documents`` are encoded
            as documents (candidates and given negatives).
        query_of_row: int64 [rows], number of each row's distinct query.
        query_texts: int64 [q], the distinct queries' numbers in the vocabulary.
        positives: int64 [p, 2], (row, text) of each given positive that is not the query itself.
        positive_ids: [p] their published ids.
        negatives: int64 [n, 2], (row, text) of each given negative.
        barred: bool CSR [q, vocabulary], texts that are never negatives of a query.
    """

    vocabulary: Vocabulary
    pool: int
    documents: int
    query_of_row: Ints
    query_texts: Ints
    positives: Ints
    positive_ids: pl.Series
    negatives: Ints
    barred: BoolMatrix


def load(examples: pa.Table, documents: pa.Table | None, *, symmetric: bool, same_answer: bool) -> Pairs:
    """Number the texts of a dataset and work out what is barred."""
    documents = DOCUMENTS.empty_table() if documents is None else documents
    ids, queries = column(examples, "id"), column(examples, "query")
    positives, negatives = flatten(examples, "positives"), flatten(examples, "negatives")
    positive_ids = member_ids(ids, positives, "p")
    own = Segment(queries, ids)
    given = Segment(negatives.values, member_ids(ids, negatives, "n"))
    # Documents first, so that a passage that is also a positive is published under its own id.
    candidates = [Segment(column(documents, "text"), column(documents, "id")), Segment(positives.values, positive_ids)]
    order = [*candidates, own, given] if symmetric else [*candidates, given, own]
    vocabulary = Vocabulary.build(order)
    document_texts, positive_texts = vocabulary.segments[:2]
    query_at = 2 if symmetric else 3
    text_of_row, negative_texts = vocabulary.segments[query_at], vocabulary.segments[5 - query_at]
    query_of_row, first_rows = number(text_of_row)
    query_texts = text_of_row[first_rows]
    usable = positive_texts != text_of_row[positives.rows]
    graph = _Graph(query_of_row, query_texts, len(vocabulary))
    members = (positives.rows, positive_texts)
    barred = graph.known(*members, symmetric)
    barred += graph.grouped(examples, "groups", members, (documents, document_texts), symmetric)
    if same_answer:
        barred += graph.grouped(examples, "answers", members, None, symmetric)
    return Pairs(
        vocabulary,
        pool=vocabulary.count_in(3 if symmetric else 2),
        documents=vocabulary.count_in(4 if symmetric else 3),
        query_of_row=query_of_row,
        query_texts=query_texts,
        positives=np.stack([positives.rows[usable], positive_texts[usable]], axis=1),
        positive_ids=positive_ids.filter(pl.Series(usable)),
        negatives=np.stack([negatives.rows, negative_texts], axis=1),
        barred=barred.tocsr(),
    )


@dataclass(frozen=True)
class _Graph:
    """Who is related to whom, as bool matrices [queries, vocabulary]."""

    query_of_row: Ints
    query_texts: Ints
    texts: int

    def known(self, rows: Ints, texts: Ints, symmetric: bool) -> BoolMatrix:
        """Each query's own text and the positives of all rows with that query text.

        In a symmetric set the relation is read both ways and one step on: if a~b and b~c, c is barred for a.
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


def mine_pairs(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    rule: MiningRule,
    embed: Embed,
    instructions: tuple[str, str],
    symmetric: bool,
    seed: int,
    ledger: Ledger,
) -> tuple[Found, Vocabulary]:
    """One given positive per row, chosen by the row's seeded hash, with given negatives first and mined ones after.

    Drops rows without positives (``no_positive``) or with none but the query itself (``positive_equals_query``).
    """
    pairs = load(examples, documents, symmetric=symmetric, same_answer=rule.same_answer)
    keys = seeded_hash(column(examples, "id"), seed)
    rows, chosen = _choose_positives(pairs, keys, flatten(examples, "positives").rows, ledger)
    if not len(rows):
        return empty("dense", rule), pairs.vocabulary
    queries = encode(embed, pairs.vocabulary.some(pairs.query_texts), instructions[0], ledger)
    corpus = encode(embed, pairs.vocabulary.some(np.arange(pairs.documents)), instructions[1], ledger)
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    positive_scores = pair_scores(queries, corpus, query_of_positive, pairs.positives[:, 1])
    lowest = np.full(len(queries), np.inf, dtype=np.float32)
    np.minimum.at(lowest, query_of_positive, positive_scores)

    by_query = np.argsort(pairs.query_of_row[rows], kind="stable")
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = by_query[start : start + ROWS_AT_ONCE]
        negatives = _negatives(pairs, rows[part], queries, corpus, lowest, keys[rows[part]], rule, ledger)
        places = chosen[part]
        parts.append(
            Found(
                rows[part],
                pairs.positives[places, 1],
                pairs.positive_ids.gather(places),
                positive_scores[places],
                negatives,
                "dense",
            )
        )
    return join(parts), pairs.vocabulary


def _choose_positives(pairs: Pairs, keys: Keys, all_rows: Ints, ledger: Ledger) -> tuple[Ints, Ints]:
    """Rows that have a usable positive, and the place of the chosen one in ``pairs.positives``."""
    total = len(pairs.query_of_row)
    counts = np.bincount(pairs.positives[:, 0], minlength=total)
    given = np.bincount(all_rows, minlength=total)
    ledger.drop("mine", "no_positive", int((given == 0).sum()))
    ledger.drop("mine", "positive_equals_query", int(((given > 0) & (counts == 0)).sum()))
    rows = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts
    return rows, starts[rows] + (keys[rows] % counts[rows].astype(np.uint64)).astype(np.int64)


def _negatives(
    pairs: Pairs,
    rows: Ints,
    queries: Vectors,
    corpus: Vectors,
    lowest: npt.NDArray[np.float32],
    keys: Keys,
    rule: MiningRule,
    ledger: Ledger,
) -> Candidates:
    """The negatives of some rows: candidates of their distinct queries, filtered and picked row by row."""
    of_row = pairs.query_of_row[rows]
    wanted, local = np.unique(of_row, return_inverse=True)
    if pairs.pool == 0:
        raise MiningError("there are no candidate texts at all; give documents or examples with positives")
    barred = Exclusions(pairs.barred[wanted])
    margins = rule.relative_margin is not None or rule.absolute_margin is not None
    ranking = topk(queries[wanted], corpus[: pairs.pool], depth(rule, filtered=margins), barred)
    mined = window(ranking, rule)
    given = _given(pairs, rows, queries, corpus, ledger)
    candidates = side_by_side(given, mined.rows(local))
    allowed = (candidates.ids != NOTHING) & ~repeated(candidates.ids)
    if margins:
        bad = above_margin(candidates.scores, lowest[of_row], rule.relative_margin, rule.absolute_margin)
        allowed = reject(allowed, bad, "margin", ledger)
    return pick(candidates, allowed, rule, keys)


def _given(pairs: Pairs, rows: Ints, queries: Vectors, corpus: Vectors, ledger: Ledger) -> Candidates:
    """The rows' given negatives as candidates, less those that are barred for the query."""
    place_of_row = np.full(len(pairs.query_of_row), NOTHING, dtype=np.int64)
    place_of_row[rows] = np.arange(len(rows))
    inside = place_of_row[pairs.negatives[:, 0]] != NOTHING
    source, texts = pairs.negatives[inside].T
    of_query = pairs.query_of_row[source]
    bad = contains(pairs.barred, of_query, texts)
    ledger.note("rejected_given_is_positive_or_query", int(bad.sum()))
    source, texts, of_query = source[~bad], texts[~bad], of_query[~bad]
    local = place_of_row[source]
    order = np.argsort(local, kind="stable")
    local, texts, of_query = local[order], texts[order], of_query[order]
    counts = np.bincount(local, minlength=len(rows))
    column_of = np.arange(len(local)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.full((len(rows), int(counts.max(initial=0))), NOTHING, dtype=np.int64)
    scores = np.full(ids.shape, -np.inf, dtype=np.float32)
    ids[local, column_of] = texts
    scores[local, column_of] = pair_scores(queries, corpus, of_query, texts)
    return Candidates(ids, scores, np.full(ids.shape, GIVEN, dtype=np.int32))

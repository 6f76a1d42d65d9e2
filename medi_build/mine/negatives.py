"""Negatives for datasets that bring their positives: candidates are ranked, filtered and picked, block by block."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools, Floats32, Floats64, Hashes, Ints
from medi_build.dataset.explanations import NOT_SCORED
from medi_build.ledger import Ledger
from medi_build.mine.context import MiningContext, build_context
from medi_build.mine.cross_encoder import PairScorer, cross_scores, first_allowed, load_cross_encoder
from medi_build.mine.explain import Looked, looked_at, tell_picked
from medi_build.mine.filters import Block, Lifted, Ready, Sifted, depth, filtered, ready_filters, those
from medi_build.mine.pair_texts import Pairs, load
from medi_build.mine.positives import choose_positives, inconsistent
from medi_build.mine.ranker import Ranked, Ranker, build_ranker
from medi_build.mine.relaxed import relaxed
from medi_build.mine.result import MinedRows, empty, join
from medi_build.mine.run import Encoders, Run
from medi_build.mine.select import GIVEN, Candidates, Verdicts, draw_keys, pick, reject, side_by_side, window
from medi_build.mine.texts import Grouped, UniqueTexts, column, flatten, seeded_hash
from medi_build.search.exclusions import contains
from medi_build.search.ranking import NOTHING, Ranking

ROWS_AT_ONCE = 16384
POSSIBLE_FALSE_NEGATIVES_AT_MOST = 16
GIVEN_AT_MOST = 256
"""Given negatives of one row that are looked at; more would make every row's matrix as wide."""


def mine_pairs(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    encoders: Encoders,
    run: Run,
    symmetric: bool,
    verified_negatives: bool,
) -> tuple[MinedRows, UniqueTexts]:
    """One given positive per row, chosen by the row's seeded hash; given negatives first, mined ones after.

    Drops rows without positives (``no_positive``), with none but the query itself (``positive_equals_query``), or
    whose positive fails the consistency filters (``inconsistent_positive``, ``positive_fails_round_trip``).
    """
    rule = run.rule
    encoders.check(rule)
    pairs = load(examples, documents, run, symmetric=symmetric)
    row_keys = seeded_hash(column(examples, "id"), run.seed)
    rows, chosen = choose_positives(pairs, row_keys, flatten(examples, "positives").rows, run.ledger)
    if not len(rows):
        return empty("dense", rule), pairs.unique_texts
    context = build_context(examples, pairs, encoders.prompts(alike=symmetric), encoders, run)
    kept = ~inconsistent(context, rows, chosen)
    rows, chosen = rows[kept], chosen[kept]
    selection = Selection(
        context=context,
        ranker=build_ranker(context),
        filters=ready_filters(context),
        cross_encoder=None if rule.cross_encoder is None else load_cross_encoder(rule.cross_encoder, run.device),
        given=_usable_given(pairs, rows, run.ledger),
        verified_negatives=verified_negatives,
        row_keys=row_keys,
        text_keys=draw_keys(pairs.unique_texts, pairs.documents, rule, run.seed),
    )
    by_query = np.argsort(pairs.query_of_row[rows], kind="stable")
    blocks = [by_query[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
    ranked = selection.ranker.ranked([np.unique(pairs.query_of_row[rows[block]]) for block in blocks])
    parts = [selection.mined(rows[block], chosen[block], found) for block, found in zip(blocks, ranked, strict=True)]
    return join([empty(selection.miner(), rule), *parts]), pairs.unique_texts


def _usable_given(pairs: Pairs, rows: Ints, ledger: Ledger) -> Grouped:
    """The texts of the given negatives by their row, less those that are excluded for its query.

    Of the latter those of the given ``rows`` are noted.
    """
    of_row, texts = pairs.negatives.T
    queries, local = np.unique(pairs.query_of_row[of_row], return_inverse=True)
    bad = contains(pairs.excluded[queries], local, texts)
    marked, at = np.zeros(len(bad), dtype=bool), np.flatnonzero(bad)
    marked[at] = (pairs.marked.matrix(queries[local[at]]) == texts[at, None]).any(axis=1)
    ledger.note("rejected_given_is_marked", int(np.isin(of_row[marked], rows).sum()))
    ledger.note("rejected_given_is_positive_or_query", int(np.isin(of_row[bad & ~marked], rows).sum()))
    return Grouped.by(of_row[~bad], texts[~bad], len(pairs.query_of_row))


@dataclass(frozen=True)
class Selection:
    """What chooses the negatives of one dataset, block by block.

    Attributes:
        context: the dataset.
        ranker: gives candidates.
        filters: take some of them away.
        cross_encoder: scores (query, text) pairs of those that are left, or None.
        given: by the row of the examples, texts of negatives that came with the data.
        verified_negatives: these are known to be wrong, so nothing takes them away.
        row_keys: uint64 [rows], seeded hashes of the rows' ids.
        text_keys: uint64 [documents], those of the texts, or None where nothing is drawn.
    """

    context: MiningContext
    ranker: Ranker
    filters: list[Ready]
    cross_encoder: PairScorer | None
    given: Grouped
    verified_negatives: bool
    row_keys: Hashes
    text_keys: Hashes | None

    def miner(self) -> str:
        """The name of what ranks."""
        rule = self.context.run.rule
        return "+".join(["dense"] * (1 + len(rule.encoders)) + ["bm25"] * rule.lexical)

    def mined(self, rows: Ints, chosen: Ints, of_queries: Ranked) -> MinedRows:
        """The negatives of some rows [r] of the examples, whose positives have the places [r] in ``pairs.positives``.

        The pool was ranked once for each distinct query among them, now every row filters and picks on its own.
        """
        pairs, run = self.context.pairs, self.context.run
        of_row, positives = pairs.query_of_row[rows], pairs.positives[chosen, 1]
        queries, local = np.unique(of_row, return_inverse=True)
        near = of_queries.dense.first(depth(run.rule))
        possible = self._possible_false_negatives(queries, near)[local]
        run.ledger.note("possible_in_batch_false_negatives", int(np.count_nonzero((possible != NOTHING).any(axis=1))))

        given, ranked = self._given_of(rows), of_queries.rows(local)
        candidates = side_by_side(given, window(ranked.ranking, run.rule))
        probability = self.ranker.probability(of_row, given, ranked)
        sifted = self._sifted(Block(rows, of_row, positives, *candidates, probability))
        if run.rule.relax:
            sifted = relaxed(sifted, self.context, self.filters, self.row_keys)
        scores, candidates, rescored = self.context.positives.scores[chosen], sifted.block.candidates, None
        if self.cross_encoder is not None:
            sifted, rescored = self._judged(sifted)
            if run.rule.cross_encoder_scores:
                scores, candidates = rescored[:, 0], candidates._replace(scores=rescored[:, 1:])
        picked = pick(candidates, sifted.allowed, run.rule, self.row_keys[rows], self.text_keys)
        if run.explain is not None:
            tell_picked(sifted.verdicts, candidates.ids, sifted.allowed, picked.ids)
            run.explain.add(self._looked(sifted, ranked, rescored), pairs.unique_texts)
        return MinedRows(rows, positives, scores, picked, possible, self.miner())

    def _sifted(self, block: Block) -> Sifted:
        """What the filters leave of a block."""
        verdicts, protected, ledger = Verdicts(block.ids.shape), self._protected(block), self.context.run.ledger
        first = those(self.filters, Lifted.NEVER, Lifted.LAST)
        held = filtered(first, block, block.ids != NOTHING, protected, ledger, verdicts)
        allowed = filtered(those(self.filters, Lifted.FIRST), block, held, protected, ledger, verdicts)
        return Sifted(block, held, allowed, verdicts)

    def _protected(self, block: Block) -> Bools:
        """The candidates [r, c] that nothing takes away."""
        protected: Bools = (block.ranks == GIVEN) & self.verified_negatives
        return protected

    def _judged(self, sifted: Sifted) -> tuple[Sifted, Floats32]:
        """What the cross-encoder leaves of the candidates, and its scores [r, 1 + c], the positive's first."""
        run, (block, _, allowed, verdicts) = self.context.run, sifted
        first = first_allowed(allowed, run.rule.cross_encoder_candidates)
        verdicts.say(allowed & ~first, NOT_SCORED)
        rescored = self._rescored(block._replace(ids=np.where(first, block.ids, NOTHING)))
        if run.rule.max_cross_encoder_score is not None:
            bad = rescored[:, 1:] > run.rule.max_cross_encoder_score
            first = reject(first, bad, "cross_encoder", run.ledger, self._protected(block), verdicts)
        return sifted._replace(allowed=first), rescored

    def _looked(self, sifted: Sifted, ranked: Ranked, rescored: Floats32 | None) -> Looked:
        """All that was looked at for the rows of a block."""
        context, block, before = self.context, sifted.block, self.context.run.rule.range_min
        marked = context.pairs.marked.matrix(block.queries)
        scores: dict[str, Floats32 | Floats64] = {}
        if rescored is not None:
            scores["cross_encoder_score"] = rescored[:, 1:]
        if block.probability is not None:
            scores["false_negative_probability"] = block.probability
        if context.guide is not None:
            scores["guide_score"] = context.guide.cosines(block.queries, block.ids)
        return looked_at(
            column(context.examples, "id").gather(block.rows),
            block.candidates,
            sifted.verdicts,
            skipped=ranked.ranking.first(before),
            marked=Ranking(marked, self._cosines(block.queries, marked)),
            rankings=dict(zip(self.ranker.names(), ranked.fused or (ranked.ranking,), strict=True)),
            scores=scores,
        )

    def _cosines(self, queries: Ints, ids: Ints) -> Floats32:
        """Scores [r, c], NaN where there is no text or the text was not encoded as a document."""
        encoded = np.where(ids < self.context.pairs.documents, ids, NOTHING)
        return self.context.vectors.cosines(queries, encoded)

    def _possible_false_negatives(self, queries: Ints, ranking: Ranking) -> Ints:
        """The ranked positives of other queries that reach the query's lowest positive, the nearest first, or -1.

        Before them those that somebody marked as no negatives of it.
        """
        positives = self.context.positives
        near = ranking.scores >= positives.lowest[queries, None]
        possible = near & (ranking.ids != NOTHING) & positives.texts[np.maximum(ranking.ids, 0)]
        first = np.argsort(~possible, axis=1, kind="stable")[:, :POSSIBLE_FALSE_NEGATIVES_AT_MOST]
        ids = np.take_along_axis(ranking.ids, first, axis=1)
        found = np.where(np.take_along_axis(possible, first, axis=1), ids, NOTHING)
        marked = self.context.pairs.marked.matrix(queries)
        return np.concatenate([np.where(positives.texts[np.maximum(marked, 0)], marked, NOTHING), found], axis=1)

    def _given_of(self, rows: Ints) -> Candidates:
        """The rows' given negatives as candidates, the first `GIVEN_AT_MOST` of each."""
        too_many = np.maximum(self.given.sizes(rows) - GIVEN_AT_MOST, 0)
        self.context.run.ledger.note("given_negatives_not_looked_at", int(too_many.sum()))
        ids = self.given.matrix(rows, GIVEN_AT_MOST)
        scores = self.context.vectors.cosines(self.context.pairs.query_of_row[rows], ids)
        return Candidates(ids, scores, np.full(ids.shape, GIVEN, dtype=np.int32))

    def _rescored(self, block: Block) -> Floats32:
        """Cross-encoder scores [r, 1 + c] of each row's positive and of its candidates, NaN where there is none."""
        assert self.cross_encoder is not None
        pairs = self.context.pairs
        ids = np.concatenate([block.positives[:, None], block.ids], axis=1)
        return cross_scores(self.cross_encoder, pairs.unique_texts, pairs.query_texts[block.queries], ids)

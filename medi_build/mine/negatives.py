"""Negatives for datasets that bring their positives: candidates are ranked, filtered and picked, block by block."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools, Floats32, Floats64, Hashes, Ints
from medi_build.content.mining_rule import MiningRule
from medi_build.devices import Device
from medi_build.embedding import Embed, both_sides
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine import filters
from medi_build.mine.context import MiningContext, build_context
from medi_build.mine.cross_encoder import cross_scores, first_allowed
from medi_build.mine.pair_texts import Pairs, load
from medi_build.mine.positives import choose_positives, inconsistent
from medi_build.mine.result import MinedRows, empty, join
from medi_build.mine.select import GIVEN, Candidates, depth, pick, reject, repeated, side_by_side, window
from medi_build.mine.texts import UniqueTexts, column, flatten, matrix, seeded_hash
from medi_build.search.dense import pair_scores, topk
from medi_build.search.exclusions import Exclusions, contains
from medi_build.search.fusion import fuse
from medi_build.search.ranking import NOTHING, Ranking

ROWS_AT_ONCE = 16384
POSSIBLE_FALSE_NEGATIVES_AT_MOST = 16
GIVEN_AT_MOST = 256
"""Given negatives of one row that are looked at; more would make every row's matrix as wide."""


def mine_pairs(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    rule: MiningRule,
    embed: Embed,
    others: Mapping[str, Embed],
    instructions: tuple[str | None, str | None],
    symmetric: bool,
    verified_negatives: bool,
    seed: int,
    ledger: Ledger,
    device: Device,
) -> tuple[MinedRows, UniqueTexts]:
    """One given positive per row, chosen by the row's seeded hash; given negatives first, mined ones after.

    Drops rows without positives (``no_positive``), with none but the query itself (``positive_equals_query``), or
    whose positive fails the consistency filters (``inconsistent_positive``, ``positive_fails_round_trip``).
    """
    pairs = load(examples, documents, symmetric=symmetric, same_answer=rule.same_answer)
    keys = seeded_hash(column(examples, "id"), seed)
    rows, chosen = choose_positives(pairs, keys, flatten(examples, "positives").rows, ledger)
    if not len(rows):
        return empty("dense", rule), pairs.unique_texts
    prompts = both_sides(instructions, alike=symmetric)
    context = build_context(examples, pairs, verified_negatives, rule, embed, others, prompts, seed, ledger, device)
    kept = ~inconsistent(pairs, rows, chosen, context.queries, context.corpus, rule, seed, ledger, device)
    rows, chosen = rows[kept], chosen[kept]
    by_query = np.argsort(pairs.query_of_row[rows], kind="stable")
    miner = "+".join(["dense"] * (1 + len(rule.encoders)) + ["bm25"] * rule.lexical)
    parts = [empty(miner, rule)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = by_query[start : start + ROWS_AT_ONCE]
        places = chosen[part]
        scores, negatives, possible = _negatives(context, rows[part], places, keys, rule, ledger)
        parts.append(
            MinedRows(
                rows=rows[part],
                positives=pairs.positives[places, 1],
                positive_scores=scores,
                negatives=negatives,
                possible_false_negatives=possible,
                miner=miner,
            )
        )
    return join(parts), pairs.unique_texts


def _negatives(
    context: MiningContext, rows: Ints, places: Ints, all_keys: Hashes, rule: MiningRule, ledger: Ledger
) -> tuple[Floats32, Candidates, Ints]:
    """The negatives of some rows: candidates of their distinct queries, filtered and picked row by row.

    Args:
        context: the dataset.
        rows: [r] rows of the examples.
        places: [r] places of their positives in ``pairs.positives``.
        all_keys: seeded hash of every row of the examples.
        rule: the knobs.
        ledger: where rejections are counted.

    Returns:
        The positives' scores [r], the chosen negatives [r, n] and the possible false negatives [r, s] (see
        `MinedRows`).
    """
    pairs = context.pairs
    if pairs.pool == 0:
        raise MiningError("there are no candidate texts at all; give documents or examples with positives")
    of_row = pairs.query_of_row[rows]
    wanted, local = np.unique(of_row, return_inverse=True)
    ranking, dense, probability = _ranked(context, wanted, rule)
    possible = _possible_false_negatives(context, wanted, dense)[local]
    ledger.note("possible_in_batch_false_negatives", int(np.count_nonzero((possible != NOTHING).any(axis=1))))

    positives, own_scores = pairs.positives[places, 1], context.positive_scores[places]
    given = _given(context, rows, ledger)
    candidates = side_by_side(given, window(ranking, rule).rows(local))
    if context.false_negative_model is not None and probability is not None:
        given_probability = context.false_negative_model.probability(of_row, given.ids, given.scores, dense.rows(local))
        probability = np.concatenate([given_probability, probability[local, rule.range_min :]], axis=1)
    allowed = (candidates.ids != NOTHING) & ~repeated(candidates.ids)
    protected = (candidates.ranks == GIVEN) & context.verified_negatives
    allowed = _filtered(context, rows, positives, candidates, allowed, protected, probability, rule, ledger)
    if context.cross_encoder is not None:
        allowed = first_allowed(allowed, rule.cross_encoder_candidates)
        rescored = _rescored(context, of_row, positives, np.where(allowed, candidates.ids, NOTHING))
        if rule.max_cross_encoder_score is not None:
            allowed = reject(
                allowed, rescored[:, 1:] > rule.max_cross_encoder_score, "cross_encoder", ledger, protected
            )
        if rule.cross_encoder_scores:
            own_scores, candidates = rescored[:, 0], candidates._replace(scores=rescored[:, 1:])
    return own_scores, pick(candidates, allowed, rule, all_keys[rows], context.draw_keys), possible


def _possible_false_negatives(context: MiningContext, wanted: Ints, ranking: Ranking) -> Ints:
    """The ranked positives of other queries that reach the query's lowest positive, the nearest first, or -1."""
    near = ranking.scores >= context.lowest[wanted, None]
    possible = near & (ranking.ids != NOTHING) & context.is_positive[np.maximum(ranking.ids, 0)]
    first = np.argsort(~possible, axis=1, kind="stable")[:, :POSSIBLE_FALSE_NEGATIVES_AT_MOST]
    ids = np.take_along_axis(ranking.ids, first, axis=1)
    return np.where(np.take_along_axis(possible, first, axis=1), ids, NOTHING)


def _ranked(context: MiningContext, wanted: Ints, rule: MiningRule) -> tuple[Ranking, Ranking, Floats64 | None]:
    """The pool ranked for some of the distinct queries.

    Returns:
        The ranking from which candidates are taken, that by the first encoder's cosines alone, and the probability
        that each candidate is a false negative, if the rule asks for it.
    """
    known = None if context.false_negative_model is None or rule.fuses else context.false_negative_model.ranked(wanted)
    if known is not None:
        return known[0], *known
    ranking, dense = _searched(context, wanted, rule)
    if context.false_negative_model is None:
        return ranking, dense, None
    return ranking, dense, context.false_negative_model.probability(wanted, ranking.ids, ranking.scores, dense)


def _searched(context: MiningContext, wanted: Ints, rule: MiningRule) -> tuple[Ranking, Ranking]:
    """The pool ranked as the rule says, and by the first encoder alone; scores are that one's cosines in both."""
    pairs, length = context.pairs, depth(rule)
    excluded = pairs.excluded[wanted]
    sides = [(context.queries, context.corpus), *context.further]
    rankings = [
        topk(queries[wanted], corpus[: pairs.pool], length, Exclusions(excluded), device=context.device)
        for queries, corpus in sides
    ]
    if context.lexical is not None:
        index, words = context.lexical
        rankings.append(index.topk(words.gather(wanted), length, excluded))
    if len(rankings) == 1:
        return rankings[0], rankings[0]
    fused = fuse(rankings, length)
    flat = pair_scores(context.queries, context.corpus, np.repeat(wanted, length), fused.ids.ravel())
    cosines = np.where(fused.ids == NOTHING, -np.inf, flat.reshape(fused.ids.shape))
    return Ranking(fused.ids, cosines), rankings[0]


def _rescored(context: MiningContext, of_row: Ints, positives: Ints, ids: Ints) -> Floats32:
    """Cross-encoder scores [r, 1 + c] of each row's positive and of its remaining candidates, NaN for the others."""
    assert context.cross_encoder is not None
    columns = np.concatenate([positives[:, None], ids], axis=1)
    unique_texts = context.pairs.unique_texts
    queries = unique_texts.some(context.pairs.query_texts[of_row])
    return cross_scores(
        context.cross_encoder, queries, unique_texts.some(np.arange(len(unique_texts))), columns != NOTHING, columns
    )


def _filtered(
    context: MiningContext,
    rows: Ints,
    positives: Ints,
    candidates: Candidates,
    allowed: Bools,
    protected: Bools,
    probability: Floats64 | None,
    rule: MiningRule,
    ledger: Ledger,
) -> Bools:
    """Apply the rule's filters; each counts what it removed of what those before it had left."""
    of_row = context.pairs.query_of_row[rows]
    ids, scores = candidates.ids, candidates.scores
    out = partial(reject, ledger=ledger, protected=protected)
    allowed = out(allowed, scores > context.max_score, "max_score")
    if rule.max_length_ratio is not None:
        lengths = context.pairs.unique_texts.lengths()
        allowed = out(allowed, filters.bad_lengths(lengths[positives], lengths[ids], rule.max_length_ratio), "length")
    if rule.near_duplicate is not None:
        near = filters.nearest_positive(context.corpus, np.where(allowed, ids, NOTHING), _known(context.pairs, of_row))
        allowed = out(allowed, near >= np.float32(rule.near_duplicate), "near_duplicate")
    if context.guide is not None:
        queries, corpus = context.guide
        flat = np.where(allowed, ids, NOTHING).ravel()
        guide_scores = pair_scores(queries, corpus, np.repeat(of_row, ids.shape[1]), flat).reshape(ids.shape)
        allowed = out(allowed, guide_scores > rule.max_guide_score, "guide")
    if rule.reject_answer:
        allowed = out(allowed, _answered(context, rows, np.where(allowed, ids, NOTHING)), "answer_in_passage")
    return _by_score(context, of_row, scores, allowed, protected, probability, rule, ledger)


def _by_score(
    context: MiningContext,
    of_row: Ints,
    scores: Floats32,
    sound: Bools,
    protected: Bools,
    probability: Floats64 | None,
    rule: MiningRule,
    ledger: Ledger,
) -> Bools:
    """The filters that trade hardness for fewer false negatives; ``rule.relax`` may lift them where nothing is left.

    Args:
        context: the dataset.
        of_row: [r] distinct query of each row.
        scores: [r, c] cosines of the candidates.
        sound: [r, c] candidates that the other filters have left.
        protected: [r, c] candidates that no filter touches.
        probability: [r, c], that the candidate is a false negative, or None.
        rule: the knobs.
        ledger: where rejections are counted.
    """
    out = partial(reject, ledger=ledger, protected=protected)
    allowed = out(sound, scores < context.min_score, "min_score")
    if probability is not None and rule.max_false_negative_probability is not None:
        allowed = out(allowed, probability > rule.max_false_negative_probability, "false_negative_probability")
    without_margin = allowed
    if rule.relative_margin is not None or rule.absolute_margin is not None:
        bad = filters.above_margin(scores, context.lowest[of_row], rule.relative_margin, rule.absolute_margin)
        allowed = out(allowed, bad, "margin")
    if not rule.relax:
        return allowed
    lifted = np.flatnonzero(~allowed.any(axis=1) & without_margin.any(axis=1))
    allowed[lifted] = without_margin[lifted]
    ledger.note("margin_lifted", len(lifted))
    if probability is not None:
        left = np.flatnonzero(~allowed.any(axis=1) & sound.any(axis=1))
        allowed[left, np.where(sound[left], probability[left], np.inf).argmin(axis=1)] = True
        ledger.note("least_likely_false_negative_taken", len(left))
    return allowed


def _known(pairs: Pairs, of_row: Ints) -> Ints:
    """The known positives [r, p] of each row's query, -1 where there are fewer."""
    wanted, local = np.unique(of_row, return_inverse=True)
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    place = np.searchsorted(wanted, query_of_positive)
    inside = (place < len(wanted)) & (wanted[np.minimum(place, len(wanted) - 1)] == query_of_positive)
    return matrix(place[inside], pairs.positives[inside, 1], len(wanted), NOTHING)[local]


def _answered(context: MiningContext, rows: Ints, ids: Ints) -> Bools:
    """Which candidates [r, c] hold one of the answers of their row."""
    of_row = np.full(len(context.pairs.query_of_row), NOTHING, dtype=np.int64)
    of_row[rows] = np.arange(len(rows))
    answer_rows, answers = context.answers
    inside = of_row[answer_rows] != NOTHING
    which = matrix(of_row[answer_rows[inside]], np.flatnonzero(inside), len(rows), NOTHING)
    found = np.zeros(ids.shape, dtype=bool)
    texts, places = np.unique(np.maximum(ids, 0), return_inverse=True)
    passages, places = filters.normalized(context.pairs.unique_texts.text(texts)), places.reshape(ids.shape)
    for column_of in which.T:
        row, place = np.nonzero((column_of[:, None] != NOTHING) & (ids != NOTHING) & ~found)
        found[row, place] = filters.with_answer(passages.gather(places[row, place]), answers.gather(column_of[row]))
    return found


def _given(context: MiningContext, rows: Ints, ledger: Ledger) -> Candidates:
    """The rows' given negatives as candidates, less those excluded for the query."""
    pairs = context.pairs
    place_of_row = np.full(len(pairs.query_of_row), NOTHING, dtype=np.int64)
    place_of_row[rows] = np.arange(len(rows))
    inside = place_of_row[pairs.negatives[:, 0]] != NOTHING
    source, texts = pairs.negatives[inside].T
    bad = contains(pairs.excluded, pairs.query_of_row[source], texts)
    ledger.note("rejected_given_is_positive_or_query", int(bad.sum()))
    ids = matrix(place_of_row[source[~bad]], texts[~bad], len(rows), NOTHING)
    ledger.note("given_negatives_not_looked_at", int((ids[:, GIVEN_AT_MOST:] != NOTHING).sum()))
    ids = ids[:, :GIVEN_AT_MOST]
    of_query = np.repeat(pairs.query_of_row[rows], ids.shape[1])
    scores = pair_scores(context.queries, context.corpus, of_query, ids.ravel()).reshape(ids.shape)
    return Candidates(ids, scores, np.full(ids.shape, GIVEN, dtype=np.int32))

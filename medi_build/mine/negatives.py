"""Negatives for datasets that bring their positives: candidates are ranked, filtered and picked, block by block."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medi_build.devices import Device
from medi_build.embedding import Embed
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine import filters
from medi_build.mine.ann import ann_topk
from medi_build.mine.exclusions import Exclusions, contains
from medi_build.mine.fusion import fuse
from medi_build.mine.pairs import Pairs, load
from medi_build.mine.pool import Ints, Keys, Vocabulary, column, flatten, matrix, seeded_hash
from medi_build.mine.positives import choose_positives, inconsistent
from medi_build.mine.ranking import NOTHING, Ranking, Vectors
from medi_build.mine.rescore import cross_scores, first_allowed
from medi_build.mine.result import Found, empty, join
from medi_build.mine.scene import Scene, build_scene
from medi_build.mine.search import pair_scores, topk
from medi_build.mine.select import GIVEN, Bools, Candidates, depth, pick, reject, repeated, side_by_side, window
from medi_build.mining_rule import MiningRule

ROWS_AT_ONCE = 16384
RIVALS_AT_MOST = 16
GIVEN_AT_MOST = 256
"""Given negatives of one row that are looked at; more would make every row's matrix as wide."""


def mine_pairs(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    rule: MiningRule,
    embed: Embed,
    others: Mapping[str, Embed],
    instructions: tuple[str, str],
    symmetric: bool,
    judged_negatives: bool,
    seed: int,
    ledger: Ledger,
    device: Device,
) -> tuple[Found, Vocabulary]:
    """One given positive per row, chosen by the row's seeded hash; given negatives first, mined ones after.

    Drops rows without positives (``no_positive``), with none but the query itself (``positive_equals_query``), or
    whose positive fails the consistency filters (``inconsistent_positive``, ``positive_fails_round_trip``).
    """
    pairs = load(examples, documents, symmetric=symmetric, same_answer=rule.same_answer)
    keys = seeded_hash(column(examples, "id"), seed)
    rows, chosen = choose_positives(pairs, keys, flatten(examples, "positives").rows, ledger)
    if not len(rows):
        return empty("dense", rule), pairs.vocabulary
    scene = build_scene(examples, pairs, judged_negatives, rule, embed, others, instructions, seed, ledger, device)
    kept = ~inconsistent(pairs, rows, chosen, scene.queries, scene.corpus, rule, seed, ledger, device)
    rows, chosen = rows[kept], chosen[kept]
    by_query = np.argsort(pairs.query_of_row[rows], kind="stable")
    miner = "+".join(["dense"] * (1 + len(rule.encoders)) + ["bm25"] * rule.lexical)
    parts = [empty(miner, rule)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = by_query[start : start + ROWS_AT_ONCE]
        places = chosen[part]
        scores, negatives, rivals = _negatives(scene, rows[part], places, keys, rule, ledger)
        parts.append(
            Found(
                rows=rows[part],
                positives=pairs.positives[places, 1],
                positive_scores=scores,
                negatives=negatives,
                rivals=rivals,
                miner=miner,
            )
        )
    return join(parts), pairs.vocabulary


def _negatives(
    scene: Scene, rows: Ints, places: Ints, all_keys: Keys, rule: MiningRule, ledger: Ledger
) -> tuple[npt.NDArray[np.float32], Candidates, Ints]:
    """The negatives of some rows: candidates of their distinct queries, filtered and picked row by row.

    Args:
        scene: the dataset.
        rows: [r] rows of the examples.
        places: [r] places of their positives in ``pairs.positives``.
        all_keys: seeded hash of every row of the examples.
        rule: the knobs.
        ledger: where rejections are counted.

    Returns:
        The positives' scores [r], the chosen negatives [r, n] and the rivals [r, s] (see `Found`).
    """
    pairs = scene.pairs
    if pairs.pool == 0:
        raise MiningError("there are no candidate texts at all; give documents or examples with positives")
    of_row = pairs.query_of_row[rows]
    wanted, local = np.unique(of_row, return_inverse=True)
    ranking, dense, risk = _ranked(scene, wanted, rule, ledger)
    rivals = _rivals(scene, wanted, dense)[local]
    ledger.note("possible_in_batch_false_negatives", int(np.count_nonzero((rivals != NOTHING).any(axis=1))))

    positives, own_scores = pairs.positives[places, 1], scene.positive_scores[places]
    given = _given(scene, rows, ledger)
    candidates = side_by_side(given, window(ranking, rule).rows(local))
    if scene.evidence is not None and risk is not None:
        given_risk = scene.evidence.risk(of_row, given.ids, given.scores, dense.rows(local))
        risk = np.concatenate([given_risk, risk[local, rule.rank_min :]], axis=1)
    allowed = (candidates.ids != NOTHING) & ~repeated(candidates.ids)
    spared = (candidates.ranks == GIVEN) & scene.judged_negatives
    allowed = _filtered(scene, rows, positives, candidates, allowed, spared, risk, rule, ledger)
    if scene.cross_encoder is not None:
        allowed = first_allowed(allowed, rule.cross_encoder_candidates)
        judged = _judged(scene, of_row, positives, np.where(allowed, candidates.ids, NOTHING))
        if rule.cross_encoder_max is not None:
            allowed = reject(allowed, judged[:, 1:] > rule.cross_encoder_max, "cross_encoder", ledger, spared)
        if rule.cross_encoder_scores:
            own_scores, candidates = judged[:, 0], candidates._replace(scores=judged[:, 1:])
    return own_scores, pick(candidates, allowed, rule, all_keys[rows], scene.draw_keys), rivals


def _rivals(scene: Scene, wanted: Ints, ranking: Ranking) -> Ints:
    """The first `RIVALS_AT_MOST` ranked positives of other queries that reach the query's lowest positive, or -1."""
    near = ranking.scores >= scene.lowest[wanted, None]
    rivals = near & (ranking.ids != NOTHING) & scene.is_positive[np.maximum(ranking.ids, 0)]
    first = np.argsort(~rivals, axis=1, kind="stable")[:, :RIVALS_AT_MOST]
    ids = np.take_along_axis(ranking.ids, first, axis=1)
    return np.where(np.take_along_axis(rivals, first, axis=1), ids, NOTHING)


def _ranked(
    scene: Scene, wanted: Ints, rule: MiningRule, ledger: Ledger
) -> tuple[Ranking, Ranking, npt.NDArray[np.float64] | None]:
    """The pool ranked for some of the distinct queries.

    Returns:
        The ranking from which candidates are taken, that by the first encoder's cosines alone, and the risk of each
        candidate if the rule asks for it.
    """
    known = None if scene.evidence is None or rule.fuses else scene.evidence.ranked(wanted)
    if known is not None:
        return known[0], *known
    ranking, dense = _searched(scene, wanted, rule, ledger)
    if scene.evidence is None:
        return ranking, dense, None
    return ranking, dense, scene.evidence.risk(wanted, ranking.ids, ranking.scores, dense)


def _searched(scene: Scene, wanted: Ints, rule: MiningRule, ledger: Ledger) -> tuple[Ranking, Ranking]:
    """The pool ranked as the rule says, and by the first encoder alone; scores are that one's cosines in both."""
    pairs, length = scene.pairs, depth(rule)
    barred = pairs.barred[wanted]
    sides = [(scene.queries, scene.corpus), *scene.further]
    rankings = [
        _nearest(scene, queries[wanted], corpus[: pairs.pool], Exclusions(barred), rule, ledger)
        for queries, corpus in sides
    ]
    if scene.lexical is not None:
        index, words = scene.lexical
        rankings.append(index.topk(words.gather(wanted), length, barred))
    if len(rankings) == 1:
        return rankings[0], rankings[0]
    fused = fuse(rankings, length)
    flat = pair_scores(scene.queries, scene.corpus, np.repeat(wanted, length), fused.ids.ravel())
    cosines = np.where(fused.ids == NOTHING, -np.inf, flat.reshape(fused.ids.shape))
    return Ranking(fused.ids, cosines), rankings[0]


def _nearest(
    scene: Scene, queries: Vectors, corpus: Vectors, exclusions: Exclusions, rule: MiningRule, ledger: Ledger
) -> Ranking:
    """One encoder's ranking, approximate where the rule says so; the lowest recall is noted."""
    if rule.ann_above is None or len(corpus) <= rule.ann_above:
        return topk(queries, corpus, depth(rule), exclusions, device=scene.device)
    # The index is built anew for each block of rows: little beside the search, at sizes that need one.
    ranking, recall = ann_topk(queries, corpus, depth(rule), exclusions)
    percent = int(100 * recall)
    ledger.notes["ann_recall_percent"] = min(percent, ledger.notes.get("ann_recall_percent", percent))
    return ranking


def _judged(scene: Scene, of_row: Ints, positives: Ints, ids: Ints) -> npt.NDArray[np.float32]:
    """Cross-encoder scores [r, 1 + c] of each row's positive and of its remaining candidates, NaN for the others."""
    assert scene.cross_encoder is not None
    columns = np.concatenate([positives[:, None], ids], axis=1)
    vocabulary = scene.pairs.vocabulary
    queries = vocabulary.some(scene.pairs.query_texts[of_row])
    return cross_scores(
        scene.cross_encoder, queries, vocabulary.some(np.arange(len(vocabulary))), columns != NOTHING, columns
    )


def _filtered(
    scene: Scene,
    rows: Ints,
    positives: Ints,
    candidates: Candidates,
    allowed: Bools,
    spared: Bools,
    risk: npt.NDArray[np.float64] | None,
    rule: MiningRule,
    ledger: Ledger,
) -> Bools:
    """Apply the rule's filters; each counts what it removed of what those before it had left."""
    of_row = scene.pairs.query_of_row[rows]
    ids, scores = candidates.ids, candidates.scores
    out = partial(reject, ledger=ledger, spared=spared)
    allowed = out(allowed, scores > scene.ceiling, "ceiling")
    if rule.max_length_ratio is not None:
        lengths = scene.pairs.vocabulary.lengths()
        allowed = out(allowed, filters.bad_lengths(lengths[positives], lengths[ids], rule.max_length_ratio), "length")
    if rule.near_duplicate is not None:
        near = filters.nearest_positive(scene.corpus, np.where(allowed, ids, NOTHING), _known(scene.pairs, of_row))
        allowed = out(allowed, near >= np.float32(rule.near_duplicate), "near_duplicate")
    if scene.teacher is not None:
        queries, corpus = scene.teacher
        flat = np.where(allowed, ids, NOTHING).ravel()
        vetoed = pair_scores(queries, corpus, np.repeat(of_row, ids.shape[1]), flat).reshape(ids.shape)
        allowed = out(allowed, vetoed > rule.teacher_max, "teacher")
    if rule.reject_answer:
        allowed = out(allowed, _answered(scene, rows, np.where(allowed, ids, NOTHING)), "answer_in_passage")
    return _by_score(scene, of_row, scores, allowed, spared, risk, rule, ledger)


def _by_score(
    scene: Scene,
    of_row: Ints,
    scores: npt.NDArray[np.float32],
    sound: Bools,
    spared: Bools,
    risk: npt.NDArray[np.float64] | None,
    rule: MiningRule,
    ledger: Ledger,
) -> Bools:
    """The filters that weigh hardness against risk, which ``rule.relax`` may lift for rows left with nothing.

    Args:
        scene: the dataset.
        of_row: [r] distinct query of each row.
        scores: [r, c] cosines of the candidates.
        sound: [r, c] candidates that the other filters have left.
        spared: [r, c] candidates that no filter touches.
        risk: [r, c], or None.
        rule: the knobs.
        ledger: where rejections are counted.
    """
    out = partial(reject, ledger=ledger, spared=spared)
    allowed = out(sound, scores < scene.floor, "floor")
    if risk is not None and rule.risk_max is not None:
        allowed = out(allowed, risk > rule.risk_max, "risk")
    without_margin = allowed
    if rule.relative_margin is not None or rule.absolute_margin is not None:
        bad = filters.above_margin(scores, scene.lowest[of_row], rule.relative_margin, rule.absolute_margin)
        allowed = out(allowed, bad, "margin")
    if not rule.relax:
        return allowed
    lifted = np.flatnonzero(~allowed.any(axis=1) & without_margin.any(axis=1))
    allowed[lifted] = without_margin[lifted]
    ledger.note("margin_lifted", len(lifted))
    if risk is not None:
        left = np.flatnonzero(~allowed.any(axis=1) & sound.any(axis=1))
        allowed[left, np.where(sound[left], risk[left], np.inf).argmin(axis=1)] = True
        ledger.note("least_risk_taken", len(left))
    return allowed


def _known(pairs: Pairs, of_row: Ints) -> Ints:
    """The known positives [r, p] of each row's query, -1 where there are fewer."""
    wanted, local = np.unique(of_row, return_inverse=True)
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    place = np.searchsorted(wanted, query_of_positive)
    inside = (place < len(wanted)) & (wanted[np.minimum(place, len(wanted) - 1)] == query_of_positive)
    return matrix(place[inside], pairs.positives[inside, 1], len(wanted), NOTHING)[local]


def _answered(scene: Scene, rows: Ints, ids: Ints) -> Bools:
    """Which candidates [r, c] hold one of the answers of their row."""
    of_row = np.full(len(scene.pairs.query_of_row), NOTHING, dtype=np.int64)
    of_row[rows] = np.arange(len(rows))
    answer_rows, answers = scene.answers
    inside = of_row[answer_rows] != NOTHING
    which = matrix(of_row[answer_rows[inside]], np.flatnonzero(inside), len(rows), NOTHING)
    found = np.zeros(ids.shape, dtype=bool)
    texts, places = np.unique(np.maximum(ids, 0), return_inverse=True)
    passages, places = filters.normalized(scene.pairs.vocabulary.text(texts)), places.reshape(ids.shape)
    for column_of in which.T:
        row, place = np.nonzero((column_of[:, None] != NOTHING) & (ids != NOTHING) & ~found)
        found[row, place] = filters.with_answer(passages.gather(places[row, place]), answers.gather(column_of[row]))
    return found


def _given(scene: Scene, rows: Ints, ledger: Ledger) -> Candidates:
    """The rows' given negatives as candidates, less those that are barred for the query."""
    pairs = scene.pairs
    place_of_row = np.full(len(pairs.query_of_row), NOTHING, dtype=np.int64)
    place_of_row[rows] = np.arange(len(rows))
    inside = place_of_row[pairs.negatives[:, 0]] != NOTHING
    source, texts = pairs.negatives[inside].T
    bad = contains(pairs.barred, pairs.query_of_row[source], texts)
    ledger.note("rejected_given_is_positive_or_query", int(bad.sum()))
    ids = matrix(place_of_row[source[~bad]], texts[~bad], len(rows), NOTHING)
    ledger.note("given_negatives_not_looked_at", int((ids[:, GIVEN_AT_MOST:] != NOTHING).sum()))
    ids = ids[:, :GIVEN_AT_MOST]
    of_query = np.repeat(pairs.query_of_row[rows], ids.shape[1])
    scores = pair_scores(scene.queries, scene.corpus, of_query, ids.ravel()).reshape(ids.shape)
    return Candidates(ids, scores, np.full(ids.shape, GIVEN, dtype=np.int32))

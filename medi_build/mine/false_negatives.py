"""How much a candidate looks like a positive that nobody marked.

Most false negatives are near the query for the encoder, and so are good hard negatives: its score alone does not
tell them apart. Five further signs do, each of which needs no labels:

- the candidate's rank for the query, by the encoder,
- its rank for the query by BM25, and its BM25 score as a share of the best,
- its reciprocal rank: for how many other queries it is listed with a higher score,
- its likeness to the positives of queries near this one.

What they are worth depends on the dataset, so each dataset weighs them itself: logistic regression of its known
positives against its candidates, which are mostly negatives (learning from positive and unlabelled data, Elkan and
Noto 2008). Both classes weigh alike, so the probability says how much a candidate looks like a known positive.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from medi_build.arrays import Floats32, Floats64, Ints, Vectors
from medi_build.devices import Device
from medi_build.mine.likeness import nearest_positive
from medi_build.search.bm25 import BM25
from medi_build.search.dense import topk
from medi_build.search.exclusions import BoolMatrix, Exclusions, incidence
from medi_build.search.ranking import NOTHING, Ranking

PROBES = 20_000
"""Queries from which the signs are taken and the weights are fitted, drawn by the seed where there are more."""
FEWEST_POSITIVES = 50
"""Known positives within the ranking that a fit needs."""
LEXICAL_DEPTH = 300
NEAR_QUERIES = 20
SIGNS = 5


@dataclass(frozen=True)
class SignInputs:
    """What the signs are read from.

    Attributes:
        queries: float16 [q, d] vectors of the distinct queries.
        corpus: float16 [n, d] vectors of the texts; the first ``pool`` are candidates.
        pool: how many.
        excluded: bool CSR [q, at least pool].
        index: BM25 index of the pool.
        words: tokenised distinct queries.
        positives: int64 [q], one known positive of each query, -1 where it has none.
        positive_scores: float32 [q], its cosine.
        device: where to search.
    """

    queries: Vectors
    corpus: Vectors
    pool: int
    excluded: BoolMatrix
    index: BM25
    words: pl.Series
    positives: Ints
    positive_scores: Floats32
    device: Device = "cpu"


@dataclass(frozen=True)
class FalseNegativeModel:
    """A fitted model of which candidates are positives that nobody marked.

    Attributes:
        inputs: where the signs come from.
        probes: int64 [m] the queries among which reciprocal ranks and near queries are counted.
        listed: float64, ascending ``4 * text - score`` of every text in every probe's ranking.
        ranking: the probes' rankings [m, k].
        ranking_probability: float64 [m, k], that of each text in them.
        mean: float64 [5], of the signs of candidates.
        scale: float64 [5], their standard deviation.
        weights: float64 [6], the last one is the intercept.
    """

    inputs: SignInputs
    probes: Ints
    listed: Floats64
    ranking: Ranking
    ranking_probability: Floats64
    mean: Floats64
    scale: Floats64
    weights: Floats64

    def ranked(self, queries: Ints) -> tuple[Ranking, Floats64] | None:
        """Rankings of the queries and the probabilities in them, if all of them are probes; known from the fit."""
        places = np.minimum(np.searchsorted(self.probes, queries), len(self.probes) - 1)
        if not np.array_equal(self.probes[places], queries):
            return None
        return self.ranking.rows(places), self.ranking_probability[places]

    def probability(self, queries: Ints, ids: Ints, scores: Floats32, ranking: Ranking) -> Floats64:
        """Probability [r, c] that a candidate looks like a known positive; 0 where there is no candidate.

        Args:
            queries: int64 [r], numbers of distinct queries.
            ids: int64 [r, c] candidates, -1 where there is none.
            scores: float32 [r, c] their cosines.
            ranking: the rankings [r, k] of these queries.
        """
        if not ids.size:
            return np.zeros(ids.shape)
        signs = _signs(self.inputs, self.listed, _views(self.inputs, self.probes, queries, ranking), ids, scores)
        return _probability(signs, ids, self.mean, self.scale, self.weights)


def fit(inputs: SignInputs, length: int, seed: int) -> FalseNegativeModel | None:
    """Weigh the signs for a dataset; None where too few known positives are ranked for that.

    Args:
        inputs: the dataset.
        length: how long the rankings are from which candidates are taken.
        seed: draws the probes.
    """
    with_positive = np.flatnonzero(inputs.positives != NOTHING)
    generator = np.random.default_rng(seed)
    probes = np.sort(generator.choice(with_positive, min(PROBES, len(with_positive)), replace=False))
    if len(probes) < FEWEST_POSITIVES:
        return None
    exclusions = Exclusions(inputs.excluded[probes])
    ranking = topk(inputs.queries[probes], inputs.corpus[: inputs.pool], length, exclusions, device=inputs.device)
    present = ranking.ids != NOTHING
    listed = np.sort(4.0 * ranking.ids[present] - ranking.scores[present])
    views = _views(inputs, probes, probes, ranking)
    ours = _signs(inputs, listed, views, inputs.positives[probes, None], inputs.positive_scores[probes, None])[:, 0]
    reached = ours[:, 0] < np.log1p(present.sum(axis=1))
    if np.count_nonzero(reached) < FEWEST_POSITIVES:
        return None
    signs = _signs(inputs, listed, views, *ranking)
    theirs = signs[present]
    mean, scale = theirs.mean(axis=0), np.maximum(theirs.std(axis=0), 1e-9)
    weights = _logistic((ours[reached] - mean) / scale, (theirs - mean) / scale)
    return FalseNegativeModel(
        inputs, probes, listed, ranking, _probability(signs, ranking.ids, mean, scale, weights), mean, scale, weights
    )


def _probability(signs: Floats64, ids: Ints, mean: Floats64, scale: Floats64, weights: Floats64) -> Floats64:
    logits = ((signs - mean) / scale * weights[:-1]).sum(axis=2) + weights[-1]
    return np.where(ids == NOTHING, 0.0, _sigmoid(logits))


class _Views(NamedTuple):
    """What some queries see of the corpus.

    Attributes:
        ranking: by the encoder.
        lexical: by BM25.
        near_positives: int64 [r, near], the positives of the nearest other probes, -1 where there are fewer.
        near_scores: float32 [r, near], the cosines of those probes with the query.
    """

    ranking: Ranking
    lexical: Ranking
    near_positives: Ints
    near_scores: Floats32


def _views(inputs: SignInputs, probes: Ints, queries: Ints, ranking: Ranking) -> _Views:
    places = np.searchsorted(probes, queries)
    itself = np.flatnonzero(probes[np.minimum(places, len(probes) - 1)] == queries)
    same = incidence(itself, places[itself], (len(queries), len(probes)))
    exclusions = Exclusions(same)
    near = topk(inputs.queries[queries], inputs.queries[probes], NEAR_QUERIES, exclusions, device=inputs.device)
    nothing = near.ids == NOTHING
    return _Views(
        ranking,
        inputs.index.topk(inputs.words.gather(queries), LEXICAL_DEPTH),
        np.where(nothing, NOTHING, inputs.positives[probes[near.ids]]),
        np.where(nothing, np.float32(0), near.scores),
    )


def _signs(inputs: SignInputs, listed: Floats64, views: _Views, ids: Ints, scores: Floats32) -> Floats64:
    """The five signs [r, c, 5] of candidates; ranks count from 0 and as log(1 + rank)."""
    signs = np.empty((*ids.shape, SIGNS))
    row = np.arange(len(ids))[:, None]
    safe = np.where(ids == NOTHING, 0.0, scores).astype(np.float64)
    own = np.where(views.ranking.ids == NOTHING, -1.5, views.ranking.scores).astype(np.float64)
    above = np.searchsorted((4.0 * row - own).ravel(), (4.0 * row - safe).ravel()).reshape(ids.shape)
    signs[..., 0] = np.log1p(above - row * own.shape[1])

    rank, score = _found(views.lexical, ids)
    signs[..., 1] = np.log1p(rank)
    signs[..., 2] = score / np.maximum(views.lexical.scores[:, :1], 1e-9)

    first = np.searchsorted(listed, 4.0 * ids.ravel() - 1.5)
    place = np.searchsorted(listed, 4.0 * ids.ravel() - safe.ravel())
    signs[..., 3] = np.log1p(place - first).reshape(ids.shape)

    signs[..., 4] = np.maximum(nearest_positive(inputs.corpus, ids, views.near_positives, views.near_scores), -1.0)
    return signs


def _found(ranking: Ranking, ids: Ints) -> tuple[Ints, Floats64]:
    """Rank and score of each candidate [r, c] in its row's ranking; the full length and 0 where it is not listed."""
    rows, length = ranking.ids.shape
    order = np.argsort(ranking.ids, axis=1, kind="stable")
    span = int(max(ranking.ids.max(initial=0), ids.max(initial=0))) + 2
    base = span * np.arange(rows)[:, None] + 1
    stored = (base + np.take_along_axis(ranking.ids, order, axis=1)).ravel()
    place = np.minimum(np.searchsorted(stored, (base + ids).ravel()), len(stored) - 1)
    hit = (stored[place] == (base + ids).ravel()) & (ids.ravel() != NOTHING)
    rank = np.where(hit, order.ravel()[place], length)
    score = np.where(hit, ranking.scores.ravel()[place // length * length + np.minimum(rank, length - 1)], 0.0)
    return rank.reshape(ids.shape), score.reshape(ids.shape).astype(np.float64)


def _logistic(positives: Floats64, others: Floats64, ridge: float = 1e-4, rounds: int = 30) -> Floats64:
    """Weights of a logistic regression, the intercept last, by Newton's method; both classes weigh one half.

    Sums go through ``einsum``, whose order does not depend on the number of threads.
    """
    x = np.concatenate([positives, others]).T
    x = np.concatenate([x, np.ones((1, x.shape[1]))])  # a row per sign, which einsum reads from front to back
    y = np.repeat([1.0, 0.0], [len(positives), len(others)])
    share = np.repeat([0.5 / len(positives), 0.5 / len(others)], [len(positives), len(others)])
    weights = np.zeros(len(x))
    for _ in range(rounds):
        p = _sigmoid(np.einsum("fn,f->n", x, weights))
        gradient = np.einsum("fn,n->f", x, share * (p - y)) + ridge * weights
        curvature = np.einsum("fn,gn->fg", x * (share * p * (1 - p)), x) + ridge * np.eye(len(x))
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _sigmoid(x: Floats64) -> Floats64:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))

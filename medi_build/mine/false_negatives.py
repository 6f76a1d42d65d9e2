"""How much a candidate looks like a positive that nobody marked.

Most false negatives are near the query for the encoder, and so are good hard negatives: its score alone does not
tell them apart. These signs do, each of which needs no labels; ranks count from 0 and as log(1 + rank):

- ``rank``: the candidate's rank for the query, by the encoder,
- ``lexical_rank``: its rank by BM25,
- ``lexical_score``: its BM25 score as a share of the best,
- ``wanted_elsewhere``: for how many other queries it is listed with a higher score (its reciprocal rank),
- ``near_positive``: its likeness to the positives of queries near this one,
- ``own_positive``: its likeness to the query's known positive, less what the query has in common with both.

What they are worth depends on the dataset, so each dataset weighs them itself: logistic regression of its known
positives against its candidates, which are mostly negatives (learning from positive and unlabelled data, Elkan and
Noto 2008). Both classes weigh alike, so the probability says how much a candidate looks like a known positive. The
last sign has a weight that is not fitted: a known positive has no likeness to itself that could be compared.

A few known positives say little. So the weights start from `PRIOR`, by which the best ranks of the encoder and of BM25
look like positives, and leave it as known positives come in: it counts for as much as `PRIOR_WORTH` of them. Where none
is ranked the prior alone decides.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from medi_build.arrays import Floats32, Floats64, Ints, Vectors
from medi_build.devices import Device
from medi_build.mine.likeness import Likeness
from medi_build.search.bm25 import BM25
from medi_build.search.exclusions import BoolMatrix, Exclusions, incidence
from medi_build.search.parts import topk
from medi_build.search.ranking import NOTHING, Ranking
from medi_build.share import WHOLE, Split

PROBES = 20_000
"""Queries from which the signs are taken and the weights are fitted, drawn by the seed where there are more."""
LEXICAL_DEPTH = 300
NEAR_QUERIES = 20
RANKS_AT_ONCE = 1 << 19
"""Ranks by row and text that are held at a time, 2 MB."""
SIGNS = ("rank", "lexical_rank", "lexical_score", "wanted_elsewhere", "near_positive", "own_positive")
"""In the order of the weights."""
FITTED = [place for place, sign in enumerate((*SIGNS, "intercept")) if sign != "own_positive"]
"""Places of the weights that are fitted."""
PRIOR = np.array([-0.6, -0.5, 0.0, 0.0, 0.0, 0.3, -0.65])
"""Weight of each sign, which counts in standard deviations among the candidates, and the intercept."""
PRIOR_WORTH = 50
"""How many known positives the prior is worth."""


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
        likeness: of the texts to known positives, these among them.
        device: where to search.
        split: how searches are handed out.
    """

    queries: Vectors
    corpus: Vectors
    pool: int
    excluded: BoolMatrix
    index: BM25
    words: pl.Series
    positives: Ints
    positive_scores: Floats32
    likeness: Likeness
    device: Device = "cpu"
    split: Split = WHOLE


@dataclass(frozen=True)
class _Lists:
    """Scores in groups, to be asked how many of a group are higher than a given one; every score lies in -1..1.

    Attributes:
        keys: float64 [n], ascending ``4 * group - score``: group by group, the highest score first.
    """

    keys: Floats64

    @classmethod
    def of(cls, groups: Ints, scores: Floats32) -> "_Lists":
        return cls(np.sort(4.0 * groups.ravel() - scores.ravel()))

    def higher(self, groups: Ints, scores: Floats32) -> Ints:
        """How many scores of each group lie above the one given; arrays of one shape."""
        asked = (4.0 * groups - scores).ravel()
        # Looked up in order, so that each place is near the one before.
        order = np.argsort(asked)
        higher = np.empty(len(asked), dtype=np.int64)
        higher[order] = np.searchsorted(self.keys, asked[order])
        higher[order] -= np.searchsorted(self.keys, 4.0 * groups.ravel()[order] - 1.5)
        return higher.reshape(groups.shape)


@dataclass(frozen=True)
class _Probes:
    """The queries that stand for all: among them near queries are looked for and reciprocal ranks are counted.

    Attributes:
        queries: int64 [m], ascending numbers of distinct queries, each of which has a known positive.
        vectors: float16 [m, d], theirs.
        ranking: theirs [m, k].
        listings: by text, the scores with which the probes' rankings list it.
    """

    queries: Ints
    vectors: Vectors
    ranking: Ranking
    listings: _Lists


@dataclass(frozen=True)
class FalseNegativeModel:
    """A fitted model of which candidates are positives that nobody marked.

    Attributes:
        inputs: where the signs come from.
        probes: the queries from which it was fitted.
        learned_from: known positives within the rankings: what the weights have seen.
        mean: float64 [signs], of the candidates.
        scale: float64 [signs], their standard deviation.
        weights: float64 [signs + 1], the last one is the intercept.
        ranking_probability: float64 [m, k], that of each text in the probes' rankings.
    """

    inputs: SignInputs
    probes: _Probes
    learned_from: int
    mean: Floats64
    scale: Floats64
    weights: Floats64
    ranking_probability: Floats64

    def knows(self, queries: Ints) -> bool:
        """Whether all of them are probes."""
        return bool(np.isin(queries, self.probes.queries).all())

    def ranked(self, queries: Ints) -> tuple[Ranking, Floats64]:
        """Rankings of probes and the probabilities in them, known from the fit."""
        places = np.searchsorted(self.probes.queries, queries)
        return self.probes.ranking.rows(places), self.ranking_probability[places]

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
        signs = _signs(self.inputs, self.probes, _view(self.inputs, self.probes, queries, ranking), ids, scores)
        return _probability(signs, ids, self.mean, self.scale, self.weights)


def fit(inputs: SignInputs, length: int, seed: int) -> FalseNegativeModel | None:
    """Weigh the signs for a dataset; None where no candidate is ranked for any query.

    Args:
        inputs: the dataset.
        length: how long the rankings are from which candidates are taken.
        seed: draws the probes.
    """
    probes = _probes(inputs, length, seed)
    present = probes.ranking.ids != NOTHING
    if not present.any():
        return None
    view = _view(inputs, probes, probes.queries, probes.ranking)
    positives, scores = inputs.positives[probes.queries, None], inputs.positive_scores[probes.queries, None]
    within = _rank(view, scores)[:, 0] < present.sum(axis=1)
    known = _signs(inputs, probes, view, positives, scores)[within, 0]
    signs = _signs(inputs, probes, view, *probes.ranking)
    mean, scale = signs[present].mean(axis=0), np.maximum(signs[present].std(axis=0), 1e-9)
    weights = PRIOR.copy()
    weights[FITTED] = _logistic(
        ((known - mean) / scale)[:, FITTED[:-1]],
        ((signs[present] - mean) / scale)[:, FITTED[:-1]],
        PRIOR[FITTED],
        PRIOR_WORTH,
    )
    likely = _probability(signs, probes.ranking.ids, mean, scale, weights)
    return FalseNegativeModel(inputs, probes, len(known), mean, scale, weights, likely)


def _probes(inputs: SignInputs, length: int, seed: int) -> _Probes:
    with_positive = np.flatnonzero(inputs.positives != NOTHING)
    generator = np.random.default_rng(seed)
    queries = np.sort(generator.choice(with_positive, min(PROBES, len(with_positive)), replace=False))
    vectors, exclusions = inputs.queries[queries], Exclusions(inputs.excluded[queries])
    ranking = topk(vectors, inputs.corpus[: inputs.pool], length, exclusions, device=inputs.device, split=inputs.split)
    present = ranking.ids != NOTHING
    return _Probes(queries, vectors, ranking, _Lists.of(ranking.ids[present], ranking.scores[present]))


def _probability(signs: Floats64, ids: Ints, mean: Floats64, scale: Floats64, weights: Floats64) -> Floats64:
    logits = ((signs - mean) / scale * weights[:-1]).sum(axis=2) + weights[-1]
    return np.where(ids == NOTHING, 0.0, _sigmoid(logits))


class _View(NamedTuple):
    """What some queries see of the corpus.

    Attributes:
        ranking: by the encoder.
        lexical: by BM25.
        near_positives: int64 [r, near], the positives of the nearest other probes, -1 where there are fewer.
        near_scores: float32 [r, near], the cosines of those probes with the query.
        own_positive: int64 [r], the query's known positive, -1 where it has none.
        own_score: float32 [r], its cosine with the query.
    """

    ranking: Ranking
    lexical: Ranking
    near_positives: Ints
    near_scores: Floats32
    own_positive: Ints
    own_score: Floats32


def _view(inputs: SignInputs, probes: _Probes, queries: Ints, ranking: Ranking) -> _View:
    places = np.minimum(np.searchsorted(probes.queries, queries), len(probes.queries) - 1)
    itself = np.flatnonzero(probes.queries[places] == queries)
    not_itself = Exclusions(incidence(itself, places[itself], (len(queries), len(probes.queries))))
    near = topk(
        inputs.queries[queries], probes.vectors, NEAR_QUERIES, not_itself, device=inputs.device, split=inputs.split
    )
    nothing = near.ids == NOTHING
    return _View(
        ranking,
        inputs.index.topk(inputs.words.gather(queries), LEXICAL_DEPTH),
        np.where(nothing, NOTHING, inputs.positives[probes.queries[near.ids]]),
        np.where(nothing, np.float32(0), near.scores),
        inputs.positives[queries],
        inputs.positive_scores[queries],
    )


def _signs(inputs: SignInputs, probes: _Probes, view: _View, ids: Ints, scores: Floats32) -> Floats64:
    """The signs [r, c, signs] of candidates; of no meaning where there is no candidate."""
    scores = np.where(ids == NOTHING, np.float32(0), scores)
    lexical_rank, lexical_score = _looked_up(view.lexical, ids)
    signs = {
        "rank": np.log1p(_rank(view, scores)),
        "lexical_rank": np.log1p(lexical_rank),
        "lexical_score": lexical_score / np.maximum(view.lexical.scores[:, :1], 1e-9),
        "wanted_elsewhere": np.log1p(probes.listings.higher(ids, scores)),
        "near_positive": np.maximum(
            inputs.likeness.nearest(ids, view.near_positives, view.near_scores), np.float32(-1)
        ),
        "own_positive": _like_own(inputs, view, ids, scores),
    }
    return np.stack([signs[sign] for sign in SIGNS], axis=2, dtype=np.float64)


def _like_own(inputs: SignInputs, view: _View, ids: Ints, scores: Floats32) -> Floats32:
    """Cosine [r, c] with the query's known positive, less the product of the query's with both; 0 if it has none."""
    positive, score = view.own_positive[:, None], view.own_score[:, None]
    alike = inputs.likeness.nearest(ids, positive)
    known = (positive != NOTHING) & (ids != NOTHING)
    return np.where(known, alike - np.where(known, score, np.float32(0)) * scores, np.float32(0))


def _rank(view: _View, scores: Floats32) -> Ints:
    """How many texts of the row's ranking score above each of these scores [r, c]."""
    rows, columns = np.nonzero(view.ranking.ids != NOTHING)
    listed = _Lists.of(rows, view.ranking.scores[rows, columns])
    return listed.higher(np.broadcast_to(np.arange(len(scores))[:, None], scores.shape), scores)


def _looked_up(ranking: Ranking, ids: Ints) -> tuple[Ints, Floats64]:
    """Rank and score of each candidate [r, c] in its row's ranking; the ranking's length and 0 if it is not listed."""
    length, texts = ranking.ids.shape[1], int(max(ranking.ids.max(initial=0), ids.max(initial=0))) + 1
    rank = np.full(ids.shape, length)
    step = max(1, RANKS_AT_ONCE // texts)
    places = np.full(step * texts + 1, length, dtype=np.int32)  # of each row and text, and of no text
    for start in range(0, len(ids), step):
        listed, wanted = (part[start : start + step] for part in (ranking.ids, ids))
        first = texts * np.arange(len(listed))[:, None]
        at = np.where(listed == NOTHING, -1, listed + first)
        places[at] = np.arange(length)
        places[-1] = length
        rank[start : start + step] = places[np.where(wanted == NOTHING, -1, wanted + first)]
        places[at] = length
    scores = np.pad(ranking.scores, ((0, 0), (0, 1)))
    return rank, np.take_along_axis(scores, rank, axis=1).astype(np.float64)


def _logistic(positives: Floats64, others: Floats64, prior: Floats64, worth: float, rounds: int = 30) -> Floats64:
    """Weights of a logistic regression, the intercept last, by Newton's method; both classes weigh one half.

    Sums go through ``einsum``, whose order does not depend on the number of threads.

    Args:
        positives: float64 [p, signs]; where p is 0 the prior is returned.
        others: float64 [n, signs], n at least 1.
        prior: float64 [signs + 1], towards which the weights are drawn.
        worth: how many positives draw as strongly: one adds at most 0.5 / p x 0.25 to the loss's curvature.
        rounds: at most so many steps.
    """
    if not len(positives):
        return prior
    ridge = 0.125 * worth / len(positives)
    x = np.concatenate([positives, others]).T
    x = np.concatenate([x, np.ones((1, x.shape[1]))])  # a row per sign, which einsum reads from front to back
    y = np.repeat([1.0, 0.0], [len(positives), len(others)])
    share = np.repeat([0.5 / len(positives), 0.5 / len(others)], [len(positives), len(others)])
    weights = np.zeros(len(x))  # not the prior, from where steps may lead away if it is far off
    for _ in range(rounds):
        p = _sigmoid(np.einsum("fn,f->n", x, weights))
        gradient = np.einsum("fn,n->f", x, share * (p - y)) + ridge * (weights - prior)
        curvature = np.einsum("fn,gn->fg", x * (share * p * (1 - p)), x) + ridge * np.eye(len(x))
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _sigmoid(x: Floats64) -> Floats64:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))

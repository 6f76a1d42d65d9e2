"""Where candidates come from: the pool ranked for a query, and how likely each is a positive that nobody marked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import polars as pl

from medi_build.arrays import Floats64, Ints
from medi_build.mine.context import MiningContext
from medi_build.mine.encoding import Sides
from medi_build.mine.false_negatives import PRIOR_WORTH, FalseNegativeModel, SignInputs, fit
from medi_build.mine.filters import ranked_to
from medi_build.mine.select import Candidates
from medi_build.search.bm25 import BM25, tokenize
from medi_build.search.exclusions import Exclusions
from medi_build.search.fusion import fuse
from medi_build.search.parts import queries_at_once, topk_of_blocks
from medi_build.search.ranking import NOTHING, Ranking


class Lexical(NamedTuple):
    """The dataset for BM25.

    Attributes:
        bm25: index of the pool.
        queries: [q], the tokenised distinct queries.
    """

    bm25: BM25
    queries: pl.Series


class Ranked(NamedTuple):
    """The pool ranked for some queries [r].

    Attributes:
        ranking: the one from which candidates are taken; scores are cosines of the encoder that mines.
        dense: the one by these cosines alone.
        probability: float64 [r, k], that each candidate in ``ranking`` is a false negative; None where there is no
            model of it.
        fused: the rankings that ``ranking`` was made of, in the order of `Ranker.names`; empty where it is the only
            one.
    """

    ranking: Ranking
    dense: Ranking
    probability: Floats64 | None
    fused: tuple[Ranking, ...] = ()

    def rows(self, index: Ints) -> "Ranked":
        """Those of some queries, in the given order."""
        probability = None if self.probability is None else self.probability[index]
        fused = tuple(one.rows(index) for one in self.fused)
        return Ranked(self.ranking.rows(index), self.dense.rows(index), probability, fused)


@dataclass(frozen=True)
class Ranker:
    """What ranks the pool of one dataset.

    Attributes:
        context: the dataset.
        further: vectors of the encoders whose rankings are fused with that of the first one.
        lexical: for BM25, if its ranking is fused, too.
        model: estimates which candidates are positives nobody marked, or None.
    """

    context: MiningContext
    further: list[Sides]
    lexical: Lexical | None
    model: FalseNegativeModel | None

    def ranked(self, blocks: Sequence[Ints]) -> Iterator[Ranked]:
        """The pool ranked for some of the distinct queries at a time, int64 [r] ascending each, as it is asked for.

        Where searches are handed out, or made on a GPU, the pool is searched for several blocks together.
        """
        run = self.context.run
        most = queries_at_once(ranked_to(run), self.context.pairs.pool, run.device, run.split)
        stretches = _stretches(blocks, most)
        together = [np.unique(np.concatenate(stretch)) for stretch in stretches]
        rankings = zip(*self._searched([queries for queries in together if not self._knows(queries)]), strict=True)
        for stretch, queries in zip(stretches, together, strict=True):
            searched = () if self._knows(queries) else next(rankings)
            for block in stretch:
                places = np.searchsorted(queries, block)
                yield self._ranked(block, [ranking.rows(places) for ranking in searched])

    def _ranked(self, queries: Ints, searched: Sequence[Ranking]) -> Ranked:
        """The pool ranked for some queries, by the rankings of the encoders, the first one's first."""
        if self.model is not None and self._knows(queries):
            ranking, probability = self.model.ranked(queries)
            return Ranked(ranking, ranking, probability)
        (ranking, fused), dense = self._fused(queries, searched), searched[0]
        if self.model is None:
            return Ranked(ranking, dense, None, fused)
        return Ranked(ranking, dense, self.model.probability(queries, ranking.ids, ranking.scores, dense), fused)

    def names(self) -> list[str]:
        """What ranks: the encoder that mines is called dense, the further ones by their names."""
        return ["dense", *self.context.run.rule.encoders, *["bm25"] * (self.lexical is not None)]

    def _knows(self, queries: Ints) -> bool:
        """Whether the model has ranked the pool for all of these, when it was fitted, as the rule says."""
        return self.model is not None and not self.context.run.rule.fuses and self.model.knows(queries)

    def probability(self, queries: Ints, given: Candidates, ranked: Ranked) -> Floats64 | None:
        """How likely false negatives are what was given [r, g] and, behind it, what the rank window holds.

        Args:
            queries: int64 [r], numbers of distinct queries.
            given: negatives that came with the data.
            ranked: the pool ranked for these queries.

        Returns:
            float64 [r, g + c], or None where there is no model of it.
        """
        if self.model is None or ranked.probability is None:
            return None
        of_given = self.model.probability(queries, given.ids, given.scores, ranked.dense)
        return np.concatenate([of_given, ranked.probability[:, self.context.run.rule.range_min :]], axis=1)

    def _searched(self, wanted: Sequence[Ints]) -> list[Iterator[Ranking]]:
        """For each encoder the pool ranked for each array of queries, as it is asked for."""
        context, run = self.context, self.context.run
        pairs = context.pairs

        def by(side: Sides) -> Iterator[Ranking]:
            blocks = ((side.queries[queries], Exclusions(pairs.excluded[queries])) for queries in wanted)
            corpus = side.corpus[: pairs.pool]
            return topk_of_blocks(blocks, corpus, ranked_to(run), device=run.device, split=run.split)

        return [by(side) for side in (context.vectors, *self.further)]

    def _fused(self, queries: Ints, rankings: Sequence[Ranking]) -> tuple[Ranking, tuple[Ranking, ...]]:
        """The pool ranked as the rule says, with the first encoder's cosines, and the rankings that were fused."""
        length, all_rankings = ranked_to(self.context.run), list(rankings)
        if self.lexical is not None:
            excluded = self.context.pairs.excluded[queries]
            all_rankings.append(self.lexical.bm25.topk(self.lexical.queries.gather(queries), length, excluded))
        if len(all_rankings) == 1:
            return all_rankings[0], ()
        fused = fuse(all_rankings, length)
        cosines = np.where(fused.ids == NOTHING, -np.inf, self.context.vectors.cosines(queries, fused.ids))
        return Ranking(fused.ids, cosines), tuple(all_rankings)


def _stretches(blocks: Sequence[Ints], most: int | None) -> list[list[Ints]]:
    """The blocks, of which some that follow each other have about ``most`` queries together; None: each alone."""
    ends = accumulate(len(block) for block in blocks)
    numbers = [place if most is None else (end - 1) // most for place, end in enumerate(ends)]
    grouped = groupby(zip(numbers, blocks, strict=True), key=lambda one: one[0])
    return [[block for _, block in stretch] for _, stretch in grouped]


def build_ranker(context: MiningContext) -> Ranker:
    """Encode with the further encoders, index the words and fit the model, each if the rule asks for it."""
    rule = context.run.rule
    further = [context.encoded(name, context.prompts) for name in rule.encoders]
    wants_model = rule.max_false_negative_probability is not None
    lexical = _lexical(context) if rule.lexical or wants_model else None
    model = _false_negative_model(context, lexical) if lexical is not None and wants_model else None
    return Ranker(context, further, lexical if rule.lexical else None, model)


def _lexical(context: MiningContext) -> Lexical:
    pairs = context.pairs
    pool = pairs.unique_texts.text(np.arange(pairs.pool))
    return Lexical(BM25.build(tokenize(pool)), tokenize(pairs.unique_texts.text(pairs.query_texts)))


def _false_negative_model(context: MiningContext, lexical: Lexical) -> FalseNegativeModel | None:
    """The model, fitted on the first positive of each query; it is noted where the prior counts for more than these."""
    pairs, vectors, run = context.pairs, context.vectors, context.run
    with_positive, first = np.unique(pairs.query_of_positive(), return_index=True)
    positives = np.full(len(vectors.queries), NOTHING, dtype=np.int64)
    scores = np.full(len(vectors.queries), -np.inf, dtype=np.float32)
    positives[with_positive], scores[with_positive] = pairs.positives[first, 1], context.positives.scores[first]
    inputs = SignInputs(
        queries=vectors.queries,
        corpus=vectors.corpus,
        pool=pairs.pool,
        excluded=pairs.excluded,
        index=lexical.bm25,
        words=lexical.queries,
        positives=positives,
        positive_scores=scores,
        likeness=context.likeness,
        device=run.device,
        split=run.split,
    )
    model = fit(inputs, run.rule.range_max, run.seed)
    if model is not None and model.learned_from < PRIOR_WORTH:
        run.ledger.note("false_negative_model_mostly_prior")
    return model

"""The filters: what rejects a candidate after it was ranked.

A filter is a line of `FILTERS` and the function that it names, which makes the mask for one dataset. A further one is
written here and nowhere else.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from medi_build.arrays import Bools, Floats32, Floats64, Ints
from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine.context import MiningContext
from medi_build.mine.run import Run
from medi_build.mine.select import UNRANKED, Candidates, Verdicts, reject
from medi_build.mine.texts import Grouped, flatten
from medi_build.search.bm25 import UNSPACED
from medi_build.search.dense import pair_scores
from medi_build.search.exclusions import contains
from medi_build.search.ranking import NOTHING

CALIBRATION_PAIRS = 20_000
EXPLAINED = 20
"""Candidates of a record that are told of where the rule looks at fewer."""


class Block(NamedTuple):
    """The candidates of some rows, as the filters see them.

    Attributes:
        rows: int64 [r], rows of the examples.
        queries: int64 [r], the distinct query of each.
        positives: int64 [r], the text that each has as its positive.
        ids: int64 [r, c], candidates; -1 where there is none, or none any more.
        scores: float32 [r, c], their cosines with the query.
        ranks: int32 [r, c], as in `Candidates`.
        probability: float64 [r, c], that each is a false negative; None where there is no model of it.
    """

    rows: Ints
    queries: Ints
    positives: Ints
    ids: Ints
    scores: Floats32
    ranks: npt.NDArray[np.int32]
    probability: Floats64 | None

    @property
    def candidates(self) -> Candidates:
        """The candidates alone."""
        return Candidates(self.ids, self.scores, self.ranks)


class Sifted(NamedTuple):
    """The candidates of some rows, and what became of them.

    Attributes:
        block: the candidates [r, c].
        held: bool [r, c], those that pass all filters but such as are lifted first.
        allowed: bool [r, c], those that may be taken.
        verdicts: why the others may not.
    """

    block: Block
    held: Bools
    allowed: Bools
    verdicts: Verdicts

    def beside(self, more: "Sifted", at: Ints) -> "Sifted":
        """With further candidates [m, d] of the rows ``at`` [m] behind these; their verdicts have the same names."""

        def wider(values: npt.NDArray[Any], others: npt.NDArray[Any], nothing: object) -> npt.NDArray[Any]:
            behind = np.full((len(values), others.shape[1]), nothing, dtype=values.dtype)
            behind[at] = others
            return np.concatenate([values, behind], axis=1)

        own, other = self.block, more.block
        verdicts = Verdicts((0, 0), self.verdicts.names)
        verdicts.codes = wider(self.verdicts.codes, more.verdicts.codes, 0)
        unknown = np.full(other.ids.shape, np.nan)
        block = own._replace(
            ids=wider(own.ids, other.ids, NOTHING),
            scores=wider(own.scores, other.scores, np.nan),
            ranks=wider(own.ranks, other.ranks, UNRANKED),
            probability=None if own.probability is None else wider(own.probability, unknown, np.nan),
        )
        held, allowed = wider(self.held, more.held, False), wider(self.allowed, more.allowed, False)
        return Sifted(block, held, allowed, verdicts)


Mask = Callable[[Block], Bools]
"""The candidates [r, c] of a block to reject; what it says where there is none does not matter."""


class Lifted(Enum):
    """When ``relax`` lifts a filter for a row of which no candidate is left (`medi_build.mine.relaxed`)."""

    NEVER = 0
    """What it rejects is no negative, however little there is."""
    LAST = 1
    """Only if it rejects all texts that were drawn, too."""
    FIRST = 2
    """At once; drawn texts are not held to it."""


class Filter(NamedTuple):
    """One reason to reject candidates.

    Attributes:
        name: the reason; what it rejects is counted as ``rejected_{name}``.
        lifted: when ``relax`` lifts it.
        knobs: a rule that sets one of these asks for it.
        of: makes the mask for one dataset; what is the same for all of its blocks is worked out there.
    """

    name: str
    lifted: Lifted
    knobs: tuple[str, ...]
    of: Callable[[MiningContext], Mask]

    def asked(self, rule: MiningRule) -> bool:
        """Whether the rule asks for it."""
        return any(getattr(rule, knob) != MiningRule.model_fields[knob].default for knob in self.knobs)


class Ready(NamedTuple):
    """A filter that is ready for the blocks of one dataset."""

    filter: Filter
    mask: Mask


def ready_filters(context: MiningContext) -> list[Ready]:
    """Those that the rule asks for."""
    return [Ready(one, one.of(context)) for one in FILTERS if one.asked(context.run.rule)]


def those(filters: Sequence[Ready], *lifted: Lifted) -> list[Ready]:
    """Those that are lifted at these times."""
    return [one for one in filters if one.filter.lifted in lifted]


def depth(rule: MiningRule) -> int:
    """How long a ranking the rule looks at: no longer than what it takes, if it takes all that is ranked in order."""
    chosen = rule.fuses or rule.sampling_strategy == "random" or rule.cross_encoder is not None
    if chosen or any(one.asked(rule) for one in FILTERS):
        return rule.range_max
    return rule.range_min + rule.num_negatives


def ranked_to(run: Run) -> int:
    """How far candidates are ranked: as far as the rule looks, and at least `EXPLAINED` where that is to be explained.

    What is taken does not change by that.
    """
    least = EXPLAINED if run.explain is not None else 0
    return max(depth(run.rule), min(run.rule.range_max, run.rule.range_min + least))


def filtered(
    filters: Sequence[Ready], block: Block, allowed: Bools, protected: Bools, ledger: Ledger, verdicts: Verdicts
) -> Bools:
    """Which of the allowed candidates [r, c] are left.

    Args:
        filters: those that act, one after another.
        block: the candidates.
        allowed: [r, c], those that are there.
        protected: [r, c], candidates that no filter touches.
        ledger: where each counts what it removed of what those before it had left.
        verdicts: told which filter removed a candidate.
    """
    for one, mask in filters:
        bad = mask(block._replace(ids=np.where(allowed, block.ids, NOTHING)))
        allowed = reject(allowed, bad, one.name, ledger, protected, verdicts)
    return allowed


# --- what each of them rejects ----------------------------------------------------------------------------------------


def _max_score(context: MiningContext) -> Mask:
    """Nearer than the limit, or than that share of the positives is to their queries; of both the lower holds."""
    rule = context.run.rule
    limit = np.inf if rule.max_score is None else rule.max_score
    if rule.max_score_quantile is not None:
        limit = min(limit, float(np.quantile(context.positives.scores, rule.max_score_quantile)))
    return lambda block: block.scores > limit


def _length(context: MiningContext) -> Mask:
    """Much longer or shorter than the row's positive."""
    lengths, ratio = context.pairs.unique_texts.lengths(), context.run.rule.max_length_ratio
    assert ratio is not None
    return lambda block: bad_lengths(lengths[block.positives], lengths[block.ids], ratio)


def _near_duplicate(context: MiningContext) -> Mask:
    """Nearly the same as any known positive of the query."""
    pairs, limit = context.pairs, np.float32(context.run.rule.near_duplicate)
    known = Grouped.by(pairs.query_of_positive(), pairs.positives[:, 1], len(pairs.query_texts))
    return lambda block: context.likeness.nearest(block.ids, known.matrix(block.queries)) >= limit


def _guide(context: MiningContext) -> Mask:
    """Too near the query for a second encoder, which has its own prompts."""
    sides, limit = context.guide, context.run.rule.max_guide_score
    assert sides is not None
    return lambda block: sides.cosines(block.queries, block.ids) > limit


def _answer_in_passage(context: MiningContext) -> Mask:
    """Holds one of the answers of its row as a run of whole words."""
    flat, texts = flatten(context.examples, "answers"), context.pairs.unique_texts
    answers = normalized(flat.values)
    of_row = Grouped.by(flat.rows, np.arange(len(flat.rows)), context.examples.num_rows)

    def mask(block: Block) -> Bools:
        found = np.zeros(block.ids.shape, dtype=bool)
        distinct, places = np.unique(np.maximum(block.ids, 0), return_inverse=True)
        passages, places = normalized(texts.text(distinct)), places.reshape(block.ids.shape)
        for answer in of_row.matrix(block.rows).T:  # the first of each row, the second of each, ...
            row, column = np.nonzero((answer[:, None] != NOTHING) & (block.ids != NOTHING) & ~found)
            found[row, column] = with_answer(passages.gather(places[row, column]), answers.gather(answer[row]))
        return found

    return mask


def _min_score(context: MiningContext) -> Mask:
    """Further than the limit, or than that share of random texts is; of both the higher holds."""
    rule, run = context.run.rule, context.run
    limit = -np.inf if rule.min_score is None else rule.min_score
    if rule.min_score_quantile is not None:
        unrelated = random_pair_scores(context, CALIBRATION_PAIRS)
        if len(unrelated):
            limit = max(limit, float(np.quantile(unrelated, rule.min_score_quantile)))
        run.ledger.note("min_score_not_calibrated", int(not len(unrelated)))
    return lambda block: block.scores < limit


def _false_negative_probability(context: MiningContext) -> Mask:
    """Likely a positive that nobody marked; nothing, where there is no model of that."""
    limit = context.run.rule.max_false_negative_probability
    assert limit is not None

    def mask(block: Block) -> Bools:
        return np.zeros(block.ids.shape, dtype=bool) if block.probability is None else block.probability > limit

    return mask


def _margin(context: MiningContext) -> Mask:
    """Nearly as near as the query's lowest-scoring positive, or nearer."""
    rule, lowest = context.run.rule, context.positives.lowest
    return lambda block: above_margin(block.scores, lowest[block.queries], rule.relative_margin, rule.absolute_margin)


FILTERS = (
    Filter("max_score", Lifted.NEVER, ("max_score", "max_score_quantile"), _max_score),
    Filter("length", Lifted.NEVER, ("max_length_ratio",), _length),
    Filter("near_duplicate", Lifted.NEVER, ("near_duplicate",), _near_duplicate),
    Filter("guide", Lifted.NEVER, ("guide",), _guide),
    Filter("answer_in_passage", Lifted.NEVER, ("reject_answer",), _answer_in_passage),
    Filter("margin", Lifted.LAST, ("relative_margin", "absolute_margin"), _margin),
    Filter("min_score", Lifted.FIRST, ("min_score", "min_score_quantile"), _min_score),
    Filter(
        "false_negative_probability", Lifted.FIRST, ("max_false_negative_probability",), _false_negative_probability
    ),
)
"""In the order in which they act."""


# --- on arrays --------------------------------------------------------------------------------------------------------


def above_margin(scores: Floats32, lowest_positive: Floats32, relative: float | None, absolute: float | None) -> Bools:
    """Candidates that come too near the query's lowest-scoring positive.

    Relative: score > p - relative * abs(p), which for positive p is NV-Retriever's (1 - margin) x p
    (arXiv 2407.15831, section 3.2) and for negative p still lies below it. Absolute: score > p - absolute.

    Args:
        scores: [r, c].
        lowest_positive: [r].
        relative: margin as a share of the positive's score, or None.
        absolute: margin as a difference, or None.
    """
    limit = np.full(len(scores), np.inf, dtype=np.float32)
    if relative is not None:
        limit = np.minimum(limit, lowest_positive - np.float32(relative) * np.abs(lowest_positive))
    if absolute is not None:
        limit = np.minimum(limit, lowest_positive - np.float32(absolute))
    return scores > limit[:, None]


def bad_lengths(positive_lengths: Ints, lengths: Ints, ratio: float) -> Bools:
    """Candidates longer or shorter than the positive by more than the factor ``ratio``.

    Args:
        positive_lengths: [r], characters.
        lengths: [r, c], characters.
        ratio: above 1.
    """
    positive = positive_lengths[:, None]
    return (lengths > ratio * positive) | (positive > ratio * lengths)


def normalized(texts: pl.Series) -> pl.Series:
    """Lower case, words only, one space between and around them: `` in the red box ``.

    Letters of languages without blanks between words (`medi_build.search.bm25.UNSPACED`) are a word each.
    """
    apart = texts.str.to_lowercase().str.replace_all(f"([{UNSPACED}])", " ${1} ")
    words = apart.str.replace_all(r"[^\w]+", " ").str.strip_chars(" ")
    return " " + words + " "


def with_answer(passages: pl.Series, answers: pl.Series) -> Bools:
    """Whether each passage [m] has its answer [m] as a run of whole words; both come from `normalized`.

    An answer without a word character is in no passage.
    """
    frame = pl.DataFrame({"passage": passages.rename("passage"), "answer": answers.rename("answer")})
    found = frame.select(
        pl.col("passage").str.contains(pl.col("answer"), literal=True) & (pl.col("answer").str.strip_chars(" ") != "")
    )
    return found.to_series().to_numpy()


def random_pair_scores(context: MiningContext, count: int) -> Floats32:
    """Cosines of random pairs of query and candidate that are not excluded: what unrelated texts score here.

    Cosines of some encoders, the T5 family above all, are squeezed upward, so no fixed threshold fits all. Empty where
    every drawn pair is excluded.
    """
    pairs, generator = context.pairs, np.random.default_rng(context.run.seed)
    rows = generator.integers(0, len(pairs.query_texts), count)
    columns = generator.integers(0, pairs.pool, count)
    free = ~contains(pairs.excluded, rows, columns)
    return pair_scores(*context.vectors, rows[free], columns[free])

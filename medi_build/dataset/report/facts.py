"""Figures of one dataset, read from its shards: scores, margins, lengths, what repeats, and what may be wrong."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from medi_build.arrays import Bools, Floats64, Ints
from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.errors import DatasetError

SCORE_BINS = 40
"""Bins of a histogram of cosines, from -1 to 1."""
LENGTH_BINS = 24
"""Bins of a histogram of lengths: the first holds texts of one character, each further one is twice as wide as the last
but one, so that two make a doubling."""
NEAR_COPY = 0.95
"""Cosine of query and positive above which they say the same in almost the same words."""
SIDES = ("query", "positive", "negative")


@dataclass(frozen=True)
class DatasetFacts:
    """Figures of one dataset.

    Attributes:
        rows: records.
        scored: records whose positive and negative have a score.
        positive_scores: int64 [SCORE_BINS], records by the cosine of query and positive.
        negative_scores: int64 [SCORE_BINS], by that of query and negative.
        margins: int64 [SCORE_BINS], by the first less the second, cut to -1..1.
        mean_margin: NaN where nothing is scored.
        lengths: side -> int64 [LENGTH_BINS], texts by their number of characters.
        median_lengths: side -> characters.
        negative_above: records whose negative is at least as near to the query as the positive.
        near_copies: records whose positive is a near copy of the query.
        possible_false_negatives: records that must not share a batch with some others' positives.
        repeated_queries: records whose query stands in an earlier record of the dataset, too.
        miners: miner -> records.
        looked: records whose queries were compared with each other.
        alike: those of them whose query is nearly the same as another one of them.
    """

    rows: int
    scored: int
    positive_scores: Ints
    negative_scores: Ints
    margins: Ints
    mean_margin: float
    lengths: dict[str, Ints]
    median_lengths: dict[str, int]
    negative_above: int
    near_copies: int
    possible_false_negatives: int
    repeated_queries: int
    miners: dict[str, int]
    looked: int
    alike: int

    def share(self, count: int) -> float:
        """A number of records as a part of all; 0 where there are none."""
        return count / self.rows if self.rows else 0.0


def slim(built: BuiltDataset, entry: DatasetEntry) -> pl.DataFrame:
    """What the figures need of each record, a few bytes each.

    Returns:
        ``positive_score`` and ``negative_score`` (float32), the characters of each of `SIDES` (uint32), ``others`` (how
        many possible false negatives), ``miner``, ``query_hash`` (uint64), in the order of the records.

    Raises:
        DatasetError: a shard cannot be read.
    """
    text = {side: pl.col(column).list.get(1) for side, column in zip(SIDES, ("query", "pos", "neg"), strict=True)}
    columns = (
        pl.col("pos_score").alias("positive_score"),
        pl.col("neg_score").alias("negative_score"),
        *(text[side].str.len_chars().alias(side) for side in SIDES),
        pl.col("possible_false_negative_ids").list.len().alias("others"),
        pl.col("miner").cast(pl.Categorical),
        text["query"].hash(seed=0).alias("query_hash"),
    )
    try:
        parts = [pl.scan_parquet(path, glob=False).select(columns).collect() for path in built.shards_of(entry)]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{entry.name}: a shard cannot be read ({error}); build or copy it again") from error
    return pl.concat(parts) if parts else _NONE.select(columns)


_NONE = pl.DataFrame(
    schema={
        **{name: pl.List(pl.String) for name in ("query", "pos", "neg", "possible_false_negative_ids")},
        **dict.fromkeys(("pos_score", "neg_score"), pl.Float32),
        "miner": pl.String,
    }
)


def facts(records: pl.DataFrame, alike: Bools) -> DatasetFacts:
    """The figures of the records of a dataset.

    Args:
        records: as `slim` gives them.
        alike: of the queries that were compared with each other, which are nearly the same as another.
    """
    positive, negative = (records[f"{side}_score"].to_numpy().astype(np.float64) for side in ("positive", "negative"))
    scored = ~(np.isnan(positive) | np.isnan(negative))
    margin = positive[scored] - negative[scored]
    counted = records["miner"].value_counts(sort=True)
    return DatasetFacts(
        rows=len(records),
        scored=int(scored.sum()),
        positive_scores=_histogram(positive),
        negative_scores=_histogram(negative),
        margins=_histogram(margin),
        mean_margin=float(margin.mean()) if len(margin) else float("nan"),
        lengths={side: _length_histogram(records[side].to_numpy()) for side in SIDES},
        median_lengths={side: int(records[side].median() or 0) for side in SIDES},  # type: ignore[arg-type]
        negative_above=int((margin <= 0).sum()),
        near_copies=int((positive > NEAR_COPY).sum()),
        possible_false_negatives=int((records["others"] > 0).sum()),
        repeated_queries=len(records) - records["query_hash"].n_unique(),
        miners=dict(sorted(zip(counted["miner"].cast(pl.String), counted["count"], strict=True))),
        looked=len(alike),
        alike=int(alike.sum()),
    )


def _histogram(scores: Floats64) -> Ints:
    known = scores[~np.isnan(scores)]
    return np.histogram(np.clip(known, -1, 1), bins=SCORE_BINS, range=(-1, 1))[0]


def _length_histogram(lengths: Ints) -> Ints:
    places = np.minimum(2 * np.log2(np.maximum(lengths, 1)), LENGTH_BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=LENGTH_BINS)

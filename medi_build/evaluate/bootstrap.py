"""A metric computed again on items drawn with replacement, the same draws for every model."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from medi_build.arrays import Floats64, Ints
from medi_build.evaluate.results import Statistic

LEVEL = 0.95
_VALUES_PER_STEP = 1 << 22
"""Drawn values that are held at a time."""


def resample(items: Sequence[pa.Table], statistic: Statistic, samples: int, seed: int) -> Floats64:
    """The metric of each model on each of many draws.

    Args:
        items: of each model, as `results.items_table` makes them: the same ids in the same order, with `gold` where
            the statistic is a correlation.
        statistic: what makes the metric of the items.
        samples: draws of as many items as there are, with replacement.
        seed: of the draws.

    Returns:
        float64 [models, samples]; NaN where a correlation has no value, as nothing varies.
    """
    values = np.stack([table["value"].to_numpy() for table in items])
    gold = None if statistic == "mean" else items[0]["gold"].to_numpy()
    found = np.empty((len(items), samples))
    start = 0
    for rows in _draws(values.shape[1], samples, seed):
        stop = start + len(rows)
        for model, own in enumerate(values):
            if gold is None:
                found[model, start:stop] = own[rows].mean(axis=1)
            else:
                found[model, start:stop] = _correlation(own[rows], gold[rows], ranks=statistic == "spearman")
        start = stop
    return found


def _draws(count: int, samples: int, seed: int) -> Iterator[Ints]:
    """Row numbers [some samples, count], again and again."""
    random = np.random.default_rng(seed)
    step = max(1, _VALUES_PER_STEP // count)
    for start in range(0, samples, step):
        yield random.integers(0, count, (min(step, samples - start), count))


def _correlation(left: Floats64, right: Floats64, *, ranks: bool) -> Floats64:
    """Pearson's correlation of each row of two arrays [samples, items], or Spearman's: that of the ranks."""
    if ranks:
        left, right = rankdata(left, axis=1), rankdata(right, axis=1)
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats64 = (left * right).sum(axis=1) / np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    return found


def interval(differences: Floats64) -> tuple[float, float]:
    """Bounds of the percentile interval at `LEVEL`; draws without a value are left out."""
    low, high = np.nanquantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

"""Which rows of one dataset were added, removed and changed, by record id and by field.

A row is compared by a 64-bit hash of each field: of a billion rows that did change, one is taken for the same with
probability 5e-11, and of 10M ids two share a hash with probability 3e-6. Scores are compared as numbers, see
`SCORE_TOLERANCE`. How rows are ordered and cut into shards does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from medi_build.errors import DatasetError

SCORE_TOLERANCE = 1e-3
"""Scores that are nearer than this are the same: another processor or library version changes the last digits."""
EXAMPLES_OF_DATASET = 3
"""Places that are kept of each kind of change."""

_PARTS = {
    "query_instruction": ("query", 0),
    "query": ("query", 1),
    "pos_instruction": ("pos", 0),
    "pos": ("pos", 1),
    "neg_instruction": ("neg", 0),
    "neg": ("neg", 1),
}
"""Fields that are one of the two texts of a column."""
_SCORES = ("pos_score", "neg_score", "hard_negative_scores")
_GROUPS = {
    "ranks": ("neg_rank", "hard_negative_ranks"),
    "scores": _SCORES,
    "source": ("source_file", "source_row"),
}
"""Fields that are several columns."""
_COLUMNS = ("pos_id", "neg_id", "hard_negatives", "possible_false_negative_ids", "labels", "groups", "miner")
FIELDS = (*_PARTS, *_COLUMNS, *_GROUPS)
"""What of a row may change, in the order in which it is told; ``source`` only where it is asked for."""
NEGATIVES = ("neg", "hard_negatives")
"""A row whose texts here are others has other negatives."""
_NOT_SCORED = 1e30
"""In the place of NaN, so that two of them are the same."""


@dataclass(frozen=True)
class Places:
    """Where a row stands: numbers from 0 over the shards that were compared, None where it is not there."""

    old: int | None
    new: int | None


@dataclass(frozen=True)
class RowChanges:
    """What became of the rows of one dataset.

    Attributes:
        added: rows whose ids are new.
        removed: rows whose ids are gone.
        changed: rows with the same id and another value in some field.
        fields: field -> changed rows in which it is another one; fields without a change are not named.
        other_negatives: rows with the same id and another ``neg`` or other ``hard_negatives``.
        examples: "added", "removed" or a field -> the first rows of that kind, at most `EXAMPLES_OF_DATASET`.
    """

    added: int
    removed: int
    changed: int
    fields: Mapping[str, int]
    other_negatives: int
    examples: Mapping[str, Sequence[Places]]


UNCHANGED = RowChanges(0, 0, 0, {}, 0, {})


def row_changes(
    old: Sequence[Path], new: Sequence[Path], provenance: bool = False, only: str | None = None
) -> RowChanges:
    """Compare the rows of some shards; memory grows by some 150 bytes a row.

    An id that stands several times in a dataset stands for several rows: those that are alike on both sides are the
    same, the others are paired in their order.

    Args:
        old: shards of schema ``RECORDS``.
        new: likewise.
        provenance: also compare ``source_file`` and ``source_row``.
        only: id of the one record to look at; None for all.

    Raises:
        DatasetError: a shard cannot be read, or is not of that schema.
    """
    fields = [name for name in FIELDS if provenance or name != "source"]
    before, after = (_hashed(side, fields, only) for side in (old, new))
    repeats = any(side["id"].n_unique() < side.height for side in (before, after))
    before, after = (_counted(side, ["id", "row"], repeats) for side in (before, after))
    same = ["id", "row", "nth"]
    gone, come = before.join(after, on=same, how="anti"), after.join(before, on=same, how="anti")
    gone, come = (_counted(side.sort("place"), ["id"], repeats) for side in (gone, come))
    removed = gone.join(come, on=["id", "nth"], how="anti").sort("place")
    added = come.join(gone, on=["id", "nth"], how="anti").sort("place")
    pairs = gone.join(come, on=["id", "nth"], suffix="_new")
    differ = pairs.select("place", "place_new", *(_differs(name).alias(name) for name in fields)).sort("place")
    changed = differ.filter(pl.any_horizontal(fields))
    examples = {
        "added": [Places(None, place) for place in added["place"].head(EXAMPLES_OF_DATASET).to_list()],
        "removed": [Places(place, None) for place in removed["place"].head(EXAMPLES_OF_DATASET).to_list()],
    }
    for name in fields:
        rows = changed.filter(name).select("place", "place_new").head(EXAMPLES_OF_DATASET).rows()
        examples[name] = [Places(*row) for row in rows]
    return RowChanges(
        added=added.height,
        removed=removed.height,
        changed=changed.height,
        fields={name: count for name in fields if (count := int(changed[name].sum()))},
        other_negatives=changed.filter(pl.any_horizontal(NEGATIVES)).height,
        examples={kind: places for kind, places in examples.items() if places},
    )


def count_possible_false_negatives(shards: Sequence[Path]) -> int:
    """Rows with ``possible_false_negative_ids``; reads that column alone. Raises `DatasetError` as `row_changes`."""
    if not shards:
        return 0
    with_some = pl.col("possible_false_negative_ids").list.len() > 0
    return int(collected(pl.scan_parquet(list(shards)).select(with_some.sum())).item())


def value_of(record: Mapping[str, Any], field: str) -> Any:
    """What a record has in a field of `FIELDS`; a dict where the field is several columns."""
    if field in _PARTS:
        column, part = _PARTS[field]
        return record[column][part]
    return {name: record[name] for name in _GROUPS[field]} if field in _GROUPS else record[field]


def _hashed(shards: Sequence[Path], fields: Sequence[str], only: str | None) -> pl.DataFrame:
    """A row for each record: ``place``, ``id``, a hash for each field and of all of them (``row``), and the scores."""
    lazy = pl.scan_parquet(list(shards), row_index_name="place") if shards else _nothing()
    if only is not None:
        lazy = lazy.filter(pl.col("id") == only)
    hashes = [_field(name).hash().alias(name) for name in fields]
    scores = [pl.col(name) for name in _SCORES]
    columns = lazy.select("place", pl.col("id").hash(), *hashes, *scores)
    return collected(columns.with_columns(row=pl.struct(fields).hash()))


def _nothing() -> pl.LazyFrame:
    """No records, in the columns that are looked at."""
    texts = {name: pl.List(pl.String) for name in ("query", "pos", "neg", *_COLUMNS)}
    singles = dict.fromkeys(("id", "pos_id", "neg_id", "miner", "source_file"), pl.String)
    numbers = {"place": pl.UInt32, "source_row": pl.Int64, "neg_rank": pl.Int32, "pos_score": pl.Float32}
    lists = {"hard_negative_ranks": pl.List(pl.Int32), "hard_negative_scores": pl.List(pl.Float32)}
    return pl.LazyFrame(schema={**texts, **singles, **numbers, **lists, "neg_score": pl.Float32})


def _field(name: str) -> pl.Expr:
    if name in _PARTS:
        column, part = _PARTS[name]
        return pl.col(column).list.get(part, null_on_oob=True)
    return pl.struct(_GROUPS[name]) if name in _GROUPS else pl.col(name)


def _counted(side: pl.DataFrame, keys: Sequence[str], repeats: bool) -> pl.DataFrame:
    """Number rows of equal keys from 0 as ``nth``; without repeats all are 0."""
    nth = pl.int_range(pl.len(), dtype=pl.Int64).over(keys) if repeats else pl.lit(0, pl.Int64)
    return side.with_columns(nth=nth)


def _differs(field: str) -> pl.Expr:
    if field != "scores":
        return pl.col(field) != pl.col(f"{field}_new")
    return pl.any_horizontal(_far(name, name in ("pos_score", "neg_score")) for name in _SCORES)


def _far(column: str, single: bool) -> pl.Expr:
    """Whether two scores, or lists of them, are not the same within `SCORE_TOLERANCE`."""
    old, new = pl.col(column), pl.col(f"{column}_new")
    if single:
        return (old.fill_nan(_NOT_SCORED) - new.fill_nan(_NOT_SCORED)).abs() >= SCORE_TOLERANCE
    alike = old.list.len() == new.list.len()
    sides = [
        side.list.eval(pl.element().fill_nan(_NOT_SCORED)) for side in (old, pl.when(alike).then(new).otherwise(old))
    ]
    most = (sides[0] - sides[1]).list.eval(pl.element().abs()).list.max()
    return ~alike | (most.fill_null(0.0) >= SCORE_TOLERANCE)


def collected(lazy: pl.LazyFrame) -> pl.DataFrame:
    """What shards were asked for. Raises `DatasetError` where one cannot be read, or has other columns."""
    try:
        return lazy.collect(engine="streaming")
    except pl.exceptions.ColumnNotFoundError as error:
        raise DatasetError(
            f"a shard has other columns than this version of medi writes ({error}); build it again"
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(
            f"a shard cannot be read to its end ({error}); `medi verify` says which one; build or copy it again"
        ) from error

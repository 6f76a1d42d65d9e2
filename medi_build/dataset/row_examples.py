"""Rows shown as examples of what changed, read again from where they stand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from medi_build.dataset.row_changes import FIELDS, Places, RowChanges, collected, value_of

EXAMPLES = 3
"""Of each kind of change, over all datasets."""


class Example(NamedTuple):
    """A row of some kind of change.

    Attributes:
        kind: "added", "removed" or the field that changed.
        dataset: its name.
        id: of the record.
        old: the value of the field; of a removed row the whole record; None of an added one.
        new: likewise.
    """

    kind: str
    dataset: str
    id: str
    old: Any
    new: Any


class Compared(NamedTuple):
    """Rows that were compared, and the shards in which their places are counted."""

    changes: RowChanges
    old: Sequence[Path]
    new: Sequence[Path]


def examples(compared: Mapping[str, Compared]) -> list[Example]:
    """Of each kind the first row of each dataset, then the second of each, until there are `EXAMPLES`.

    Raises:
        DatasetError: a shard cannot be read.
    """
    found = []
    for kind in ("added", "removed", *FIELDS):
        rows = [
            (turn, number, name)
            for number, (name, one) in enumerate(compared.items())
            for turn in range(len(one.changes.examples.get(kind, ())))
        ]
        for turn, _, name in sorted(rows)[:EXAMPLES]:
            found.append(_example(kind, name, compared[name], compared[name].changes.examples[kind][turn]))
    return found


def record_at(shards: Sequence[Path], place: int) -> dict[str, Any]:
    """The record with this number, from 0 over all the shards; reads one row group. Raises `DatasetError`."""
    return collected(pl.scan_parquet(list(shards)).slice(place, 1)).row(0, named=True)


def _example(kind: str, name: str, compared: Compared, places: Places) -> Example:
    old = None if places.old is None else record_at(compared.old, places.old)
    new = None if places.new is None else record_at(compared.new, places.new)
    if old is not None and new is not None:
        return Example(kind, name, old["id"], value_of(old, kind), value_of(new, kind))
    return Example(kind, name, (old or new or {})["id"], old, new)

"""What differs between two built datasets: rows by id and field, facts of the manifests, datasets that came or went."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medi_build.dataset.fact_changes import FactChange, dataset_changes, setting_changes
from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.dataset.row_changes import FIELDS, UNCHANGED, RowChanges, count_possible_false_negatives, row_changes
from medi_build.dataset.row_examples import Compared, Example, examples
from medi_build.ledger import Ledger

Status = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Counts:
    """Figures of one dataset, or of a whole build, on one side.

    Attributes:
        rows: records.
        read: raw rows that went in.
        dropped: raw rows that were lost on the way, by the ledger.
        false_negatives: records with ``possible_false_negative_ids``; None where shards were not read.
        length_auc: how well lengths alone tell positive from negative; None where that was not measured.
    """

    rows: int
    read: int
    dropped: int
    false_negatives: int | None = None
    length_auc: float | None = None


@dataclass(frozen=True)
class DatasetDifference:
    """One dataset that is not the same on both sides.

    Attributes:
        name: of the dataset.
        status: whether it is on both sides.
        old: None where it was added.
        new: None where it was removed.
        rows: what became of its rows; None where it is on one side only.
        facts: what the manifests say differently of it.
    """

    name: str
    status: Status
    old: Counts | None
    new: Counts | None
    rows: RowChanges | None
    facts: Sequence[FactChange]


@dataclass(frozen=True)
class Difference:
    """What differs between two built datasets.

    Attributes:
        old: figures of the whole first one.
        new: of the second.
        datasets: that are not the same, in the order of the second one, then those that went.
        equal: how many are the same.
        settings: of the build that are others.
        examples: of each kind of change at most three rows, of different datasets if there are.
    """

    old: Counts
    new: Counts
    datasets: Sequence[DatasetDifference]
    equal: int
    settings: Sequence[FactChange]
    examples: Sequence[Example]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.datasets and not self.settings

    def fields(self) -> dict[str, int]:
        """Field -> rows of all datasets in which it changed."""
        total: Counter[str] = Counter()
        for one in self.datasets:
            total.update(one.rows.fields if one.rows else {})
        return {name: total[name] for name in FIELDS if name in total}


def diff(old: BuiltDataset, new: BuiltDataset, provenance: bool = False) -> Difference:
    """Compare two built datasets; a shard that is on both sides by its sha256 is not read.

    Args:
        old: the first one.
        new: the second one.
        provenance: also compare the raw file and row that a record came from.

    Raises:
        DatasetError: a shard cannot be read.
    """
    before = {one.name: one for one in old.manifest.datasets}
    found: list[DatasetDifference] = []
    compared: dict[str, Compared] = {}
    for entry in new.manifest.datasets:
        known = before.pop(entry.name, None)
        if known is None:
            found.append(DatasetDifference(entry.name, "added", None, _counts(entry), None, ()))
            continue
        rows, facts = compare_dataset((old, new), (known, entry), provenance), dataset_changes(known, entry)
        if facts or rows.changes != UNCHANGED:
            compared[entry.name] = rows
            possible = [
                count_possible_false_negatives(side.shards_of(one)) if rows.old or rows.new else None
                for side, one in ((old, known), (new, entry))
            ]
            counts = _counts(known, possible[0]), _counts(entry, possible[1])
            found.append(DatasetDifference(entry.name, "changed", *counts, rows.changes, facts))
    gone = [DatasetDifference(name, "removed", _counts(one), None, None, ()) for name, one in before.items()]
    return Difference(
        old=_total(old),
        new=_total(new),
        datasets=[*found, *gone],
        equal=len(new.manifest.datasets) - len(found),
        settings=setting_changes(old.manifest, new.manifest),
        examples=examples(compared),
    )


def compare_dataset(
    sides: Sequence[BuiltDataset], entries: Sequence[DatasetEntry], provenance: bool = False, only: str | None = None
) -> Compared:
    """The rows of a dataset that is on both sides, or only one of them by its id; shards that both have are not read.

    Args:
        sides: old and new.
        entries: the dataset there.
        provenance: also compare the raw file and row that a record came from.
        only: id of the one record to look at; None for all.

    Raises:
        DatasetError: a shard cannot be read.
    """
    both = Counter(one.sha256 for one in entries[0].shards) & Counter(one.sha256 for one in entries[1].shards)
    old, new = (_without(both, side.shards_of(entry), entry) for side, entry in zip(sides, entries, strict=True))
    return Compared(row_changes(old, new, provenance, only) if old or new else UNCHANGED, old, new)


def _without(both: Counter[str], shards: Sequence[Path], entry: DatasetEntry) -> list[Path]:
    """Shards by their digest, as often as this side has them more often than both do."""
    left, rest = both.copy(), []
    for shard, path in zip(entry.shards, shards, strict=True):
        if left[shard.sha256]:
            left[shard.sha256] -= 1
        else:
            rest.append(path)
    return rest


def _counts(entry: DatasetEntry, false_negatives: int | None = None) -> Counts:
    ledger = Ledger.from_dict(entry.ledger)
    dropped = ledger.dropped_in(*ledger.dropped)
    return Counts(entry.rows, ledger.read, dropped, false_negatives, ledger.measures.get("length_auc"))


def _total(dataset: BuiltDataset) -> Counts:
    every = [_counts(one) for one in dataset.manifest.datasets]
    return Counts(dataset.manifest.rows, sum(one.read for one in every), sum(one.dropped for one in every))


def to_dict(difference: Difference) -> dict[str, Any]:
    """Plain data; places of rows, which only this module needs, are left out."""
    datasets = []
    for one in difference.datasets:
        rows = asdict(one.rows) if one.rows else None
        if rows:
            del rows["examples"]
        facts = [fact._asdict() for fact in one.facts]
        datasets.append({**asdict(one), "rows": rows, "facts": facts})
    return {
        "same": difference.same,
        "old": asdict(difference.old),
        "new": asdict(difference.new),
        "equal": difference.equal,
        "datasets": datasets,
        "settings": [one._asdict() for one in difference.settings],
        "examples": [one._asdict() for one in difference.examples],
    }

"""Which datasets of a build go out, and under which names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from medi_build.dataset.reader import DatasetEntry

Policy = Literal["any", "commercial"]
WHOLE = "default"
"""The configuration of all datasets together; no subset may have its name."""


class Choice(NamedTuple):
    """What a licence policy makes of a build; datasets without a record are in neither list."""

    kept: list[DatasetEntry]
    left_out: list[DatasetEntry]


def choose(datasets: Sequence[DatasetEntry], policy: Policy) -> Choice:
    """Split the datasets; ``commercial`` keeps those whose licence is known to allow commercial use."""
    kept: list[DatasetEntry] = []
    left_out: list[DatasetEntry] = []
    for entry in datasets:
        if entry.rows:
            (kept if policy == "any" or entry.commercial_use == "allowed" else left_out).append(entry)
    return Choice(kept, left_out)


def subset_names(datasets: Iterable[DatasetEntry]) -> list[str]:
    """A name for each dataset that a folder and a configuration of ``load_dataset`` may have: ``kilt_nq``.

    Where two datasets would get the same one, each has its task id behind it. Names of a whole build, so that what
    a policy leaves out renames nothing.
    """
    entries = list(datasets)
    plain = [entry.name.replace("/", "_") for entry in entries]
    seen = Counter([WHOLE, *(name.lower() for name in plain)])  # some disks know no case
    return [
        name if seen[name.lower()] == 1 else f"{name}-{entry.task_id:05d}"
        for name, entry in zip(plain, entries, strict=True)
    ]

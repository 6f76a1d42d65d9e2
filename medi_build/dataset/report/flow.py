"""Where the raw rows went: from what was read, stage by stage, to the records."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medi_build.dataset.reader import DatasetEntry

STAGES = {
    "adapt": "could not be read as an example",
    "sample": "left out by a cap, a licence or the evaluation texts",
    "mine": "found no positive or no negative",
    "write": "left out of the files",
    "purge": "taken out later",
}
"""Stage of the ledger -> what was lost there, in the order of a build."""


@dataclass(frozen=True)
class Step:
    """What a stage took away.

    Attributes:
        stage: its name in the ledger.
        what: in words.
        before: rows that reached it.
        lost: rows that it took away.
        reasons: the reasons and their rows, the largest first.
    """

    stage: str
    what: str
    before: int
    lost: int
    reasons: Sequence[tuple[str, int]]


def flow(datasets: Sequence[DatasetEntry]) -> list[Step]:
    """The stages of all datasets together, those that lost nothing left out."""
    dropped: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
    for one in datasets:
        for stage, reasons in one.ledger["dropped"].items():
            dropped.setdefault(stage, Counter()).update(reasons)
    steps, left = [], sum(one.ledger["read"] for one in datasets)
    for stage, reasons in dropped.items():
        lost = reasons.total()
        if lost:
            steps.append(Step(stage, STAGES.get(stage, stage), left, lost, reasons.most_common()))
        left -= lost
    return steps

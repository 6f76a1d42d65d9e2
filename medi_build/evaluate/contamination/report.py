"""`medi contamination` from sources to one report."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medi_build.evaluate.contamination.against import ReadSet, batches, open_against
from medi_build.evaluate.contamination.index import open_index, write_index
from medi_build.evaluate.contamination.match import KINDS
from medi_build.evaluate.contamination.records import SIDES, open_records
from medi_build.evaluate.contamination.scan import Counts, Scan, scan

Stage = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and of how much, if that is known."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        source: the records.
        against: the evaluation sets, whose numbers are their places here.
        found: counts and examples.
    """

    source: str
    against: Sequence[ReadSet]
    found: Scan

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what was checked, and an entry for each dataset and evaluation set with hits."""
        datasets = self.found.datasets
        return {
            "schema_version": 1,
            "source": self.source,
            "records": sum(one.records for one in datasets.values()),
            "records_hit": sum(one.hit for one in datasets.values()),
            "texts": self.found.texts,
            "different_texts": self.found.different_texts,
            "against": [vars(one) for one in self.against],
            "datasets": {name: {"records": one.records, "records_hit": one.hit} for name, one in datasets.items()},
            "hits": [
                {"dataset": name, "against": self.against[number].name, **_plain(counts, one.records)}
                for name, one in datasets.items()
                for number, counts in sorted(one.by_set.items())
            ],
        }


def _plain(counts: Counts, records: int) -> dict[str, Any]:
    return {
        "records": counts.records,
        "share": counts.records / records,
        "by_kind": {kind: counts.kinds[kind] for kind in KINDS},
        "by_side": {side: counts.sides[side] for side in SIDES},
        "examples": [
            {"kind": kind, **example._asdict()} for kind in KINDS for example in counts.examples.get(kind, ())
        ],
    }


def contamination(source: Path, against: Sequence[str], stage: Stage = lambda *_: None) -> Report:
    """Find the records that hold text of evaluations.

    Args:
        source: a built folder, or a file of records.
        against: as for `open_against`.
        stage: told how far it is.

    Raises:
        EvaluationError: there is no such source or evaluation set, or one has no text.
        DatasetError: the folder is not whole.
        InputError: a file cannot be read, or holds something else.
    """
    records = open_records(source)
    sets = open_against(against)
    with tempfile.TemporaryDirectory(prefix="medi-contamination-") as folder:
        read: list[ReadSet] = []
        write_index(batches(sets, read), Path(folder), lambda done: stage("evaluation texts", done, None))
        index = open_index(Path(folder))
        found = scan(index, records.blocks, lambda done: stage("records", done, records.total))
        del index  # some systems remove no file that is mapped
    return Report(str(source), read, found)

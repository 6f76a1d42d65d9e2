"""Why a record has its negatives: the record, and what was looked at for it."""

from dataclasses import dataclass
from typing import Any

from medi_build.dataset.blame import Blame, blame, datasets_of
from medi_build.dataset.explanations import Candidate, explained, has_explanations
from medi_build.dataset.reader import BuiltDataset
from medi_build.errors import DatasetError


@dataclass(frozen=True)
class Explanation:
    """Why a record has its negatives.

    Attributes:
        record_id: its id.
        found: the record; None for a row of which no record was made.
        candidates: what was looked at, in the order of rank.
    """

    record_id: str
    found: Blame | None
    candidates: list[Candidate]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        about = {"id": self.record_id} if self.found is None else self.found.to_dict()
        return {**about, "candidates": [one.to_dict() for one in self.candidates]}


def explain(dataset: BuiltDataset, record_id: str) -> Explanation:
    """Find a record and what was looked at for it.

    Raises:
        DatasetError: there is no such record and no such row, or its dataset was built without explanations.
    """
    try:
        found = blame(dataset, record_id)
    except DatasetError:
        for entry in datasets_of(dataset, record_id):
            if has_explanations(dataset, entry) and (candidates := explained(dataset, entry, record_id)) is not None:
                return Explanation(record_id, None, candidates)
        raise
    told = explained(dataset, found.dataset, record_id)
    if told is None:
        raise DatasetError(f"{record_id}: its dataset's explanations do not tell of it; build again with --explain")
    return Explanation(record_id, found, told)

"""The file of marks while the pages are open: read once, written whole after each change."""

import threading
from datetime import UTC, datetime
from pathlib import Path

from medi_build.dataset.marks import Mark, read_marks, write_marks


class MarksFile:
    """Marks in the order in which they were made.

    What others write into the file meanwhile is read before each change, so that nothing of it is lost.
    """

    def __init__(self, path: Path) -> None:
        """Raises `InputError` if the file is there and holds something else than marks."""
        self.path = path
        self._lock = threading.Lock()
        self._marks = self._read()

    def __len__(self) -> int:
        return len(self._marks)

    def of(self, record_id: str) -> dict[str, Mark]:
        """The marks of a record, by what they mark."""
        return {one.neg: one for one in self._marks if one.id == record_id}

    def marked(self) -> set[str]:
        """The ids of all records that have a mark."""
        return {one.id for one in self._marks}

    def add(self, mark: Mark) -> None:
        """Mark something; a mark of the same is replaced. Raises `OutputError`."""
        self._change(mark.id, mark.neg, [mark])

    def remove(self, record_id: str, neg: str) -> None:
        """Take a mark back. Raises `OutputError`."""
        self._change(record_id, neg, [])

    def _change(self, record_id: str, neg: str, new: list[Mark]) -> None:
        with self._lock:
            kept = [one for one in self._read() if (one.id, one.neg) != (record_id, neg)]
            write_marks(self.path, [*kept, *new])
            self._marks = [*kept, *new]

    def _read(self) -> list[Mark]:
        return read_marks(self.path) if self.path.exists() else []


def now() -> str:
    """The time of a mark."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""The output folder: who may use it, what is finished in it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import ValidationError

from medi_build.dataset.reader import Manifest, open_dataset
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.schema import MANIFEST, REPORT
from medi_build.errors import DatasetError, OutputError
from medi_build.files import FileEntry, remove_left_behind, write_bytes


class OutputFolder:
    """A folder that holds one build, finished or not.

    ``.medi/receipts`` says which datasets are finished, ``.medi/work`` holds what is being made, ``manifest.json``
    exists only while the whole dataset is complete.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / ".medi" / "work"

    def receipt(self, task_id: int, fingerprint: str) -> Receipt | None:
        """The receipt of a dataset if it was finished with the same fingerprint and its files are intact."""
        try:
            receipt = Receipt.model_validate_json(self._receipt_path(task_id).read_bytes())
        except (OSError, ValidationError):
            return None
        return receipt if receipt.fingerprint == fingerprint and self.is_intact(receipt) else None

    def receipts(self) -> list[Receipt]:
        """Those of all datasets that were finished, whatever became of their files, in the order of task ids."""
        found = []
        for path in sorted((self.root / ".medi" / "receipts").glob("*.json")):
            with suppress(OSError, ValidationError):
                found.append(Receipt.model_validate_json(path.read_bytes()))
        return found

    def is_intact(self, receipt: Receipt) -> bool:
        """Whether its files are there, of the size that they had, the shards with all their rows."""
        return all(map(self._intact, receipt.files))

    def commit(self, receipt: Receipt) -> None:
        """Declare a dataset finished."""
        path = self._receipt_path(receipt.task_id)
        write_bytes(path, receipt.model_dump_json(indent=1).encode() + b"\n", self.root)

    def forget(self, task_id: int) -> None:
        """Declare a dataset unfinished, before its files change."""
        self._receipt_path(task_id).unlink(missing_ok=True)

    def invalidate(self) -> None:
        """Remove what would make a folder under change look complete, and the page about what was in it."""
        for name in (MANIFEST, "medi-data.json", REPORT):
            (self.root / name).unlink(missing_ok=True)

    def finished(self) -> Manifest | None:
        """The manifest of a finished build whose files are all there, else None."""
        try:
            return open_dataset(self.root).manifest
        except DatasetError:
            return None

    def remove_ignored(self, receipts: Sequence[Receipt]) -> None:
        """Delete shards and parts of datasets that an earlier build in this folder had and this one has not."""
        ours = {file.path for r in receipts for file in r.files}
        ours |= {self._receipt_path(r.task_id).relative_to(self.root).as_posix() for r in receipts}
        for folder in ("data", "explain", ".medi/json", ".medi/receipts"):
            for path in sorted((self.root / folder).glob("*")):
                if path.relative_to(self.root).as_posix() not in ours:
                    path.unlink()

    def _receipt_path(self, task_id: int) -> Path:
        return self.root / ".medi" / "receipts" / f"{task_id:05d}.json"

    def _intact(self, file: FileEntry) -> bool:
        path = self.root / file.path
        try:
            if path.stat().st_size != file.size:
                return False
            return path.suffix != ".parquet" or pq.read_metadata(path).num_rows == file.rows
        except (OSError, pa.ArrowException):
            return False


@contextmanager
def open_output(root: Path) -> Iterator[OutputFolder]:
    """Take an output folder for one build.

    Raises:
        OutputError: the folder holds something else, cannot be written, or another build runs in it.
    """
    folder = OutputFolder(root)
    lock = FileLock(root / ".medi" / "lock", timeout=0)
    try:
        _check_contents(root)
        folder.work.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        shutil.rmtree(folder.work)
        folder.work.mkdir()
        remove_left_behind(root)
    except Timeout as error:
        raise OutputError(
            f"--out {root}: another build is running in it; wait for it or choose another folder"
        ) from error
    except OSError as error:
        lock.release()
        raise OutputError(
            f"--out {root}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder.work, ignore_errors=True)
        lock.release()


def _check_contents(root: Path) -> None:
    """Raise `OutputError` unless ``root`` is new, empty or of an earlier build."""
    if root.exists() and not root.is_dir():
        raise OutputError(f"--out {root}: is a file; give a folder that is empty or holds an earlier build")
    if root.is_dir() and any(root.iterdir()) and not (root / ".medi").is_dir():
        names = sorted(path.name for path in root.iterdir())
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise OutputError(
            f"--out {root}: holds something else ({some}); give a folder that is empty, new or holds an earlier build"
        )

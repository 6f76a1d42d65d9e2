"""Files that are either whole or not there: temporary name, fsync, rename. And what identifies a file: its digest."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson
from pydantic import BaseModel, ConfigDict

from medi_build.errors import OutputError


class FileEntry(BaseModel):
    """A finished file, as receipts and the manifest list it.

    Attributes:
        path: relative to the output folder, with forward slashes.
        rows: records in it (0 where the notion does not apply).
        size: bytes.
        sha256: hex digest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    rows: int = 0
    size: int
    sha256: str


class HashingFile:
    """A binary file that is being written under a temporary name."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Append bytes."""
        view = memoryview(data)
        self._digest.update(view)
        self._file.write(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written so far (Arrow asks for it)."""
        return self.size

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``: what is written there, file or folder, gets the name ``path`` at the end.

    Only if the block ends without an error, and then durably; else nothing stays behind.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        with suppress(OSError):  # it may lie below a file, or on a disk that went away
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)


def remove_left_behind(folder: Path, name: str = "*") -> None:
    """Remove what processes that were killed have left in a folder under temporary names (see `replacing`).

    Args:
        folder: need not be there. It has to be one that processes of this machine alone write into.
        name: of the files and folders that they were writing; a glob.
    """
    for temporary in folder.glob(f".{name}.*.tmp"):
        pid = temporary.name.split(".")[-2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            if temporary.is_dir() and not temporary.is_symlink():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                with suppress(OSError):
                    temporary.unlink()


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # there a signal 0 would end it, and a file that is open cannot be removed
        return pid == os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def move_into(finished: Path, folder: Path, last: Sequence[str]) -> None:
    """Move the files of a folder that is written to its end into another, in which more may lie, durably.

    Args:
        finished: empty folders stay in it.
        folder: made if it is not there; files of the same names are replaced.
        last: names of files without which no reader takes the folder for anything. What is there of them is removed
            before a file changes, from the last name to the first, and they are moved behind all others, in this order.

    Raises:
        OSError: a file cannot be moved; the folder is then without those of ``last``.
    """
    names = sorted(path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file())
    for name in reversed(last):
        (folder / name).unlink(missing_ok=True)
    for name in [*(name for name in names if name not in last), *(name for name in last if name in names)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        put_in_place(finished / name, folder / name)


def put_in_place(finished: Path, path: Path) -> None:
    """Give a file or folder that is written to its end its name, durably. Raises OSError."""
    for part in [finished] if finished.is_file() else [file for file in finished.rglob("*") if file.is_file()]:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    finished.replace(path)
    sync_folder(path.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[HashingFile]:
    """Open ``path`` for writing; it appears under its name only if the block ends without an error.

    Raises:
        OutputError: the disk is full or the folder is not writable; no temporary file stays behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb", buffering=1 << 20) as raw:
            yield HashingFile(raw)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); make room or choose another --out, then "
            "run the same command again: finished datasets are kept"
        ) from error


def write_bytes(path: Path, data: bytes, relative_to: Path, rows: int = 0) -> FileEntry:
    """Write a small file in one go, atomically."""
    with atomic_file(path) as file:
        file.write(data)
    return entry(path, relative_to, file, rows)


def entry(path: Path, relative_to: Path, file: HashingFile, rows: int = 0) -> FileEntry:
    """The entry of a file just written."""
    return FileEntry(path=path.relative_to(relative_to).as_posix(), rows=rows, size=file.size, sha256=file.sha256)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; where folders cannot be opened (Windows) the system does what it does."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain_digest(data: dict[str, Any]) -> str:
    """Hex digest of plain data, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()


def text_digest(text: str) -> str:
    """Hex SHA-256 of a text's UTF-8: what stands for it where the text itself must not, or need not, be told."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def file_digest(path: Path, algorithm: Callable[[], Any] = hashlib.sha256) -> str:
    """Hex digest of a file's bytes; ``algorithm`` is a constructor of hashlib or xxhash. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

"""Files that a worker needs: looked for where the driver has them, else brought into the node's own cache.

There a file lies under its digest, once for all datasets and builds. A dataset sees its files through links that have
the names and folders that they have on the driver, as those stand in the records.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from medi_build.errors import InputError, WorkerError
from medi_build.files import file_digest, plain_digest, put_in_place, remove_left_behind
from medi_build.ingest.raw_data import ANSWER_SECONDS
from medi_build.pipeline.fingerprint import file_digests
from medi_build.waiting import within

BLOCK_BYTES = 4 << 20
Blocks = Callable[[str], Iterator[bytes]]
"""Path on the driver -> the file's bytes in blocks."""
_silent: set[str] = set()
"""Stores that gave this process no answer."""


class Wanted(NamedTuple):
    """A file of the driver's. Attributes: path: absolute, on the driver. url: where else it is to be had, or empty."""

    path: Path
    size: int
    sha256: str
    url: str = ""


def blocks_of(path: str) -> Iterator[bytes]:
    """A file's bytes in blocks of at most `BLOCK_BYTES`. Raises OSError."""
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def seen_here(wanted: Sequence[Wanted], cache: Path, served: Blocks) -> tuple[Path, Path]:
    """Make files of one folder visible on this node.

    Args:
        wanted: at least one.
        cache: folder of this node's.
        served: gives what this node cannot have otherwise.

    Returns:
        The folder that all of them share on the driver, and the one below which they are seen here.

    Raises:
        InputError: a file cannot be had.
        WorkerError: this node's disk cannot hold it.
    """
    top = Path(os.path.commonpath([one.path.parent for one in wanted]))
    if all(_is_here(one, cache) for one in wanted):
        return top, top
    names = [one.path.relative_to(top).as_posix() for one in wanted]
    view = cache / "views" / plain_digest({name: one.sha256 for name, one in zip(names, wanted, strict=True)})
    for name, one in zip(names, wanted, strict=True):
        target = one.path if _is_here(one, cache) else _brought(one, cache, served)
        _link(view / name, target)
    return top, view


def _is_here(one: Wanted, cache: Path) -> bool:
    """Whether a file is on this node where the driver has it, with the same bytes; digests are remembered."""
    try:
        return one.path.stat().st_size == one.size and _digest(one.path, cache) == one.sha256
    except (OSError, InputError):
        return False


def _digest(path: Path, cache: Path) -> str:
    return file_digests([path], cache)[0][1]


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    with suppress(FileExistsError):
        link.symlink_to(target)


def _brought(one: Wanted, cache: Path, served: Blocks) -> Path:
    """The file in this node's cache; brought by one process while others wait for it."""
    folder = cache / "files"
    target = folder / one.sha256
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{one.sha256}.lock"):
            if target.is_file() and _digest(target, cache) == one.sha256:
                return target
            remove_left_behind(folder, one.sha256)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                _fetch(one, temporary, served)
                put_in_place(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WorkerError(
            f"{folder}: cannot hold {one.path.name} of {one.size:,} bytes on node {os.uname().nodename} "
            f"({error.strerror or error}); make room there, or name another --cache"
        ) from error
    return target


def _fetch(one: Wanted, temporary: Path, served: Blocks) -> None:
    """Write the file's bytes, from its URL if that gives what was to come, else from the driver."""
    if one.url and _from_url(one.url, temporary) and file_digest(temporary) == one.sha256:
        return
    with temporary.open("wb") as file:
        for block in served(str(one.path)):
            file.write(block)
    if file_digest(temporary) != one.sha256:
        raise InputError(f"{one.path}: was changed while the build runs; run the same command again once it is whole")


def _from_url(url: str, temporary: Path) -> bool:
    """Whether the file could be had there; a store that once kept silent is not asked again by this process."""
    import fsspec

    store = url.split("/")[2]
    if store in _silent:
        return False
    try:
        files, path = fsspec.url_to_fs(url)
        within(ANSWER_SECONDS, lambda: files.info(path))
        files.get_file(path, str(temporary))
    except TimeoutError:
        _silent.add(store)
        return False
    except Exception:  # whatever the libraries behind fsspec raise: the driver has the file, too
        return False
    return True

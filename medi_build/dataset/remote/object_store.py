"""Push to and pull from S3, GCS or whatever fsspec knows.

Below the address lie ``files/``, each under a name that has its digest in it and is never written anew, and
``versions/00000001.json``, the manifest of each push, created once and never replaced. The last one is what the
address holds. Two writers want the same next number: the store gives it to one (S3 by If-None-Match, GCS by a
generation match), the other is refused. So nobody ever sees a mixture, and older versions stay.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from medi_build.dataset.remote.again import again, at_once, told
from medi_build.dataset.remote.listing import Local, Sent, check_local, manifest_bytes
from medi_build.dataset.remote.receive import receive
from medi_build.errors import MediError, PublishError
from medi_build.files import FileEntry
from medi_build.progress import Silent

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Scheme of an address -> our extra that installs what it needs."""
T = TypeVar("T")


class Pushed(NamedTuple):
    """Attributes: number: of the version. fresh: False if it was there already."""

    number: int
    fresh: bool


def push(sent: Sent, url: str, tag: str | None, watcher: Silent) -> Pushed:
    """Put a dataset into a store as its next version, unless the last one is the same.

    Args:
        sent: the dataset; the small files lie at the address, and are replaced.
        url: as fsspec has it.
        tag: a name for the version.
        watcher: told of each file.

    Raises:
        PublishError: the store refuses, keeps failing, another writer was faster, or the tag is taken.
        DatasetError: a file is not what the manifest says.
    """
    store = _Store(url, watcher)
    last, new = store.last(), manifest_bytes(sent.manifest)
    same = last > 0 and store.read(_version(last)) == new
    number = last if same else last + 1
    if tag is not None:
        store.check_tag(tag, number)
    store.send(sent.files)
    if not same and not store.create(_version(number), new):
        raise PublishError(
            f"{url}: another writer made version {number} while this push ran; nothing of yours is seen. Look at what "
            "is there now; the same command puts yours after it, and sends no file twice"
        )
    for name, data in sent.beside.items():
        store.call(lambda name=name, data=data: store.fs.pipe_file(store.path(name), data), name)  # type: ignore[misc]
    if tag is not None and not store.create(f"tags/{tag}", str(number).encode()):
        store.check_tag(tag, number)
    return Pushed(number, not same)


def pull(url: str, revision: str | None, out: Path, watcher: Silent) -> bool:
    """Make the folder ``out`` of the last version, or of the one with a tag or number; False if it is there already.

    Raises:
        PublishError: there is no such version, the store keeps failing, or bytes are not what the manifest says.
        OutputError: see `receive`.
    """
    store = _Store(url, watcher)
    number = store.number(revision)

    def fetch(entry: FileEntry, path: Path) -> None:
        store.call(lambda: store.fs.get_file(store.path(key(entry)), str(path)), entry.path)

    return receive(store.read(_version(number)), url, out, fetch, watcher)


def _version(number: int) -> str:
    return f"versions/{number:08d}.json"


def key(entry: FileEntry) -> str:
    """``files/data/00001-kilt--nq-0000.1a2b3c4d5e6f7081.parquet``: of one name there is one content."""
    path = PurePosixPath(entry.path)
    return f"files/{path.with_name(f'{path.stem}.{entry.sha256[:16]}{path.suffix}')}"


class _Store:
    """One address, asked as often as it takes."""

    def __init__(self, url: str, watcher: Silent) -> None:
        import fsspec

        self.url, self._watcher = url, watcher
        scheme = url.partition("://")[0]
        options = {"auto_mkdir": True} if scheme == "file" else {"use_listings_cache": False}
        try:
            self.fs, self._root = fsspec.url_to_fs(url, **options)
        except ImportError as error:
            install = f"pip install 'medi-build[{EXTRAS[scheme]}]'" if scheme in EXTRAS else told(error)
            raise PublishError(f"{url}: needs another library; {install}") from error
        except (ValueError, OSError) as error:
            raise PublishError(f"{url}: {told(error)}; give an address like s3://bucket/folder") from error

    def path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def call(self, request: Callable[[], T], what: str) -> T:
        """The answer to a request that may be made twice.

        Raises:
            FileExistsError: as it comes.
            PublishError: anything else.
        """
        try:
            return again(request, _is_passing, self._watcher.say)
        except (FileExistsError, MediError):
            raise
        except FileNotFoundError as error:
            raise PublishError(
                f"{self.url}: {what}: {told(error)}; make the bucket first, and push again what is missing in it"
            ) from None
        except Exception as error:  # of whichever library the store has
            if isinstance(error, PermissionError) or "credential" in str(error).lower():
                advice = "the store does not let you: look at its keys in the environment, and at what they may do"
            else:
                advice = "run the same command again: what has arrived is kept"
            raise PublishError(f"{self.url}: {what}: {told(error)}; {advice}") from None

    def sizes(self, folder: str) -> dict[str, int]:
        """Name below the address -> bytes, of all files in a folder."""
        found = self.call(lambda: _find(self.fs, self.path(folder)), folder)
        start = len(self.path(""))
        return {name[start:]: int(info["size"]) for name, info in found.items()}

    def last(self) -> int:
        """The highest number of a version; 0 where there is none."""
        names = (Path(name).stem for name in self.sizes("versions"))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def read(self, name: str) -> bytes:
        """A small file. Raises `PublishError` if it is not there."""
        data = self.call(lambda: _cat(self.fs, self.path(name)), name)
        if data is None:
            raise PublishError(f"{self.url}: there is no {name}; nothing was pushed there under that name")
        return data

    def number(self, revision: str | None) -> int:
        """Of the version with this tag or number; None is the last one."""
        if revision is None:
            if last := self.last():
                return last
            raise PublishError(f"{self.url}: no dataset was pushed there, or the keys may not see it")
        if f"tags/{revision}" in self.sizes("tags"):
            return int(self.read(f"tags/{revision}"))
        if revision.isdecimal():
            return int(revision)
        tags = ", ".join(sorted(name.removeprefix("tags/") for name in self.sizes("tags"))) or "none"
        raise PublishError(f"{self.url}: no tag {revision!r}; there are: {tags}, and versions 1 to {self.last()}")

    def check_tag(self, tag: str, number: int) -> None:
        """Raise `PublishError` if a tag stands at another version, or cannot be one."""
        if not tag or "/" in tag or tag.isdecimal():
            raise PublishError(f"{tag!r} cannot be a tag: no number and no slash, e.g. v1.2")
        if f"tags/{tag}" in self.sizes("tags") and (found := int(self.read(f"tags/{tag}"))) != number:
            raise PublishError(f"{self.url}: the tag {tag} stands at version {found}; choose another name")

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; False if another writer made it with other content.

        An answer that was lost, and a store that knows no exclusive write, are found out by reading it again.
        """
        path = self.path(name)
        if name not in self.sizes(name.rpartition("/")[0]):
            try:
                self.call(lambda: _create(self.fs, path, data), name)
            except FileExistsError:
                pass  # another writer's, or ours whose answer was lost: its content tells
            except PublishError:
                if name not in self.sizes(name.rpartition("/")[0]):
                    raise
        return self.read(name) == data

    def send(self, files: list[Local]) -> None:
        """Send what is not there; the first error stops what has not begun."""
        there = self.sizes("files")
        self._watcher.start(len(files))

        def one(file: Local) -> None:
            if there.get(key(file.entry)) != file.entry.size:
                check_local(file)
                path = self.path(key(file.entry))
                self.call(lambda: self.fs.put_file(str(file.path), path), file.entry.path)
            self._watcher.done(f"{file.entry.path}: {file.entry.size / 1e6:,.1f} MB")

        at_once(one, files)


def _find(fs: Any, folder: str) -> dict[str, Any]:
    """All files below a folder, as they are now; none where there is no such folder."""
    fs.invalidate_cache()
    try:
        return dict(fs.find(folder, detail=True))
    except FileNotFoundError:
        return {}


def _cat(fs: Any, path: str) -> bytes | None:
    """A whole file; None where there is none."""
    try:
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        return None


def _create(fs: Any, path: str, data: bytes) -> None:
    """Write a file whole, if there is none. Raises FileExistsError where the store can tell."""
    if "file" not in fs.protocol:
        fs.pipe_file(path, data, mode="create")
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    try:
        target.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _is_passing(error: Exception) -> bool:
    """Whether the same request may bring something else after a while."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError | MediError | ValueError | TypeError):
        return False
    lasting = (errno.EINVAL, errno.ENOSPC, errno.EPERM, errno.ENOSYS)
    return not (isinstance(error, OSError) and error.errno in lasting) and "credential" not in str(error).lower()

"""The user's raw files: a folder, or the URL of one, of which what is needed is fetched into the cache."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import orjson

from medi_build.errors import FetchError, MissingInputError, OptionError
from medi_build.files import put_in_place, write_bytes
from medi_build.ingest.fetch import Listings
from medi_build.progress import Silent
from medi_build.secrets import has_password
from medi_build.waiting import within

STATE = ".fetched.json"
"""Relative path -> what the store told of a file when it was fetched."""
ANSWER_SECONDS = 30
"""A store that has not told by then what its folder holds is given up; the libraries behind fsspec wait for minutes."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_T = TypeVar("_T")


class RawData(NamedTuple):
    """Where raw files are.

    Attributes:
        folder: with ``<source>/<file>`` inside; None if the user gave none.
        listings: what is found there, for `medi_build.ingest.fetch.locate`; empty to look on disk.
        url_of: the URL of a file in the folder; empty where it has none.
        fetch: brings files of the folder, if they are not there yet.
    """

    folder: Path | None
    listings: Listings
    url_of: Callable[[Path], str]
    fetch: Callable[[Iterable[Path]], None]


def raw_data(data: Path | str | None, cache: Path, sources: Iterable[str], progress: Silent) -> RawData:
    """What is there to read; a URL is listed, and nothing is fetched yet.

    Args:
        data: a folder, or a URL as fsspec has it.
        cache: below it lies what is fetched.
        sources: names of the folders that may be asked for.
        progress: told of bytes fetched.

    Raises:
        FetchError: the URL cannot be read.
        MissingInputError: nothing is there.
        OptionError: the URL holds a password.
    """
    if not is_url(data):
        return RawData(None if data is None else Path(data), {}, lambda path: "", lambda paths: None)
    remote = _Remote(str(data), cache, progress)
    return RawData(remote.folder, remote.listings(sources), remote.url_of, remote.fetch)


def is_url(data: Path | str | None) -> bool:
    """Whether raw files are named by a URL."""
    return isinstance(data, str) and "://" in data


class _Remote:
    """The folder behind a URL, and what was fetched of it."""

    def __init__(self, url: str, cache: Path, progress: Silent) -> None:
        if has_password(url):
            scheme = url.partition("://")[0]
            raise OptionError(
                f"--data {scheme}://...: holds a user name or a password; give the address without, and those in the "
                "environment"
            )
        self._url, self._progress = url, progress
        self.folder = (cache / "data" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:32]).absolute()
        self._infos = self._asked(self._listed, url)
        if not self._infos:
            raise MissingInputError(f"--data {url}: holds no file; give the folder that holds <source>/<file>")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget_what_went_away()

    def _listed(self) -> dict[Path, dict[str, Any]]:
        """What the store tells of each file, by where it lies once it is fetched."""
        import fsspec

        self._fs, root = fsspec.url_to_fs(self._url)
        self._fs.invalidate_cache()
        within(ANSWER_SECONDS, lambda: self._fs.ls(root))  # raises where `find` keeps silent or waits for minutes
        found = self._fs.find(root, detail=True)
        inside = {PurePosixPath(path).relative_to(PurePosixPath(root)): info for path, info in found.items()}
        return {
            self.folder / name: info
            for name, info in inside.items()
            if name.parts and not any(part.startswith(".") for part in name.parts)
        }

    def _forget_what_went_away(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self._infos and path.name != STATE:
                path.unlink()

    def listings(self, sources: Iterable[str]) -> Listings:
        """As if the folder held all of it."""
        listings: Listings = {self.folder / source: {} for source in sources}
        for path in self._infos:
            folder = self.folder / path.relative_to(self.folder).parts[0]
            if folder != path:
                names = listings.setdefault(folder, {})
                names.setdefault(path.name, []).append((path.relative_to(folder).parts, path))
        return listings

    def url_of(self, path: Path) -> str:
        """Where a file came from; empty for one of elsewhere."""
        info = self._infos.get(path)
        return self._fs.unstrip_protocol(info["name"]) if info else ""

    def fetch(self, paths: Iterable[Path]) -> None:
        """Bring files, each whole or not at all; those that the store has not changed since are left."""
        state = self._state()
        wanted = {path: _stamp(self._infos[path]) for path in dict.fromkeys(paths) if path in self._infos}
        new = [path for path, stamp in wanted.items() if not path.is_file() or state.get(self._name(path)) != stamp]
        total, done = sum(int(self._infos[path]["size"] or 0) for path in new), 0
        for path in new:
            self._asked(lambda path=path: self._bring(path), self.url_of(path))  # type: ignore[misc]
            state[self._name(path)] = wanted[path]
            write_bytes(self.folder / STATE, orjson.dumps(state), self.folder)
            done += path.stat().st_size
            self._progress.downloaded(done, total)

    def _bring(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        self._fs.get_file(self._infos[path]["name"], str(part))
        put_in_place(part, path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _state(self) -> dict[str, str]:
        try:
            state = orjson.loads((self.folder / STATE).read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _asked(self, request: Callable[[], _T], url: str) -> _T:
        """The answer of the store. Raises `FetchError`."""
        scheme = url.partition("://")[0]
        try:
            return request()
        except ImportError as error:
            install = f"pip install 'medi-build[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
            raise FetchError(f"--data {url}: needs another library; {install}") from error
        except Exception as error:  # what the libraries behind fsspec raise is not listed anywhere
            raise FetchError(
                f"--data {url}: cannot be read ({type(error).__name__}: {error}); check the address, and that its "
                "credentials are in the environment"
            ) from error


def _stamp(info: dict[str, Any]) -> str:
    """What changes when a file does: size, date, tag, whatever the store tells."""
    return hashlib.sha256(repr(sorted((key, str(value)) for key, value in info.items())).encode()).hexdigest()

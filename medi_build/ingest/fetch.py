"""Finds a dataset's files on disk and fetches the others: local folder, hub or URL -> verified local files.

A downloaded file gets its name only after its digest is right. Where the card pins no digest, what the first fetch got
is recorded in ``pins.json`` of the cache folder; a later fetch that gets something else is an error.
"""

import fnmatch
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from medi_build.content.cards import Card
from medi_build.errors import ContentError, FetchError, InputError, OutputError
from medi_build.files import atomic_file, file_digest, put_in_place

if TYPE_CHECKING:
    from medi_build.ingest.http import Advance


@dataclass(frozen=True)
class Located:
    """What a data folder holds of one dataset.

    Attributes:
        found: role -> files. The role of the task or pair files is ``rows``.
        missing: names or globs from the card that match no file, in the card's order.
    """

    found: Mapping[str, tuple[Path, ...]]
    missing: tuple[str, ...]


class Pin(BaseModel):
    """What a fetch got.

    Attributes:
        sha256: hex digest of the file.
        size: bytes.
        revision: commit of the hub's repository; empty for a URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    revision: str = ""


PINS = "pins.json"
_PINS = TypeAdapter(dict[str, Pin])


@dataclass(frozen=True)
class _Remote:
    """One file to fetch: ``path`` in the ``hub`` repository, or a URL where ``hub`` is empty."""

    name: str
    source: str
    hub: str
    path: str
    revision: str
    sha256: str

    @property
    def key(self) -> str:
        return f"hub:{self.hub}@{self.revision}:{self.path}" if self.hub else self.path

    def local(self, cache_dir: Path) -> Path:
        """Cards that name the same remote file share it; other files of the same name do not collide."""
        place = hashlib.sha256(self.key.encode()).hexdigest()[:12]
        return cache_dir / self.source / place / PurePosixPath(self.name).name


Listings = dict[Path, dict[str, list[tuple[tuple[str, ...], Path]]]]
"""Folder -> file name -> the files of that name below it, with the parts of their relative path: made once for many
cards."""


def locate(
    card: Card, split: str, data_dir: Path | None, cache_dir: Path | None = None, listings: Listings | None = None
) -> Located:
    """Look for a dataset's files in ``data_dir/<source>/`` and below, then among the downloads in ``cache_dir``.

    A name or glob may have folders in it. Of several matches the one nearest to the top wins; a glob takes all matches
    of that depth, sorted. The patterns of an extra role are alternatives: one that matches is enough.

    Args:
        card: the dataset.
        split: which of its files.
        data_dir: the user's folder of raw files.
        cache_dir: cache of downloads.
        listings: what is found in the folders is kept here, for the next call.

    Raises:
        ContentError: the card has no such split.
        InputError: a name that is no glob stands twice at the same depth.
        FetchError: the record of earlier downloads is damaged.
    """
    if split not in card.files:
        raise ContentError(f"{card.name}: no split {split!r}; its card has {', '.join(card.files)}")
    folder = data_dir / card.source if data_dir else None
    listings = {} if listings is None else listings

    def lookup(pattern: str) -> list[Path]:
        local = _search(folder, pattern, listings)
        return local or (_downloaded(_remotes(card, pattern), cache_dir) if cache_dir else [])

    rows = {pattern: lookup(pattern) for pattern in card.files[split]}
    found = {"rows": tuple(dict.fromkeys(path for paths in rows.values() for path in paths))}
    missing = [pattern for pattern, paths in rows.items() if not paths]
    for role, patterns in card.extra_files.items():
        found[role] = tuple(dict.fromkeys(path for pattern in patterns for path in lookup(pattern)))
        if not found[role]:
            missing += [pattern for pattern in patterns if _remotes(card, pattern)] or patterns
    return Located(found, tuple(missing))


def _downloaded(remotes: list[_Remote], cache_dir: Path) -> list[Path]:
    """Local files of all the remotes, or none if one of them is not there."""
    pins = _read_pins(cache_dir) if remotes else {}
    paths = [remote.local(cache_dir) for remote in remotes]
    whole = all(map(_is_whole, paths, remotes, [pins.get(remote.key) for remote in remotes]))
    return paths if whole else []


def _is_whole(path: Path, remote: _Remote, pin: Pin | None) -> bool:
    """Whether an earlier fetch finished the file: it is there, of the recorded size, and what the card pins."""
    if pin is None or not path.is_file():
        return False
    return path.stat().st_size == pin.size and remote.sha256 in ("", pin.sha256)


def _search(folder: Path | None, pattern: str, listings: Listings) -> list[Path]:
    if folder is None:
        return []
    if folder not in listings:
        listing = listings[folder] = {}
        for path in _files_below(folder):
            listing.setdefault(path.name, []).append((path.relative_to(folder).parts, path))
    parts = pattern.split("/")
    names = listings[folder] if _is_glob(parts[-1]) else [parts[-1]]
    files = chain.from_iterable(listings[folder].get(name, ()) for name in names)
    matches = [path for relative, path in files if _ends_with(relative, parts)]
    top = min((len(path.parts) for path in matches), default=0)
    matches = sorted(path for path in matches if len(path.parts) == top)
    if len(matches) > 1 and not _is_glob(pattern):
        raise InputError(
            f"{folder}: {pattern} stands {len(matches)} times at the same depth "
            f"({', '.join(str(path.relative_to(folder)) for path in matches[:3])}); keep one"
        )
    return matches


def _ends_with(path: tuple[str, ...], pattern: list[str]) -> bool:
    tail = path[-len(pattern) :]
    return len(tail) == len(pattern) and all(map(fnmatch.fnmatchcase, tail, pattern))


def _files_below(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, through linked folders too (each folder once)."""
    entered: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in files if not name.startswith("."))


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def fetch_missing(
    card: Card, missing: tuple[str, ...], cache_dir: Path, advance: "Advance", offline: bool = False
) -> dict[str, tuple[Path, ...]]:
    """Download what `locate` did not find, or take it from the cache of earlier downloads.

    Args:
        card: the dataset.
        missing: names or globs, as `Located.missing` lists them.
        cache_dir: where downloads and ``pins.json`` are kept.
        advance: called with bytes done and bytes in all.
        offline: use the cache only.

    Returns:
        Role -> files, as in `Located.found`.

    Raises:
        FetchError: the network, the server, the disk, or a digest that is not the pinned one.
    """
    fetched: dict[str, list[Path]] = {}
    for name in missing:
        remotes = _remotes(card, name)
        if not remotes:
            raise FetchError(f"{card.name}: its card names no download for {name}; put the file into --data by hand")
        role = next((role for role, patterns in card.extra_files.items() if name in patterns), "rows")
        fetched.setdefault(role, []).extend(_fetch(remote, cache_dir, advance, offline) for remote in remotes)
    return {role: tuple(paths) for role, paths in fetched.items()}


def pinned(card: Card, cache_dir: Path) -> dict[str, Pin]:
    """What earlier fetches got for this card: file name -> pin."""
    pins = _read_pins(cache_dir)
    patterns = [*card.files.values(), *card.extra_files.values()]
    remotes = {remote.name: remote for names in patterns for name in names for remote in _remotes(card, name)}
    return {name: pins[remote.key] for name, remote in sorted(remotes.items()) if remote.key in pins}


def _remotes(card: Card, pattern: str) -> list[_Remote]:
    """The remote files behind a name or glob of the card; none if the card does not say where they are."""
    place = card.download
    if place is None:
        return []
    listed = [name for name in place.paths if fnmatch.fnmatchcase(name, pattern)]
    names = listed or ([] if _is_glob(pattern) or not (place.hub or place.url) else [pattern])
    remotes = []
    for name in names:
        path = place.paths.get(name, name)
        on_hub = bool(place.hub) and "://" not in path
        if not on_hub and "://" not in path:
            path = f"{(place.url or '').rstrip('/')}/{path}"
        hub, revision = (place.hub or "", place.revision) if on_hub else ("", "")
        remotes.append(_Remote(name, card.source, hub, path, revision, place.sha256.get(name, "")))
    return remotes


def _fetch(remote: _Remote, cache_dir: Path, advance: "Advance", offline: bool) -> Path:
    """One verified file; taken from the cache if an earlier fetch finished it."""
    target = remote.local(cache_dir)
    if offline and not target.is_file():
        raise FetchError(f"{remote.key}: not downloaded before, and --offline forbids it; put the file into --data")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock"):
            pin = _read_pins(cache_dir).get(remote.key)
            wanted = remote.sha256 or (pin.sha256 if pin else "")
            if _is_whole(target, remote, pin):
                return target
            if offline:
                raise FetchError(f"{target}: not what {PINS} records, and --offline forbids fetching it again")
            part = target.with_name(target.name + ".part")
            got = _download(remote, part, bool(wanted), advance)
            if wanted and got.sha256 != wanted:
                part.unlink()
                raise FetchError(_mismatch(remote, got, pin, cache_dir))
            _record(cache_dir, remote.key, got)
            put_in_place(part, target)
            return target
    except OSError as error:
        raise FetchError(f"{target}: cannot be written ({error.strerror or error})") from error


def _download(remote: _Remote, part: Path, digest_known: bool, advance: "Advance") -> Pin:
    """Bring the remote file into ``part`` and tell what came."""
    if remote.hub:
        revision = _from_hub(remote, part, advance)
    else:
        from medi_build.ingest.http import download

        revision = ""
        download(remote.path, part, advance, digest_known)
    return Pin(sha256=file_digest(part), size=part.stat().st_size, revision=revision)


def _from_hub(remote: _Remote, part: Path, advance: "Advance") -> str:
    """Bring a file of a hub repository into ``part``; returns the commit that was read. Honours ``HF_ENDPOINT``."""
    from huggingface_hub import DryRunFileInfo, errors, hf_hub_download

    folder = part.with_name("hub")
    known = None if remote.revision == "unconfirmed" else remote.revision
    try:
        info = hf_hub_download(
            remote.hub, remote.path, repo_type="dataset", revision=known, local_dir=folder, dry_run=True
        )
        assert isinstance(info, DryRunFileInfo)
        path = hf_hub_download(
            remote.hub, remote.path, repo_type="dataset", revision=info.commit_hash, local_dir=folder,
            tqdm_class=_reporting(advance),
        )  # fmt: skip
    except errors.GatedRepoError as error:
        raise FetchError(
            f"{remote.key}: the repository is gated; accept its terms on the hub and log in with `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        why = type(error).__name__.removesuffix("Error")
        raise FetchError(f"{remote.key}: {why} ({_first_line(error)}); the card may be out of date") from error
    except Exception as error:  # the hub's library lets those of its HTTP client through, whichever it uses
        raise FetchError(
            f"{remote.key}: {_first_line(error)}; run the same command again, or put the file into --data by hand"
        ) from error
    Path(path).replace(part)
    shutil.rmtree(folder)
    return info.commit_hash


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _reporting(advance: "Advance") -> type[Any]:
    """A progress bar class for the hub's library that draws nothing and calls ``advance``."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
            super().__init__(disable=True, total=total, initial=initial)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            advance(int(self.n), int(self.total or 0))

    return Reporting


def _mismatch(remote: _Remote, got: Pin, pin: Pin | None, cache_dir: Path) -> str:
    if remote.sha256 or pin is None:
        return (
            f"{remote.key}: sha256 is {got.sha256}, its card pins {remote.sha256}; the file was removed. Run the same "
            "command again; if it stays so, the file was changed upstream: check it, then change the card"
        )
    at = f" (commit {pin.revision})" if pin.revision else ""
    now = f" (commit {got.revision})" if got.revision else ""
    return (
        f"{remote.key}: sha256 is {got.sha256}{now}, the first fetch got {pin.sha256}{at}; the file was changed "
        f"upstream. To accept the new one remove its entry from {cache_dir / PINS}"
    )


def _read_pins(cache_dir: Path) -> dict[str, Pin]:
    path = cache_dir / PINS
    if not path.is_file():
        return {}
    try:
        return _PINS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise FetchError(f"{path}: damaged ({error.error_count()} faults); remove it and fetch again") from error


def _record(cache_dir: Path, key: str, pin: Pin) -> None:
    """Add a pin to ``pins.json``, which several processes may write."""
    with FileLock(cache_dir / ".pins.lock"):
        pins = {**_read_pins(cache_dir), key: pin}
        try:
            with atomic_file(cache_dir / PINS) as file:
                file.write(_PINS.dump_json(dict(sorted(pins.items())), indent=1))
        except OutputError as error:
            raise FetchError(str(error)) from error

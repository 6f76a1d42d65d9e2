"""Finds a dataset's files on disk and fetches the others: local folder, hub, URL or archive -> verified local files.

A downloaded file gets its name only after its digest is right. Where the card pins no digest, what the first fetch got
is recorded in ``pins.json`` of the cache folder; a later fetch that gets something else is an error. The members of an
archive are pinned one by one: an archive that is packed for whoever asks has no digest that lasts.
"""

import fnmatch
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from filelock import FileLock

from medi_build.content.cards import Card
from medi_build.errors import ContentError, FetchError, InputError
from medi_build.files import file_digest, put_in_place
from medi_build.ingest.archive import BrokenArchiveError, unpack
from medi_build.ingest.http import Watch, download
from medi_build.ingest.hub import download_from_hub
from medi_build.ingest.remotes import (
    PINS,
    Pin,
    Remote,
    downloaded,
    is_glob,
    is_whole,
    place_of,
    read_pins,
    record_pins,
    remotes_of,
)


@dataclass(frozen=True)
class Located:
    """What a data folder holds of one dataset.

    Attributes:
        found: role -> files. The role of the task or pair files is ``rows``.
        missing: names or globs from the card that match no file, in the card's order.
    """

    found: Mapping[str, tuple[Path, ...]]
    missing: tuple[str, ...]


Listings = dict[Path, dict[str, list[tuple[tuple[str, ...], Path]]]]
"""Folder -> file name -> the files of that name below it, with the parts of their relative path: made once for many
cards."""


def locate(
    card: Card, split: str, data_dir: Path | None, cache_dir: Path | None = None, listings: Listings | None = None
) -> Located:
    """Look for a dataset's files in ``data_dir/<source>/`` and below, then among the downloads in ``cache_dir``.

    A name or glob may have folders in it. Of several matches the one nearest to the top wins; a glob takes all matches
    of that depth, sorted. The patterns of an extra role are alternatives: one that matches in ``data_dir`` is enough;
    else all that can be downloaded are wanted.

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

    def local(pattern: str) -> list[Path]:
        return _search(folder, pattern, listings)

    def cached(pattern: str) -> list[Path]:
        return downloaded(remotes_of(card, pattern), cache_dir) if cache_dir else []

    rows = {pattern: local(pattern) or cached(pattern) for pattern in card.files[split]}
    found = {"rows": _together(rows.values())}
    missing = [pattern for pattern, paths in rows.items() if not paths]
    for role, patterns in card.extra_files.items():
        found[role] = _together(map(local, patterns))
        if not found[role]:
            remote = {pattern: cached(pattern) for pattern in patterns if remotes_of(card, pattern)}
            found[role] = _together(remote.values())
            missing += [pattern for pattern, paths in remote.items() if not paths] if remote else patterns
    return Located(found, tuple(missing))


def _together(paths: Iterable[list[Path]]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(paths)))


def _search(folder: Path | None, pattern: str, listings: Listings) -> list[Path]:
    if folder is None:
        return []
    if folder not in listings:
        listing = listings[folder] = {}
        for path in _files_below(folder):
            listing.setdefault(path.name, []).append((path.relative_to(folder).parts, path))
    parts = pattern.split("/")
    names = listings[folder] if is_glob(parts[-1]) else [parts[-1]]
    files = chain.from_iterable(listings[folder].get(name, ()) for name in names)
    matches = [path for relative, path in files if _ends_with(relative, parts)]
    top = min((len(path.parts) for path in matches), default=0)
    matches = sorted(path for path in matches if len(path.parts) == top)
    if len(matches) > 1 and not is_glob(pattern):
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


# --- fetching


def lacking(card: Card, missing: Sequence[str]) -> list[Remote]:
    """The remote files behind what `locate` did not find.

    Raises:
        FetchError: the card does not say where one of them is to be had.
    """
    remotes = []
    for name in missing:
        behind = remotes_of(card, name)
        if not behind:
            raise FetchError(f"{card.name}: its card names no download for {name}; put the file into --data by hand")
        remotes += behind
    return remotes


class _WrongBytesError(FetchError):
    """What arrived is not what was to come; fetching it once more may help."""


def fetch(remotes: Sequence[Remote], cache_dir: Path, watch: Watch) -> None:
    """Bring one file, or those members of one archive that are not there, to where `locate` finds them.

    What an interrupted fetch left is gone on with. Wrong bytes are removed and fetched once more.

    Args:
        remotes: of the same ``transfer``.
        cache_dir: where downloads and ``pins.json`` are kept.
        watch: told how far it is.

    Raises:
        FetchError: the network, the server, the disk, or a digest that is not the pinned one.
    """
    transfer = remotes[0].transfer
    folder = cache_dir / remotes[0].source / place_of(transfer)
    bring = _bring_members if remotes[0].archive else _bring_file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            pins = read_pins(cache_dir)
            left = [remote for remote in remotes if not is_whole(remote, pins, cache_dir)]
            if not left:
                return
            try:
                bring(left, cache_dir, folder, watch)
            except _WrongBytesError as error:
                watch.say(f"{transfer}: not what was to come ({error}); fetched once more")
                bring(left, cache_dir, folder, watch)
    except OSError as error:
        raise FetchError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _bring_file(remotes: Sequence[Remote], cache_dir: Path, folder: Path, watch: Watch) -> None:
    (remote,) = remotes
    part = folder / f"{remote.local(cache_dir).name}.part"
    if remote.hub:
        revision = download_from_hub(remote, part, watch)
    else:
        revision = ""
        known = bool(remote.sha256) or remote.key in read_pins(cache_dir)
        download(remote.path, part, watch, digest_known=known)
    pin = Pin(sha256=file_digest(part), size=part.stat().st_size, revision=revision)
    try:
        _keep({remote: (part, pin)}, cache_dir)
    except _WrongBytesError:
        part.unlink()
        raise


def _bring_members(remotes: Sequence[Remote], cache_dir: Path, folder: Path, watch: Watch) -> None:
    """Fetch the archive, take out what is wanted, and let the archive go."""
    archive = folder / "archive.part"
    parts = {remote: remote.local(cache_dir).with_name(f"{remote.local(cache_dir).name}.part") for remote in remotes}
    download(remotes[0].archive, archive, watch, digest_known=False)
    try:
        unpacked = unpack(archive, {remote.path: part for remote, part in parts.items()})
        _keep({remote: (part, Pin(**unpacked[remote.path]._asdict())) for remote, part in parts.items()}, cache_dir)
    except BrokenArchiveError as error:
        raise _WrongBytesError(f"{remotes[0].transfer}: {error}; the file was removed") from error
    finally:
        archive.unlink(missing_ok=True)
        for part in parts.values():
            part.unlink(missing_ok=True)


def _keep(arrived: Mapping[Remote, tuple[Path, Pin]], cache_dir: Path) -> None:
    """Give files that arrived their names, if they are what was to come, and pin them."""
    pins = read_pins(cache_dir)
    for remote, (_, got) in arrived.items():
        pin = pins.get(remote.key)
        wanted = remote.sha256 or (pin.sha256 if pin else "")
        if wanted and got.sha256 != wanted:
            raise _WrongBytesError(_mismatch(remote, got, pin, cache_dir))
    record_pins(cache_dir, {remote.key: got for remote, (_, got) in arrived.items()})
    for remote, (part, _) in arrived.items():
        put_in_place(part, remote.local(cache_dir))


def _mismatch(remote: Remote, got: Pin, pin: Pin | None, cache_dir: Path) -> str:
    if remote.sha256 or pin is None:
        return (
            f"{remote.key}: sha256 is {got.sha256}, its card pins {remote.sha256}; the file was removed. If it stays "
            "so, the file was changed upstream: check it, then change the card"
        )
    at = f" (commit {pin.revision})" if pin.revision else ""
    now = f" (commit {got.revision})" if got.revision else ""
    return (
        f"{remote.key}: sha256 is {got.sha256}{now}, the first fetch got {pin.sha256}{at}; the file was changed "
        f"upstream. To accept the new one remove its entry from {cache_dir / PINS}"
    )

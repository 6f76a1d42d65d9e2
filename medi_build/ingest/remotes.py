"""Where a card's files come from, and what earlier fetches got: the remote files behind its names, and their pins."""

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from medi_build.content.cards import Card
from medi_build.errors import FetchError, OutputError
from medi_build.files import atomic_file
from medi_build.secrets import redacted

PINS = "pins.json"
_HUB_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")


@dataclass(frozen=True)
class Remote:
    """One file that can be fetched.

    Attributes:
        name: as the card names it.
        source: folder of the cache.
        path: in the repository ``hub`` or in the archive at the URL ``archive``; a URL where both are empty.
        hub: dataset repository.
        revision: its commit, or ``unconfirmed``.
        archive: URL of a tar file.
        sha256: what the card pins; empty if nothing.
        size: bytes to expect; 0 if the card does not say.
    """

    name: str
    source: str
    path: str
    hub: str = ""
    revision: str = ""
    archive: str = ""
    sha256: str = ""
    size: int = 0

    @cached_property
    def key(self) -> str:
        """What ``pins.json`` and messages call it: without what signs a URL, which is another one every day."""
        if self.hub:
            return f"hub:{self.hub}@{self.revision}:{self.path}"
        return f"{redacted(self.archive)}!{self.path}" if self.archive else redacted(self.path)

    @property
    def transfer(self) -> str:
        """What is fetched to get it; the members of an archive share theirs."""
        return redacted(self.archive) or self.key

    @property
    def url(self) -> str:
        """Where it or its archive is to be had, with what signs it: to be asked and not to be told. Not of the hub."""
        return self.archive or self.path

    @property
    def host(self) -> str:
        """Who is asked for it."""
        return "hub" if self.hub else urlsplit(self.transfer).netloc

    def local(self, cache_dir: Path) -> Path:
        """Cards that name the same remote file share it; other files of the same name do not collide."""
        return cache_dir / self.source / place_of(self.key) / PurePosixPath(self.name).name


def place_of(key: str) -> str:
    """Name of the cache folder of a remote file or archive."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def remotes_of(card: Card, pattern: str) -> list[Remote]:
    """The remote files behind a name or glob of the card; none if the card does not say where they are."""
    place = card.download
    if place is None:
        return []
    names = [name for name in place.paths if fnmatch.fnmatchcase(name, pattern)]
    extra = any(pattern in patterns for patterns in card.extra_files.values())
    if not (names or extra or is_glob(pattern)) and (place.hub or place.url or place.archive):
        names = [pattern]
    return [_remote(card, name) for name in names]


def _remote(card: Card, name: str) -> Remote:
    place = card.download
    assert place is not None
    path = place.paths.get(name, name)
    hub, revision, archive = place.hub or "", place.revision, ""
    if elsewhere := _HUB_FILE.fullmatch(path):
        hub, revision, path = elsewhere[1], elsewhere[2] or "unconfirmed", elsewhere[3]
    elif "://" in path or not (place.hub or place.archive):
        hub = revision = ""
        path = path if "://" in path else f"{(place.url or '').rstrip('/')}/{path}"
    elif place.archive:
        archive, path = place.archive.url, place.archive.members + path
    return Remote(name, card.source, path, hub, revision, archive, place.sha256.get(name, ""), place.size.get(name, 0))


def is_glob(pattern: str) -> bool:
    """Whether a pattern of a card is more than a name."""
    return any(sign in pattern for sign in "*?[")


# --- pins


class Pin(BaseModel):
    """What a fetch got.

    Attributes:
        sha256: hex digest of the file.
        size: bytes.
        revision: commit of the hub's repository; empty for a URL or a member of an archive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    revision: str = ""


_PINS = TypeAdapter(dict[str, Pin])


def pinned(card: Card, cache_dir: Path) -> dict[str, Pin]:
    """What earlier fetches got for this card: file name -> pin."""
    pins = read_pins(cache_dir)
    patterns = [*card.files.values(), *card.extra_files.values()]
    remotes = {remote.name: remote for names in patterns for name in names for remote in remotes_of(card, name)}
    return {name: pins[remote.key] for name, remote in sorted(remotes.items()) if remote.key in pins}


def read_pins(cache_dir: Path) -> dict[str, Pin]:
    """All pins, by the keys of the remote files. Raises `FetchError` if their file is damaged."""
    path = cache_dir / PINS
    if not path.is_file():
        return {}
    try:
        return _PINS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise FetchError(f"{path}: damaged ({error.error_count()} faults); remove it and fetch again") from error


def record_pins(cache_dir: Path, pins: Mapping[str, Pin]) -> None:
    """Add pins to ``pins.json``, which several threads and processes may write."""
    with FileLock(cache_dir / ".pins.lock"):
        known = {**read_pins(cache_dir), **pins}
        try:
            with atomic_file(cache_dir / PINS) as file:
                file.write(_PINS.dump_json(dict(sorted(known.items())), indent=1))
        except OutputError as error:
            raise FetchError(str(error)) from error


def is_whole(remote: Remote, pins: Mapping[str, Pin], cache_dir: Path) -> bool:
    """Whether an earlier fetch finished the file: it is there, of the recorded size, and what the card pins."""
    path, pin = remote.local(cache_dir), pins.get(remote.key)
    if pin is None or not path.is_file():
        return False
    return path.stat().st_size == pin.size and remote.sha256 in ("", pin.sha256)


def downloaded(remotes: Sequence[Remote], cache_dir: Path) -> list[Path]:
    """Local files of all the remotes, or none if one of them is not there."""
    pins = read_pins(cache_dir) if remotes else {}
    whole = all(is_whole(remote, pins, cache_dir) for remote in remotes)
    return [remote.local(cache_dir) for remote in remotes] if whole else []

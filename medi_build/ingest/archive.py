"""Single members of a tar file that somebody else packed, so nothing it says is trusted.

Members are written where the caller says, never where the archive says; it is read once, as a stream, and refused where
it is not what an honest archive of data files is.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from medi_build.errors import FetchError
from medi_build.ingest.streams import FREE_BYTES, MOST_RATIO, open_binary

MOST_MEMBERS = 200_000
MOST_BYTES = 1 << 37
"""Decompressed, all members together, the unwanted ones too: 128 GiB."""
_LONGEST_READ = 1 << 24
"""tarfile reads a header at once, however long the archive says it is."""
_BLOCK_BYTES = 1 << 20


class BrokenArchiveError(FetchError):
    """An archive that is damaged, not whole, or not what it should be."""


class Unpacked(NamedTuple):
    """A member that was written."""

    sha256: str
    size: int


def unpack(archive: Path, members: Mapping[str, Path]) -> dict[str, Unpacked]:
    """Write members of a tar file, plain or compressed, to the given paths.

    Args:
        archive: the file; its first bytes tell its compression.
        members: name in the archive -> where to write it; what stands there is replaced.

    Returns:
        For each name what was written.

    Raises:
        BrokenArchiveError: it is damaged or ends early, lacks a member, has one twice or as a link or device, has a
            name that leads out of it, too many members, or too many bytes for its size.
        OSError: the disk is full.
    """
    written: dict[str, Unpacked] = {}
    try:
        with open_binary(archive) as raw:
            stream = _Stream(raw, min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * archive.stat().st_size)))
            with tarfile.TarFile(fileobj=stream, mode="r") as tar:  # type: ignore[arg-type]
                for number, member in enumerate(tar, 1):
                    _check(member, number)
                    if member.name in written:
                        raise BrokenArchiveError(f"{member.name} stands in it twice")
                    if member.name in members:
                        written[member.name] = _write(tar, member, members[member.name])
            stream.drain()  # the checksum of a compressed stream stands at its end
    except (tarfile.TarError, ValueError, EOFError, zlib.error, LZMAError) as error:  # tarfile gives headers to `int`
        raise BrokenArchiveError(f"the archive is damaged or not a tar file ({error})") from error
    except OSError as error:
        if error.errno is None:  # a decompressor's, not the system's
            raise BrokenArchiveError(f"the archive is damaged ({error})") from error
        raise
    if lacking := [name for name in members if name not in written]:
        more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
        raise BrokenArchiveError(f"the archive has no {', '.join(lacking[:3])}{more}, or ends before")
    return written


def _check(member: tarfile.TarInfo, number: int) -> None:
    """Raise `BrokenArchiveError` for what no archive of data files has."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise BrokenArchiveError(f"a member of it is named {member.name!r}, which leads out of it")
    if number > MOST_MEMBERS:
        raise BrokenArchiveError(f"it has more than {MOST_MEMBERS:,} members")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Unpacked:
    if not member.isreg() or member.issparse():
        raise BrokenArchiveError(f"{member.name} is no plain file in it but a link, a device or the like")
    packed = tar.extractfile(member)
    assert packed is not None
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with packed, path.open("wb") as file:
        while block := packed.read(_BLOCK_BYTES):
            digest.update(block)
            size += file.write(block)
    if size != member.size:
        raise BrokenArchiveError(f"it ends in the middle of {member.name}")
    return Unpacked(digest.hexdigest(), size)


class _Stream:
    """A decompressed archive, read forward only and within bounds."""

    def __init__(self, raw: BinaryIO, most: int) -> None:
        self._raw = raw
        self._most = most
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        if not 0 <= size <= _LONGEST_READ:
            raise BrokenArchiveError(f"a header of it wants to be {size:,} bytes long")
        block = self._raw.read(size)
        self._at += len(block)
        if self._at > self._most:
            raise BrokenArchiveError(f"it holds more than {self._most:,} bytes, too many for its size")
        return block

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seek(self, place: int) -> None:
        """Skip to a place ahead."""
        if place < self._at:
            raise BrokenArchiveError("a member of it has an impossible size")
        while self._at < place and self.read(min(place - self._at, _BLOCK_BYTES)):
            pass

    def drain(self) -> None:
        """Read to the end."""
        while self.read(_BLOCK_BYTES):
            pass

"""A file as bytes and as lines, decompressed where its first bytes say so, and what to say of one that breaks."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from medi_build.errors import InputError

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes -> name."""
BROKEN_STREAM = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
"""What a damaged stream raises as it is read; an `OSError` may come beside."""
MOST_RATIO = 200
"""Decompressed bytes to packed ones; text comes to 10, hardly ever to 50."""
FREE_BYTES = 1 << 26
"""So few decompressed bytes harm nobody, whatever they were packed in."""
LONGEST_LINE_BYTES = 1 << 28
_OPENERS: dict[str, Any] = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def compression(path: Path) -> str | None:
    """Name of a file's compression, by its first bytes; None for a plain file."""
    with path.open("rb") as probe:
        start = probe.read(6)
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


def open_binary(path: Path, buffering: int = 1 << 20) -> BinaryIO:
    """Open a file for reading, decompressed if it is compressed by its first bytes.

    One that comes to more than `MOST_RATIO` times its size, and more than `FREE_BYTES`, breaks with an EOFError.
    """
    kind = compression(path)
    if kind is None:
        return path.open("rb", buffering)
    raw: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") if kind == "zstd" else _OPENERS[kind](path)
    return io.BufferedReader(_Bounded(raw, path), buffering)  # its own lines are read one Python call each


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends with an error once it is too much for the size of its file."""

    def __init__(self, raw: Any, path: Path) -> None:
        self._raw, self._left = raw, max(FREE_BYTES, MOST_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._raw.read(len(buffer))
        buffer[: len(block)] = block
        self._left -= len(block)
        if self._left < 0:
            raise EOFError(f"it comes to more than {MOST_RATIO} times its size, as no text does")
        return len(block)

    def close(self) -> None:
        self._raw.close()
        super().close()


def unreadable(path: Path, error: Exception, place: str) -> InputError:
    """What to say of an error of reading: a broken stream, or a file that is not there or may not be read."""
    if isinstance(error, BROKEN_STREAM) or (isinstance(error, OSError) and error.errno is None):
        kind = compression(path) or "file"
        return InputError(f"{path}: {kind} stream ends or breaks {place} ({error}); delete the file and fetch it again")
    return InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


def refuse_wide(start: bytes, path: Path) -> None:
    """Raise `InputError` where a text begins as UTF-16 or UTF-32 does."""
    if start[:2] in _WIDE or b"\0" in start[:4]:
        raise InputError(
            f"{path}: is UTF-16 (or no text at all: it begins with {start[:4]!r}); files of rows are read as UTF-8, so "
            f"convert it: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number from 1, line)`` of a file, compressed or plain.

    Raises:
        InputError: the file is missing, is UTF-16, has a line of more than `LONGEST_LINE_BYTES`, or its compressed
            stream is truncated, damaged or a bomb.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE_BYTES), b""), 1):
                if number == 1:
                    refuse_wide(line, path)
                if len(line) == LONGEST_LINE_BYTES:
                    raise InputError(
                        f"{path}:{number}: is longer than {LONGEST_LINE_BYTES:,} bytes, the most that a line may have; "
                        "are these lines of text, or of JSON?"
                    )
                yield number, line
    except (*BROKEN_STREAM, OSError) as error:
        raise unreadable(path, error, f"after line {number}") from error

"""KILT's knowledge source: random access to the pages of a JSON-lines file too big to hold, and its passages.

A page is indexed by a 64-bit hash of its ``wikipedia_id``. The index of a file (24 bytes per page) is built in
one streaming pass and kept in the cache folder; it is sorted by hash, so its order is also a seeded shuffle of
the pages. A gzip source cannot be entered in the middle: the pages that are needed are copied out of it once.

Passages: the words of a page without its title, headings and bullet marks are cut into runs of equal length, as
few as fit in ``size`` words each. Equal lengths leave no short tails that would tell a negative from a positive.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import xxhash
from filelock import FileLock

from medi_build.arrays import Hashes
from medi_build.errors import InputError, OutputError
from medi_build.files import replacing
from medi_build.ingest.streams import compression, lines_of, open_binary

INDEX_VERSION = 1
"""Raise when the meaning of a cached index changes."""

BYTES_PER_READ = 1 << 13
BYTES_PER_SKIP = 1 << 20
"""Buffer of random reads: a page is some kilobytes."""

_ENTRY = np.dtype([("key", "<u8"), ("offset", "<u8"), ("length", "<u8")])
_ID_FIRST = re.compile(
    rb'\s*\{\s*(?:"_id"\s*:\s*(?:"[^"\\]*"|\d+)\s*,\s*)?"wikipedia_id"\s*:\s*(?:"([^"\\]*)"|(\d+))\s*,'
)
"""How page lines begin; saves parsing 35 GB of JSON for the id alone."""

_BULLET = re.compile(r"BULLET::::(?:-|\d+\.)?(.*)", re.DOTALL)


def page_key(wikipedia_id: str) -> int:
    """64-bit hash of a page id."""
    return xxhash.xxh3_64_intdigest(wikipedia_id.encode())


@dataclass(frozen=True)
class Page:
    """A page of the knowledge source.

    Attributes:
        id: wikipedia id.
        title: its title.
        paragraphs: its paragraphs as they stand in the source; 0 is the title.
        words: the words of all paragraphs but the title, without headings and bullet marks.
        starts: number of words before each paragraph.
    """

    id: str
    title: str
    paragraphs: tuple[str, ...]
    words: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def parse(cls, line: bytes, place: str) -> "Page":
        """Read one line of the knowledge source.

        Raises:
            InputError: it is not a KILT page.
        """
        try:
            raw = orjson.loads(line)
            paragraphs = tuple(raw["text"])
            if not isinstance(raw["text"], list) or not all(isinstance(text, str) for text in paragraphs):
                raise _not_a_page(place, "text is not a list of strings")
            title = str(raw.get("wikipedia_title") or paragraphs[0]).strip()
            words: list[str] = []
            starts: list[int] = []
            for number, paragraph in enumerate(paragraphs):
                starts.append(len(words))
                if number:
                    words += paragraph_words(paragraph)
            return cls(str(raw["wikipedia_id"]), title, paragraphs, tuple(words), tuple(starts))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise _not_a_page(place, error) from error

    def tiles(self, size: int) -> list[tuple[int, int]]:
        """Cut the words into runs [start, end) of at most ``size`` words and equal length (to one word)."""
        n = len(self.words)
        count = -(-n // size)
        return [(i * n // count, (i + 1) * n // count) for i in range(count)]

    def window(self, begin: int, end: int, size: int) -> tuple[int, int]:
        """The passage that holds the words [begin, end): their tile, or a run of a tile's length around them.

        A span of more than ``size`` words is cut off at its end.
        """
        n = len(self.words)
        count = -(-n // size)
        begin = min(begin, n - 1)
        end = min(max(end, begin + 1), n)
        tile = ((begin + 1) * count - 1) // n
        if end <= (tile + 1) * n // count:
            return tile * n // count, (tile + 1) * n // count
        width = min(size, max(end - begin, -(-n // count)))
        start = max(0, min(begin - max(0, width - (end - begin)) // 2, n - width))
        return start, start + width

    def passage(self, start: int, end: int) -> str:
        """Title and words, in the one form that gold and other passages share."""
        return f"{self.title} {' '.join(self.words[start:end])}"


def paragraph_words(paragraph: str) -> list[str]:
    """The words of a paragraph without its bullet mark; a heading has none."""
    if paragraph.startswith("Section::::"):
        return []
    marked = _BULLET.match(paragraph)
    return (marked.group(1) if marked else paragraph).split()


def _not_a_page(place: str, why: object) -> InputError:
    return InputError(
        f"{place}: not a page of a KILT knowledge source ({why}); a line has to be a JSON object with "
        f"wikipedia_id, wikipedia_title and text; a cut-off file has to be fetched again"
    )


class _Source(NamedTuple):
    """One knowledge source file and its index, sorted by key; the keys are held apart because they are searched."""

    path: Path
    entries: npt.NDArray[np.void]
    keys: Hashes

    def lookup(self, keys: Hashes) -> npt.NDArray[np.void]:
        """The entries of those ``keys`` that the file holds."""
        if not len(self.keys):
            return self.entries[:0]
        rows = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        found: npt.NDArray[np.void] = self.entries[rows[self.keys[rows] == keys]]
        return found


class PageIndex:
    """Random access to the pages of several files; of a page that stands twice, the first counts."""

    def __init__(self, files: Sequence[Path], cache: Path) -> None:
        """Load the index of each file from ``cache``, or build it there.

        Raises:
            InputError: a file is missing, damaged or not a knowledge source.
            OutputError: the cache folder cannot be written.
        """
        self._cache = cache
        self._sources = [_index(path, cache) for path in files]

    def keys(self) -> Hashes:
        """The keys of all pages, ascending: an order that looks random and never changes."""
        return np.unique(np.concatenate([source.keys for source in self._sources] or [np.empty(0, np.uint64)]))

    def extracted(self, wanted: Hashes) -> "PageIndex":
        """The same index with every compressed source replaced by a plain copy of its ``wanted`` pages."""
        files = [_extract(s, wanted, self._cache) if compression(s.path) else s.path for s in self._sources]
        return PageIndex(files, self._cache)

    def read(self, keys: Iterable[int]) -> dict[int, Page]:
        """Read the pages that are there, each file in the order of its bytes.

        Raises:
            InputError: a line is not a KILT page.
        """
        pages: dict[int, Page] = {}
        missing = np.unique(np.fromiter(keys, np.uint64))
        for source in self._sources:
            found = source.lookup(missing)
            if len(found):
                with open_binary(source.path, BYTES_PER_READ) as file:
                    for key, offset, length in np.sort(found, order="offset").tolist():
                        file.seek(offset)
                        pages[key] = Page.parse(file.read(length), f"{source.path}, byte {offset}")
            missing = np.setdiff1d(missing, found["key"])
        return pages


def _index(path: Path, cache: Path) -> _Source:
    """One file with its index, from the cache if this very file was indexed before."""
    target = cache / f"pages-{_stamp(path)}.npy"
    _once(target, lambda part: _save(part, _scan(path)))
    entries = np.load(target, mmap_mode="r")
    return _Source(path, entries, np.ascontiguousarray(entries["key"]))


def _stamp(path: Path, *more: bytes) -> str:
    """Name a file's present contents by its path, size and modification time."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    state = f"{INDEX_VERSION}|{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()
    return xxhash.xxh3_128_hexdigest(b"|".join([state, *more]))


def _once(target: Path, make: Callable[[Path], None]) -> None:
    """Make a file under a temporary name and rename it; of several processes one works, the others wait."""
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                with replacing(target) as part:
                    make(part)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: the index of a knowledge source cannot be written ({error.strerror or error}); "
            f"make room or choose another folder"
        ) from error


def _save(part: Path, entries: npt.NDArray[np.void]) -> None:
    with part.open("wb") as file:
        np.save(file, entries)


def _scan(path: Path) -> npt.NDArray[np.void]:
    """One streaming pass: where each page stands (in the decompressed bytes, if it is gzip)."""
    columns = array("Q"), array("Q"), array("Q")
    for number, offset, line in _lines(path):
        columns[0].append(page_key(_line_id(line, f"{path}:{number}")))
        columns[1].append(offset)
        columns[2].append(len(line))
    entries = np.empty(len(columns[0]), _ENTRY)
    for name, column in zip(("key", "offset", "length"), columns, strict=True):
        entries[name] = column
    _, first = np.unique(entries["key"], return_index=True)
    return entries[first]


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number from 1, byte offset, line) of every line that is not blank."""
    offset = 0
    for number, line in lines_of(path):
        if not line.isspace():
            yield number, offset, line
        offset += len(line)


def _line_id(line: bytes, place: str) -> str:
    start = _ID_FIRST.match(line)
    if start and line.rstrip().endswith(b"}"):  # else cut off
        return (start.group(1) or start.group(2) or b"").decode()
    try:
        return str(orjson.loads(line)["wikipedia_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_page(place, error) from error


def _extract(source: _Source, wanted: Hashes, cache: Path) -> Path:
    """Copy the wanted pages of a compressed source to a plain file, in one pass over it."""
    found = np.sort(source.lookup(np.unique(wanted)), order="offset")
    target = cache / f"pages-{_stamp(source.path, found.tobytes())}.jsonl"

    def copy(part: Path) -> None:
        at = 0
        with open_binary(source.path) as file, part.open("wb") as out:
            for _, offset, length in found.tolist():
                while skipped := file.read(min(offset - at, BYTES_PER_SKIP)):  # not every decompressor can seek
                    at += len(skipped)
                out.write(file.read(length).rstrip() + b"\n")
                at += length

    _once(target, copy)
    return target


def as_number(value: Any) -> int | None:
    """A paragraph or character number; some files hold them as strings."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def span(page: Page, provenance: dict[str, Any]) -> tuple[int, int] | None:
    """The words [begin, end) that a provenance points at; None if its place is not on the page.

    Without a paragraph (entity linking) it is the start of the page, without characters the whole paragraphs.
    """
    if provenance.get("start_paragraph_id") is None:
        return 0, 1
    first = as_number(provenance["start_paragraph_id"])
    last = as_number(provenance.get("end_paragraph_id"))
    if first is None or not 0 <= first < len(page.paragraphs):
        return None
    last = first if last is None or not first <= last < len(page.paragraphs) else last
    begin, end = as_number(provenance.get("start_character")), as_number(provenance.get("end_character"))
    return (
        page.starts[first] + (_words_before(page.paragraphs[first], begin) if begin else 0),
        page.starts[last] + _words_until(page.paragraphs[last], end),
    )


def _words_until(paragraph: str, character: int | None) -> int:
    """How many words begin before this character."""
    return min(len(paragraph_words(paragraph[:character])), len(paragraph_words(paragraph)))


def _words_before(paragraph: str, character: int) -> int:
    """How many words end before this character; 0 if it lies beyond the paragraph, whose text has changed then."""
    if character >= len(paragraph):
        return 0
    whole = paragraph[character - 1].isspace() or paragraph[character].isspace()
    return max(0, _words_until(paragraph, character) - (0 if whole else 1))

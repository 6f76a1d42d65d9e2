"""The one reader of rows: JSON lines, JSON arrays, CSV, TSV and Parquet, streamed; plain, gzip, bzip2, xz or zstd.

Every row is counted as read; one that is broken is dropped under a reason, with its place. What the compression is, the
file's first bytes say; what the form is, its name (``.csv``, ``.tsv``, ``.parquet``) and else its first line.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.errors import InputError
from medi_build.ledger import Ledger

BYTES_PER_READ = 1 << 22
LONGEST_ELEMENT = 1 << 26
"""An element of a JSON array that is not whole after so many bytes is broken."""
LONGEST_LINE = 1 << 24
"""A longer first line that begins an array is not one row of JSON lines but all rows at once."""
LONGEST_CELL = 1 << 22
LINES_OF_SAMPLE = 1000
CUTS = 3
"""How often the end of the last whole element of a block is guessed before its elements are read one by one."""
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes -> name."""
_OPENERS: dict[str, Any] = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
_PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_BROKEN_STREAM = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATORS = b" \t\r\n,"


# --- bytes


def compression(path: Path) -> str | None:
    """Name of a file's compression, by its first bytes; None for a plain file."""
    with path.open("rb") as probe:
        start = probe.read(6)
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


def open_binary(path: Path, buffering: int = 1 << 20) -> BinaryIO:
    """Open a file for reading, decompressed if it is compressed by its first bytes."""
    kind = compression(path)
    if kind is None:
        return path.open("rb", buffering)
    raw: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") if kind == "zstd" else _OPENERS[kind](path)
    return io.BufferedReader(raw, buffering)  # its own lines are read one Python call each


def _unreadable(path: Path, error: Exception, place: str) -> InputError:
    """What to say of an error of reading: a broken stream, or a file that is not there or may not be read."""
    if isinstance(error, _BROKEN_STREAM) or (isinstance(error, OSError) and error.errno is None):
        kind = compression(path) or "file"
        return InputError(f"{path}: {kind} stream ends or breaks {place} ({error}); delete the file and fetch it again")
    return InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


def _refuse_wide(start: bytes, path: Path) -> None:
    """Raise `InputError` where a text begins as UTF-16 or UTF-32 does."""
    if start[:2] in _WIDE or b"\0" in start[:4]:
        raise InputError(
            f"{path}: is UTF-16 (or no text at all: it begins with {start[:4]!r}); files of rows are read as UTF-8, so "
            f"convert it: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number from 1, line)`` of a file, compressed or plain.

    Raises:
        InputError: the file is missing, is UTF-16, or its compressed stream is truncated or damaged.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    _refuse_wide(line, path)
                yield number, line
    except (*_BROKEN_STREAM, OSError) as error:
        raise _unreadable(path, error, f"after line {number}") from error


# --- rows


def rows_of(
    path: Path, ledger: Ledger, *, lists: bool = True, headless: tuple[str, ...] = (), known: Collection[str] = ()
) -> Iterator[tuple[int, Any]]:
    """Yield ``(number from 1, row)`` of a file in any form.

    A row is what stands in a line or an element of a JSON file, or a dictionary by column.

    Args:
        path: the file.
        ledger: counts rows as read, and broken ones as dropped.
        lists: a row may be a list, so that a file of one such line is told from an array with care.
        headless: the columns' names in a CSV or TSV whose first row has as many cells and none of the names ``known``.
        known: names of which a header row has at least one.

    Raises:
        InputError: the file is missing, damaged, UTF-16, or not in the form that its name tells.
    """
    if is_parquet(path):
        number = 0
        for batch in parquet_batches(path, None, ledger):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    elif is_table(path):
        yield from table_rows(path, ledger, headless, known)
    else:
        yield from json_rows(path, ledger, lists=lists)


def is_parquet(path: Path) -> bool:
    """Whether a file is named as Parquet."""
    return path.suffix == ".parquet"


def is_table(path: Path) -> bool:
    """Whether a file is named as CSV or TSV, with or without an ending of a compression after that."""
    return _form(path) in (".csv", ".tsv")


def _form(path: Path) -> str:
    return (Path(path.stem) if path.suffix in _PACKED_ENDINGS else path).suffix.lower()


# --- JSON


def json_lines(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Yield ``(line number from 1, value)`` for every line of a ``.jsonl``/``.json`` file, compressed or plain.

    Every non-blank line counts as read. A line that is not JSON is dropped as ``invalid_json``, one with lone
    surrogates as ``invalid_unicode``. NaN and Infinity are read as Python writes them. A byte order mark before the
    first line is skipped.

    Raises:
        InputError: as `lines_of`.
    """
    for number, line in lines_of(path):
        if line.isspace():
            continue
        ledger.read += 1
        text = line if number > 1 else line.removeprefix(codecs.BOM_UTF8)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value, fault = _lenient(text)
            if fault:
                ledger.drop("adapt", fault, where=f"{path}:{number}")
                continue
        yield number, value


def _lenient(line: bytes) -> tuple[Any, str | None]:
    """A line as the standard parser reads it, which takes NaN, and the reason why it cannot be used, if so."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None, "invalid_json"
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, "invalid_unicode"
    return value, None


def json_rows(path: Path, ledger: Ledger, *, lists: bool = True) -> Iterator[tuple[int, Any]]:
    """Like `json_lines`, but the file may also be one JSON array of rows, on one line or on many, or one object.

    An array is streamed; its elements are numbered from 1. An object that begins with a lone brace is one row.

    Raises:
        InputError: as `json_lines`, or the array or object is not JSON.
    """
    form = _json_form(path, lists)
    if form == "lines":
        yield from json_lines(path, ledger)
    elif form == "object":
        ledger.read += 1
        yield 1, json_document(path)
    else:
        for number, value in enumerate(json_values(path), 1):
            ledger.read += 1
            yield number, value


def json_document(path: Path) -> Any:
    """Read a file that is one JSON value, compressed or plain, into memory.

    Raises:
        InputError: the file is missing, damaged, or not JSON.
    """
    try:
        with open_binary(path) as file:
            return orjson.loads(file.read().removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not a JSON document ({error}); delete the file and fetch it again") from error
    except (*_BROKEN_STREAM, OSError) as error:
        raise _unreadable(path, error, "somewhere") from error


def _json_form(path: Path, lists: bool) -> str:
    """``lines``, ``array`` or ``object``, by the first line that is not blank and the beginning of the next."""
    try:
        with open_binary(path) as file:
            first = _next_line(file)
            if first == b"{":
                return "object"
            if not first.startswith(b"["):
                return "lines"
            if first == b"[" or not lists or len(first) >= LONGEST_LINE:
                return "array"
            if first[1:].lstrip()[:1] not in (b"[", b"{"):
                return "lines"  # a row such as ["a", "b"]
            following = _next_line(file)
    except (*_BROKEN_STREAM, OSError):
        return "lines"  # whoever reads the rows meets the same fault and tells it
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return "array" if first[-1:] in b",[{:" or following[:1] in (b",", b"]", b"}", b":", b"") else "lines"
    return "lines" if following else "array"


def _next_line(file: BinaryIO) -> bytes:
    """The next line that is not blank, stripped, at most `LONGEST_LINE` of it; empty if there is none."""
    while line := file.readline(LONGEST_LINE):
        if text := line.removeprefix(codecs.BOM_UTF8).lstrip():
            return text if len(line) == LONGEST_LINE else text.rstrip()
    return b""


def json_values(path: Path, *, exact: bool = False) -> Iterator[Any]:
    """Decode the elements of one JSON array, or JSON values one after another, with a buffer of a few megabytes.

    Args:
        path: the file.
        exact: integers of more than 64 bits stay integers, which takes three times as long.

    Raises:
        InputError: the file is missing, not UTF-8, not JSON, cut off, or has more behind the end of the array.
    """
    count = 0
    try:
        with open_binary(path) as file:
            buffer = file.read(max(BYTES_PER_READ, 4))
            _refuse_wide(buffer, path)
            buffer, done = buffer.removeprefix(codecs.BOM_UTF8).lstrip(), not buffer
            while not buffer and not done:
                block = file.read(BYTES_PER_READ)
                buffer, done = block.lstrip(), not block
            in_array = buffer.startswith(b"[")
            buffer = buffer[in_array:]
            while True:
                values, buffer = _whole_elements(buffer) if in_array and not exact else ([], buffer)
                if not values:
                    values, buffer = _elements(buffer, in_array, done, path, count)
                yield from values
                count += len(values)
                buffer = buffer.lstrip(_SEPARATORS)
                if in_array and buffer.startswith(b"]"):
                    _check_end(buffer[1:], file, path, count)
                    return
                if done and not buffer:
                    if in_array:
                        raise InputError(
                            f"{path}: ends in the middle of the array, after {count:,} elements; is it whole?"
                        )
                    return
                if not done:
                    block = file.read(BYTES_PER_READ)
                    buffer, done = buffer + block, not block
    except (*_BROKEN_STREAM, OSError) as error:
        raise _unreadable(path, error, f"after element {count}") from error


def _whole_elements(buffer: bytes) -> tuple[list[Any], bytes]:
    """Elements of an array that a block holds whole, and the rest of it; none where that is not found out quickly.

    The block up to a bracket that closes, put into brackets, is JSON only if that bracket ends an element.
    """
    start = buffer.lstrip(_SEPARATORS)
    closing = {b"{": b"}", b"[": b"]"}.get(start[:1], b"")
    at = len(start)
    for _ in range(CUTS if closing else 0):
        at = start.rfind(closing, 0, at)
        if at < 0:
            break
        try:
            return cast(list[Any], orjson.loads(b"[%b]" % start[: at + 1])), start[at + 1 :]
        except orjson.JSONDecodeError:
            pass
    return [], start


def _elements(buffer: bytes, in_array: bool, done: bool, path: Path, count: int) -> tuple[list[Any], bytes]:
    """The same one by one, as the standard parser reads them; ``done``: no more bytes come after these."""
    try:
        text, used = codecs.utf_8_decode(buffer, "strict", done)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 after element {count} ({error.reason})") from error
    values: list[Any] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at == len(text) or (in_array and text[at] == "]"):
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            if done or len(text) - at > LONGEST_ELEMENT:
                why = getattr(error, "msg", error)
                raise InputError(
                    f"{path}: element {count + len(values)} is not JSON ({why}): {text[at : at + 60]!r}; is the "
                    "file whole?"
                ) from error
            break
        if end == len(text) and not done and text[end - 1] not in '}]"':
            break  # a number may go on
        values.append(value)
        at = end
    return values, text[at:].encode(errors="surrogatepass") + buffer[used:]


_DECODER = json.JSONDecoder()


def _check_end(rest: bytes, file: BinaryIO, path: Path, count: int) -> None:
    """Raise `InputError` if anything but white space comes after the array: it would be lost without a word."""
    while not rest.strip() and (block := file.read(BYTES_PER_READ)):
        rest = block
    if rest.strip():
        raise InputError(
            f"{path}: goes on after its array of {count:,} elements ended: "
            f"{rest.strip()[:60].decode(errors='replace')!r}; a file holds one array, or one record per line"
        )


# --- CSV and TSV


def table_rows(
    path: Path, ledger: Ledger, headless: tuple[str, ...] = (), known: Collection[str] = ()
) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield ``(row number from 1, cells by column)`` of a CSV or TSV with a header row; an empty cell is None.

    A CSV is separated by whichever of comma, semicolon and tab stands most often in its header, and quoted as Python's
    csv module and spreadsheets do it. A TSV is quoted so only if its first thousand lines do not come out even without:
    most have plain quotation marks in their texts. A row of another length than the header is dropped as
    ``wrong_number_of_columns``, one that is not CSV as ``invalid_csv``.

    Args:
        path: the file.
        ledger: counts.
        headless: as in `rows_of`.
        known: as in `rows_of`.

    Raises:
        InputError: as `lines_of`, or two columns have the same name.
    """
    csv.field_size_limit(LONGEST_CELL)
    number = 0
    try:
        with open_binary(path) as raw:
            _refuse_wide(cast(io.BufferedReader, raw).peek(4), path)
            reader, quoted = _csv_reader(path, raw)
            names = next((row for row in reader if row), [])
            if headless and len(names) == len(headless) and known and not {*known} & {*names}:
                names, first = list(headless), names
                number, ledger.read = 1, ledger.read + 1
                yield number, dict(zip(names, first, strict=True))
            repeated = [name for name in names if name and names.count(name) > 1]
            if repeated:
                raise InputError(f"{path}: two columns are named {repeated[0]!r}; rename one in the first line")
            width = len(names)
            while True:
                try:
                    row = next(reader, None)
                except csv.Error:
                    number, ledger.read = number + 1, ledger.read + 1
                    ledger.drop("adapt", "invalid_csv", where=f"{path}:{number}")
                    continue
                if row is None:
                    return
                if not row:
                    continue
                number += 1
                ledger.read += 1
                if len(row) != width:
                    ledger.drop("adapt", "wrong_number_of_columns", where=f"{path}:{number}")
                    continue
                cells = (
                    [cell or None for cell in row]
                    if quoted
                    else [_unquoted(c) if c[:1] == '"' else c or None for c in row]
                )
                yield number, dict(zip(names, cells, strict=True))
    except (*_BROKEN_STREAM, OSError) as error:
        raise _unreadable(path, error, f"after row {number}") from error


def _csv_reader(path: Path, raw: BinaryIO) -> tuple[Iterator[list[str]], bool]:
    """Rows of cells from the beginning of the file, and whether quotation marks were taken away."""
    if _form(path) == ".tsv":
        with open_binary(path) as probe:
            lines = list(islice(probe, LINES_OF_SAMPLE))
        quoted = _is_quoted([line.decode(errors="replace") for line in lines])
        return csv.reader(_decoded(raw), delimiter="\t") if quoted else _split(_decoded(raw)), quoted
    with open_binary(path) as probe:
        header = probe.readline(LONGEST_CELL).decode(errors="replace")
    delimiter = max(",;\t", key=header.count)
    return csv.reader(_decoded(raw), delimiter=delimiter), True


def _decoded(raw: BinaryIO) -> Iterator[str]:
    """The lines of a table; bytes that are no UTF-8 become lone surrogates, which no text may have."""
    for number, line in enumerate(raw):
        yield (line if number else line.removeprefix(codecs.BOM_UTF8)).decode(errors="surrogateescape")


def _split(lines: Iterable[str]) -> Iterator[list[str]]:
    """Rows of a TSV without quoting, in a third of the csv module's time; a blank line has no cells."""
    for line in lines:
        text = line.rstrip("\r\n")
        yield text.split("\t") if text else []


def _is_quoted(lines: list[str]) -> bool:
    """Whether the lines of a TSV make rows of one length only if they are read as quoted."""

    def lengths(quoting: Any) -> set[int]:
        rows = [len(row) for row in csv.reader(lines, delimiter="\t", quoting=quoting) if row]
        return set(rows if len(lines) < LINES_OF_SAMPLE else rows[:-1])  # the last row may be cut off

    return len(lengths(csv.QUOTE_NONE)) > 1 and len(lengths(csv.QUOTE_MINIMAL)) == 1


def _unquoted(cell: str) -> str | None:
    """A cell of a TSV without the quotation marks around the whole of it, if that is what they are."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1].replace('""', "\0")
        if '"' not in inner:
            return inner.replace("\0", '"') or None
    return cell or None


# --- Parquet


def parquet_batches(path: Path, columns: list[str] | None, ledger: Ledger) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet file; every row counts as read.

    Raises:
        InputError: not a Parquet file, truncated, or a column is missing.
    """
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            missing = [name for name in columns or [] if name not in known]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}; it has {', '.join(known)}")
            for batch in file.iter_batches(batch_size=8192, columns=columns):
                ledger.read += batch.num_rows
                yield batch
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error

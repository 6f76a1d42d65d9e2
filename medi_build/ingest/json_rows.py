"""Rows of a JSON file: one on each line, or the elements of an array, which is streamed, or one object."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from medi_build.errors import InputError
from medi_build.ingest.streams import BROKEN_STREAM, lines_of, open_binary, refuse_wide, unreadable
from medi_build.ledger import Ledger

BYTES_PER_READ = 1 << 22
LONGEST_ELEMENT = 1 << 26
"""An element of a JSON array that is not whole after so many bytes is broken."""
LONGEST_LINE = 1 << 24
"""A longer first line that begins an array is not one row of JSON lines but all rows at once."""
CUTS = 3
"""How often the end of the last whole element of a block is guessed before its elements are read one by one."""
_SEPARATORS = b" \t\r\n,"


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
    except (*BROKEN_STREAM, OSError) as error:
        raise unreadable(path, error, "somewhere") from error


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
    except (*BROKEN_STREAM, OSError):
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
            refuse_wide(buffer, path)
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
    except (*BROKEN_STREAM, OSError) as error:
        raise unreadable(path, error, f"after element {count}") from error


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
            pass  # that bracket ended no element; what no cut makes whole, `_elements` reads and tells
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
        except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
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

"""Raw files as rows: JSON lines (plain or gzip) and Parquet, streamed."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.errors import InputError
from medi_build.ledger import Ledger


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number from 1, line)`` of a file, gzip or plain.

    Raises:
        InputError: the file is missing, or its gzip stream is truncated or damaged.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: gzip stream ends or breaks after line {number} ({error}); delete the file and fetch it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def json_lines(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Yield ``(line number from 1, value)`` for every line of a ``.jsonl``/``.json`` file, gzip or plain.

    Every non-blank line counts as read. A line that is not JSON is dropped as ``invalid_json``, one with lone
    surrogates as ``invalid_unicode``. A byte order mark before the first line is skipped.

    Raises:
        InputError: as `lines_of`.
    """
    for number, line in lines_of(path):
        if line.isspace():
            continue
        ledger.read += 1
        try:
            value = orjson.loads(line if number > 1 else line.removeprefix(codecs.BOM_UTF8))
        except orjson.JSONDecodeError:
            ledger.drop("adapt", _why_not_json(line), where=f"{path}:{number}")
            continue
        yield number, value


def json_rows(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Like `json_lines`; a pretty-printed document (its first line is a lone bracket) is read as a whole.

    A document counts as one row, or, if it is a list, as one row per item (numbered from 1).

    Raises:
        InputError: as `json_lines`, or the document is not JSON.
    """
    return (_document_rows if _first_line(path) in (b"{", b"[") else json_lines)(path, ledger)


def _document_rows(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    document = json_document(path)
    for number, value in enumerate(document if isinstance(document, list) else [document], 1):
        ledger.read += 1
        yield number, value


def json_document(path: Path) -> Any:
    """Read a file that is one JSON value, gzip or plain, into memory.

    Raises:
        InputError: the file is missing, damaged, or not JSON.
    """
    try:
        with open_binary(path) as file:
            return orjson.loads(file.read().removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not a JSON document ({error}); delete the file and fetch it again") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: gzip stream breaks ({error}); delete the file and fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _first_line(path: Path) -> bytes:
    """The first line that is not blank, stripped, at most its first kilobyte; empty if there is none."""
    try:
        with open_binary(path) as file:
            while line := file.readline(1024):
                text = line.removeprefix(codecs.BOM_UTF8).strip()
                if text:
                    return text
    except (OSError, EOFError, zlib.error):
        return b""  # whoever reads the rows meets the same fault and tells it
    return b""


def open_binary(path: Path, buffering: int = 1 << 20) -> BinaryIO:
    """Open a file for reading, decompressed if it is gzip by its first bytes."""
    with path.open("rb") as probe:
        magic = probe.read(2)
    if magic != b"\x1f\x8b":
        return path.open("rb", buffering)
    return io.BufferedReader(gzip.open(path, "rb"), buffering)  # its own lines are read one Python call each


def _why_not_json(line: bytes) -> str:
    """Tell a lone surrogate, which the standard parser accepts, from broken JSON."""
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return "invalid_json"
    return "invalid_unicode"


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

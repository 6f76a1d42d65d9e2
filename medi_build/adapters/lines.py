"""Raw files as rows: JSON lines (plain or gzip) and Parquet, streamed."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.errors import InputError
from medi_build.ledger import Ledger


def json_lines(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Yield ``(line number from 1, value)`` for every line of a ``.jsonl``/``.json`` file, gzip or plain.

    Every non-blank line counts as read. A line that is not JSON is dropped as ``invalid_json``, one with lone
    surrogates as ``invalid_unicode``.

    Raises:
        InputError: the file is missing, or its gzip stream is truncated or damaged.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                ledger.read += 1
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    ledger.drop("adapt", _why_not_json(line), where=f"{path}:{number}")
                    continue
                yield number, value
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: gzip stream ends or breaks after line {number} ({error}); delete the file and fetch it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as probe:
        magic = probe.read(2)
    return cast(BinaryIO, gzip.open(path, "rb")) if magic == b"\x1f\x8b" else path.open("rb", buffering=1 << 20)


def _why_not_json(line: bytes) -> str:
    """Tell a lone surrogate, which the standard parser accepts, from broken JSON."""
    try:
        json.loads(line)
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

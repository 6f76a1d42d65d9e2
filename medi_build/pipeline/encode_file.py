"""Files of texts to vectors: ``medi encode``."""

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.encode.engine import Progress
from medi_build.encode.instructor import Instructor
from medi_build.errors import InputError, TrainError
from medi_build.files import atomic_file
from medi_build.ingest.adapters.base import clean
from medi_build.ingest.rows import is_parquet, lines_of, parquet_batches, rows_of
from medi_build.ledger import Ledger

ROWS_PER_STEP = 8192
TEXT_FILE = re.compile(r"\.txt(\.(gz|bz2|xz|zst))?$")
ROWS_FILE = re.compile(r"\.(jsonl?|csv|tsv)(\.(gz|bz2|xz|zst))?$")


def encode_file(
    model: Instructor,
    source: Path,
    out: Path,
    *,
    instruction: str = "",
    column: str = "text",
    progress: Progress | None = None,
) -> Ledger:
    """Encode the texts of a file, a few thousand at a time.

    Args:
        model: the encoder.
        source: ``.txt`` (a text per line), ``.jsonl`` or ``.json`` (strings, or objects with `column`), ``.csv`` or
            ``.tsv`` (with a header), each also compressed, or ``.parquet``.
        out: Parquet file with ``row`` (int64, counted from 0 in the source), ``text`` and ``vector`` (float32 [d]).
        instruction: of all texts.
        column: name of the text's column or key.
        progress: told (texts done, texts in the step).

    Returns:
        The ledger: rows read, written, and dropped by reason (``wrong_type``, ``empty_text``, ``invalid_unicode``,
        ``invalid_json``, ``too_long``); the note ``truncated`` counts texts that did not fit the window.

    Raises:
        TrainError: the file is of another kind, has no such column or is ``out`` itself, or the instruction fills the
            window.
        OutputError: ``out`` cannot be written.
        InputError: the file cannot be read, or none of its rows can be used.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise TrainError(f"{out}: is the file to encode; name another one for the vectors")
    if instruction and model.plain and model.tokenise([(instruction, "")]).lengths[0] >= model.max_seq_length:
        raise TrainError(
            f"the instruction leaves no room for text in the window of {model.max_seq_length} tokens: "
            f"{instruction[:80]!r}; shorten it"
        )
    ledger = Ledger(dataset=source.name)
    vector = pa.list_(pa.float32(), model.get_embedding_dimension())
    schema = pa.schema([("row", pa.int64()), ("text", pa.string()), ("vector", vector)])
    with atomic_file(out) as file, pq.ParquetWriter(pa.PythonFile(file, mode="w"), schema) as writer:
        for rows, texts in _steps(_texts(source, column, ledger), ledger):
            vectors, truncated = model.encode_counted([(instruction, text) for text in texts], progress)
            ledger.note("truncated", truncated)
            flat = pa.array(vectors.reshape(-1), pa.float32())
            arrays = [pa.array(rows), pa.array(texts), pa.FixedSizeListArray.from_arrays(flat, type=vector)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            ledger.written += len(rows)
        if ledger.read and not ledger.written:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in ledger.dropped["adapt"].items())
            raise InputError(f"{source}: none of its {ledger.read:,} rows has a usable text ({reasons}); mend it")
    return ledger


def _steps(texts: Iterator[tuple[int, Any]], ledger: Ledger) -> Iterator[tuple[list[int], list[str]]]:
    """Usable texts with their row numbers, `ROWS_PER_STEP` at a time."""
    rows: list[int] = []
    kept: list[str] = []
    for row, text in texts:
        if fault := clean(text)[1]:
            ledger.drop("adapt", fault, where=f"row {row}")
            continue
        ledger.adapted += 1
        rows.append(row)
        kept.append(text)
        if len(rows) == ROWS_PER_STEP:
            yield rows, kept
            rows, kept = [], []
    if rows:
        yield rows, kept


def _texts(source: Path, column: str, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Rows or lines of the source, numbered from 0."""
    if not source.is_file():
        raise TrainError(f"{source}: no such file; name a .txt, .jsonl, .csv or .parquet file")
    if is_parquet(source):
        start = 0
        for batch in parquet_batches(source, [column], ledger):
            yield from enumerate(batch[column].to_pylist(), start)
            start += len(batch)
    elif TEXT_FILE.search(source.name):
        for number, line in lines_of(source):
            ledger.read += 1
            text = line if number > 1 else line.removeprefix(codecs.BOM_UTF8)
            yield number - 1, text.decode(errors="surrogateescape").rstrip("\r\n")
    elif ROWS_FILE.search(source.name):
        for number, value in rows_of(source, ledger, lists=False):
            if isinstance(value, Mapping) and column not in value:
                raise TrainError(
                    f"{source}:{number}: has no {column!r}; its keys are {', '.join(map(repr, value)) or 'none'}, name "
                    "the one that holds the text as column"
                )
            yield number - 1, value[column] if isinstance(value, Mapping) else value
    else:
        raise TrainError(
            f"{source}: is neither .txt nor .jsonl, .json, .csv, .tsv nor .parquet; save the texts in one of these "
            "forms"
        )

"""Files of texts to vectors: ``medi encode``."""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.embedding import Prompt
from medi_build.encode.engine import Progress
from medi_build.encode.instructor import Instructor
from medi_build.encode.pair_tokens import TRUNCATED
from medi_build.encode.prompts import Prompts
from medi_build.errors import InputError, TrainError
from medi_build.files import atomic_file
from medi_build.ingest.parquet_rows import is_parquet, parquet_batches
from medi_build.ingest.rows import rows_of
from medi_build.ingest.streams import lines_of
from medi_build.ledger import Ledger

ROWS_PER_STEP = 8192
CHARACTERS_PER_STEP = 1 << 26
"""So that the texts of a step stay below what an Arrow array of strings holds."""
CHARACTERS_PER_TOKEN = 16
"""As many are tokenised at first for each token of the window: the rest of a text hardly ever matters."""
ROWS_TO_FIND_COLUMN = 1000
TEXT_FILE = re.compile(r"\.txt(\.(gz|bz2|xz|zst))?$")
ROWS_FILE = re.compile(r"\.(jsonl?|csv|tsv)(\.(gz|bz2|xz|zst))?$")
MISSING = object()
"""The value of a row that lacks the column."""


def encode_file(
    model: Instructor,
    source: Path,
    out: Path,
    *,
    instruction: str | None = None,
    column: str = "text",
    progress: Progress | None = None,
) -> Ledger:
    """Encode the texts of a file, a few thousand at a time.

    Args:
        model: the encoder.
        source: ``.txt`` (a text per line), ``.jsonl`` or ``.json`` (strings, or objects with `column`), ``.csv`` or
            ``.tsv`` (with a header), each also compressed, or ``.parquet``.
        out: Parquet file with ``row`` (int64, counted from 0 in the source), ``text`` and ``vector`` (float32 [d]).
        instruction: of all texts; None for the prompt that the model takes by default, if it has saved one.
        column: name of the text's column or key.
        progress: told (texts done, texts in the step).

    Returns:
        The ledger: rows read, written, and dropped by reason (``missing_column``, ``wrong_type``, ``empty_text``,
        ``invalid_unicode``, ``invalid_json``, ...); the note ``truncated`` counts texts that were cut at the window.

    Raises:
        TrainError: the file is of another kind or is ``out`` itself, or the instruction fills the window.
        OutputError: ``out`` cannot be written.
        InputError: the file cannot be read, none of its first rows has the column, or no row can be used.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise TrainError(f"{out}: is the file to encode; name another one for the vectors")
    instruction = Prompts(model.prompts, model.default_prompt_name).text(Prompt(instruction))
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
            beginnings = [(instruction, _beginning(model, instruction, text)) for text in texts]
            vectors, truncated = model.encode_counted(beginnings, progress)
            ledger.note("truncated", truncated)
            flat = pa.array(vectors.reshape(-1), pa.float32())
            arrays = [pa.array(rows), pa.array(texts), pa.FixedSizeListArray.from_arrays(flat, type=vector)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            ledger.written += len(rows)
        if ledger.read and not ledger.written:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in ledger.dropped["adapt"].items())
            raise InputError(f"{source}: none of its {ledger.read:,} rows has a usable text ({reasons}); mend it")
    return ledger


def _beginning(model: Instructor, instruction: str, text: str) -> str:
    """As much of a text as decides its tokens in the window: twice what fills it, for a tokenizer looks around."""
    if not model.plain:
        return text
    length = CHARACTERS_PER_TOKEN * model.max_seq_length
    while 2 * length < len(text):
        if model.tokenise([(instruction, text[:length])]).flags[0] & TRUNCATED:
            return text[: 2 * length]
        length *= 2
    return text


def _steps(texts: Iterable[tuple[int, Any]], ledger: Ledger) -> Iterator[tuple[list[int], list[str]]]:
    """Usable texts with their row numbers, a step's worth at a time."""
    rows: list[int] = []
    kept: list[str] = []
    characters = 0
    for row, text in texts:
        if fault := _fault(text):
            ledger.drop("adapt", fault, where=f"row {row}")
            continue
        ledger.adapted += 1
        rows.append(row)
        kept.append(text)
        characters += len(text)
        if len(rows) == ROWS_PER_STEP or characters > CHARACTERS_PER_STEP:
            yield rows, kept
            rows, kept, characters = [], [], 0
    if rows:
        yield rows, kept


def _fault(text: Any) -> str | None:
    """Why a text cannot be encoded, or None."""
    if text is MISSING:
        return "missing_column"
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty_text"
    if not isinstance(text, str):
        return "wrong_type"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "invalid_unicode"
    return None


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
        yield from _values(source, column, ledger)
    else:
        raise TrainError(
            f"{source}: is neither .txt nor .jsonl, .json, .csv, .tsv nor .parquet; save the texts in one of these "
            "forms"
        )


def _values(source: Path, column: str, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """The texts of a file of rows, numbered from 0; `MISSING` where a row has no such column.

    Raises:
        InputError: none of the first rows has the column.
    """
    rows = rows_of(source, ledger, lists=False)
    first = list(islice(rows, ROWS_TO_FIND_COLUMN))
    if first and all(isinstance(row, Mapping) and column not in row for _, row in first):
        keys = dict.fromkeys(key for _, row in first for key in row)
        raise InputError(
            f"{source}: none of its first {len(first):,} rows has {column!r}; their keys are "
            f"{', '.join(map(repr, keys)) or 'none'}, name the one that holds the text as column"
        )
    for number, row in chain(first, rows):
        yield number - 1, row.get(column, MISSING) if isinstance(row, Mapping) else row

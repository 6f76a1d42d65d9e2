"""What is checked: the texts of training records, from a built folder or a file, as a stream of blocks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medi_build.arrays import Ints
from medi_build.dataset.reader import open_dataset
from medi_build.errors import EvaluationError, InputError
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger

SIDES = ("query", "pos", "neg")
ROWS_AT_ONCE = 1024
_COLUMNS = ["query", "pos", "neg", "task_name", "hard_negatives"]
_KEYS = (
    re.compile("query|anchor"),
    re.compile("pos|positives?|positive_passages"),
    re.compile("neg|negatives?|negative_[0-9]+|negative_passages|hard_negatives"),
)
FORMS = "query, pos and neg (or anchor, positive, negative), each a text or [instruction, text] or a list of them"


class Block(NamedTuple):
    """Some records, n of them with t texts.

    Attributes:
        datasets: the dataset of each record, [n].
        texts: of all records, ``large_string`` [t].
        rows: the record of each text, from 0 in this block, [t].
        sides: its side, a place in ``SIDES``, [t].
    """

    datasets: Sequence[str]
    texts: pa.Array
    rows: Ints
    sides: Ints


class Source(NamedTuple):
    """Records to look through: how many, None if that is not known before, and a stream of them."""

    total: int | None
    blocks: Iterator[Block]


def open_records(path: Path) -> Source:
    """The records of a built folder or of a file.

    Raises:
        DatasetError: the folder is not whole.
        EvaluationError: there is no such file.
    """
    if path.is_dir():
        dataset = open_dataset(path)
        return Source(dataset.manifest.rows, (block_of(batch) for batch in dataset.batches(_COLUMNS)))
    if not path.is_file():
        raise EvaluationError(
            f"{path}: no such file or folder; name a folder that `medi build` wrote, or a file of records"
        )
    return Source(None, _file_blocks(path))


def block_of(batch: pa.RecordBatch) -> Block:
    """Records whose sides are columns of lists ``[instruction, text]``."""
    count = batch.num_rows
    texts = [pc.list_element(batch[side], 1).cast(pa.large_string()) for side in SIDES]
    rows, sides = [np.arange(count)] * 3, [np.full(count, side) for side in range(3)]
    if "hard_negatives" in batch.schema.names:
        texts.append(pc.list_flatten(batch["hard_negatives"]).cast(pa.large_string()))
        rows.append(pc.list_parent_indices(batch["hard_negatives"]).to_numpy().astype(np.int64))
        sides.append(np.full(len(texts[-1]), SIDES.index("neg")))
    task = batch["task_name" if "task_name" in batch.schema.names else "task_id"].cast(pa.string())
    return Block(task.to_pylist(), pa.concat_arrays(texts), np.concatenate(rows), np.concatenate(sides))


# --- files


def _file_blocks(path: Path) -> Iterator[Block]:
    """Blocks of a file. Raises `InputError` where it cannot be read or holds something else."""
    if path.suffix == ".parquet" and (columns := _list_columns(path)):
        try:
            with pq.ParquetFile(path) as file:
                yield from map(block_of, file.iter_batches(ROWS_AT_ONCE, columns=columns))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read to its end ({error}); fetch or copy it again") from error
        return
    rows, empty = _rows(path), True
    while some := list(islice(rows, ROWS_AT_ONCE)):
        empty = False
        yield _python_block(some, path)
    if empty:
        raise InputError(f"{path}: holds no records; is it whole?")


def _list_columns(path: Path) -> list[str]:
    """The columns to read of a Parquet file in the form of medi's shards; none for another one."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file ({error})") from error
    names = [name for name in (*_COLUMNS, "task_id") if name in schema.names]
    listed = all(name in names and schema.field(name).type == pa.list_(pa.string()) for name in SIDES)
    return names if listed and {"task_name", "task_id"} & {*names} else []


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a file, lists of records laid flat; none may be broken."""
    ledger = Ledger(path.name)
    for number, value in rows_of(path, ledger, headless=("query", "pos", "neg"), known=("anchor", *SIDES)):
        for reason, places in ledger.places.items():
            raise InputError(f"{places[0]}: {reason.removeprefix('adapt/')}; mend the file: no record may be missed")
        nested = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
        yield from ((number, one) for one in value) if nested else ((number, value),)
    for reason, places in ledger.places.items():
        raise InputError(f"{places[0]}: {reason.removeprefix('adapt/')}; mend the file: no record may be missed")


def _python_block(numbered: Sequence[tuple[int, Any]], path: Path) -> Block:
    datasets: list[str] = []
    texts: list[str] = []
    rows: list[int] = []
    sides: list[int] = []
    for number, row in numbered:
        found = list(_texts(row, f"{path}: row {number}"))
        texts += [text for _, text in found]
        sides += [side for side, _ in found]
        rows += [len(datasets)] * len(found)
        name = row.get("task_name", row.get("task_id")) if isinstance(row, dict) else None
        datasets.append(path.name if name is None else str(name))
    try:
        column = pa.array(texts, pa.large_string())
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: a text among rows {numbered[0][0]} to {numbered[-1][0]} is not valid Unicode"
        ) from error
    return Block(datasets, column, np.array(rows, np.int64), np.array(sides, np.int64))


def _texts(row: Any, where: str) -> Iterator[tuple[int, str]]:
    """Side and text of all texts of a record in any of the known forms."""
    if isinstance(row, list) and len(row) > 1 and all(isinstance(text, str) for text in row):
        row = {"query": row[0], "pos": row[1], "neg": row[2:]}
    if not isinstance(row, dict):
        raise InputError(f"{where}: is {_shown(row)}; a record has {FORMS}")
    if "document" in row or "documents" in row:
        row = _judged(row)
    paired = isinstance(row.get("query"), list)
    seen = set()
    for key, value in row.items():
        side = next((side for side, keys in enumerate(_KEYS) if keys.fullmatch(key)), None)
        if side is not None and value is not None:
            seen.add(side)
            told = row.get(f"{key}_instruct")
            for text in _side_texts(value, paired and key in SIDES, where, key):
                if text != told:
                    yield side, text
    if not {0, 1} <= seen:
        raise InputError(f"{where}: has the keys {', '.join(map(str, row)) or 'none'}; a record has {FORMS}")


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of documents with labels (or scores), as a row of positives and negatives."""
    documents = row["documents"] if "documents" in row else [row["document"]]
    labels = row.get("labels") or ([row["label"]] if "label" in row else [1] * len(documents))
    pairs = list(zip(documents, labels, strict=False))
    sides = {"pos": [text for text, label in pairs if label], "neg": [text for text, label in pairs if not label]}
    return {**{key: value for key, value in row.items() if key not in ("document", "documents")}, **sides}


def _side_texts(value: Any, paired: bool, where: str, key: str) -> Iterator[str]:
    """The texts of a side: a text, a list of texts or passages, ``[instruction, text]``, or a list of such."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("text"), str):
        yield f"{value.get('title') or ''} {value['text']}".strip()
    elif paired and isinstance(value, list) and len(value) > 1 and all(isinstance(part, str) for part in value[:2]):
        yield value[1]
    elif isinstance(value, list):
        for inner in value:
            yield from _side_texts(inner, paired, where, key)
    else:
        raise InputError(f"{where}: {key} is {_shown(value)}; a record has {FORMS}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"

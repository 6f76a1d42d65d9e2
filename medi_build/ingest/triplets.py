"""Training records as a stream: a build's Parquet shards, `medi-data.json` in any form it ever had, what was mined.

All come out as Arrow batches of schema `TRIPLETS`. What cannot be a record is an error that names the row.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medi_build.dataset.reader import Manifest, open_dataset
from medi_build.dataset.schema import LISTS
from medi_build.dataset.versions.names import may_be_version
from medi_build.dataset.versions.which import is_folder
from medi_build.errors import InputError
from medi_build.ingest.json_rows import json_values
from medi_build.ingest.mined_forms import (
    Instructions,
    columns_of,
    is_line_form,
    is_table_form,
    line_records,
    only_file,
    table_records,
)

if TYPE_CHECKING:
    from medi_build.dataset.versions.log import Commit

ROWS_PER_BATCH = 1024
"""So few that they never have 2 GiB of text."""

SIDES = ("query", "pos", "neg")
_LISTS = pa.list_(pa.string())
TRIPLETS = pa.schema(
    [
        *((f"{side}_{part}", pa.string()) for side in SIDES for part in ("instruction", "text")),
        ("task", pa.string()),  # the task id as digits, or its name in old files
        ("where", pa.string()),  # for error messages: file and row
        *((name, _LISTS) for name in LISTS),
    ]
)
_OLD_SUFFIX = "Input:"
NO_INSTRUCTIONS = Instructions()


class Source(NamedTuple):
    """Where training records come from.

    Attributes:
        files: Parquet files of a build, or one Parquet or JSON file.
        manifest: of the build, where they are one.
        commit: the version that they are, where they come from a warehouse.
    """

    files: list[Path]
    manifest: Manifest | None = None
    commit: "Commit | None" = None


def open_source(source: Path | str, warehouse: Path | None = None) -> Source:
    """The shards of a folder of `medi build` or of a version, what `medi mine` wrote, or a Parquet or JSON file.

    Args:
        source: file, folder, or the name of a version (tag, branch, id of a commit).
        warehouse: where versions are; None for ``MEDI_WAREHOUSE``, else ``./warehouse``.

    Raises:
        DatasetError: the folder is not whole.
        InputError: there is no such file, or the folder holds what was mined in several forms.
        VersionError: the version is not there or not whole, or a folder has the same name.
    """
    path, name = Path(source), str(source)
    if path.is_file():
        return Source([path])
    if not (path.is_dir() or may_be_version(name, warehouse)):
        raise InputError(
            f"{path}: no such file or folder; name a folder that `medi build` or `medi mine` wrote, a medi-data.json, "
            "or a version in the warehouse"
        )
    if is_folder(name, warehouse):
        if (mined := only_file(path)) is not None:
            return Source([mined])
        dataset = open_dataset(path)
        return Source(dataset.shards, dataset.manifest)
    from medi_build.dataset.versions.refs import open_version, resolve  # pyiceberg takes a second

    commit = resolve(warehouse, name)
    version = open_version(warehouse, str(commit.id))
    return Source(version.shards, version.manifest, commit)


def read_triplets(files: Iterable[Path], given: Instructions = NO_INSTRUCTIONS) -> Iterator[pa.RecordBatch]:
    """Stream the records of all files as batches of schema `TRIPLETS`.

    Args:
        files: as `open_source` finds them.
        given: instructions for records that have none of their own, as those that `medi mine` writes.

    Raises:
        InputError: a row is not a record; names file and row. Or instructions are given and the records have theirs.
        InputError: a JSON file cannot be read, or is not JSON.
    """
    for path in files:
        yield from (_parquet_triplets if path.suffix == ".parquet" else _json_triplets)(path, given)


def _refuse(given: Instructions, path: Path) -> None:
    if any(given):
        raise InputError(
            f"{path}: its records have their own instructions; leave out --query-instruction and --document-instruction"
        )


def _parquet_triplets(path: Path, given: Instructions) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a readable Parquet file ({error})") from error
    names = set(file.schema_arrow.names)
    if is_table_form(names):
        batches = _batches(file, columns_of(file.schema_arrow, path), path)
        yield from _blocks(table_records(file.schema_arrow, batches, path, given))
        return
    _refuse(given, path)
    if missing := sorted({*SIDES, "task_id"} - names):
        raise InputError(f"{path}: has no column {', '.join(missing)}; the columns are {', '.join(sorted(names))}")
    optional = [name for name in LISTS if name in names]
    ids = ["pos_id"] if "pos_id" in names else []
    _check_types(file.schema_arrow, [*SIDES, "task_id", *optional, *ids], path)
    row = 0
    for batch in _batches(file, [*SIDES, "task_id", *optional, *ids], path):
        where = pa.array([f"{path.name}, row {row + i}" for i in range(len(batch))])
        columns: dict[str, pa.Array] = {"where": where, "task": _tasks(batch["task_id"], where)}
        for side in SIDES:
            columns[f"{side}_instruction"], columns[f"{side}_text"] = _halves(batch[side], side, where)
        empty = pa.array([[]] * len(batch), _LISTS)
        for name in LISTS:
            columns[name] = pc.coalesce(batch[name].cast(_LISTS), empty) if name in optional else empty
        if ids:
            single = np.arange(len(batch) + 1, dtype=np.int32)
            columns["pos_ids"] = pa.ListArray.from_arrays(single, batch["pos_id"].cast(pa.string()))
        yield pa.RecordBatch.from_arrays([columns[name] for name in TRIPLETS.names], schema=TRIPLETS)
        row += len(batch)


def _check_types(schema: pa.Schema, names: list[str], path: Path) -> None:
    for name in names:
        kind = schema.field(name).type
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        inner = kind.value_type if listed else kind
        good = pa.types.is_string(inner) or pa.types.is_large_string(inner)
        if name not in SIDES:  # classes, pages, ids: numbers will do
            good = good or pa.types.is_integer(inner) or pa.types.is_null(inner)
        if not good or listed != (name in {*SIDES, *LISTS}):
            wanted = "lists of strings" if name in {*SIDES, *LISTS} else "integers or strings"
            raise InputError(f"{path}: the column {name} is of type {kind}; it has to hold {wanted}")


def _batches(file: pq.ParquetFile, names: list[str], path: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(ROWS_PER_BATCH, columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error}); build or copy it again") from error


def _tasks(ids: pa.Array, where: pa.Array) -> pa.Array:
    """The tasks' ids as strings."""
    missing = pc.index(ids.is_null(), True).as_py()
    if missing >= 0:
        raise InputError(f"{where[missing].as_py()}: task_id is null; it has to be an integer or a string")
    return ids.cast(pa.string())


def _halves(pairs: pa.Array, side: str, where: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Instructions and texts of a column of lists ``[instruction, text]``."""
    lengths = pc.fill_null(pc.list_value_length(pairs), 0)
    wrong = pc.index(pc.not_equal(lengths, 2), True).as_py()
    if wrong >= 0:
        raise InputError(
            f"{where[wrong].as_py()}: {side} is {pairs[wrong].as_py()!r}; it has to be a list [instruction, text]"
        )
    return pc.list_element(pairs, 0), pc.list_element(pairs, 1)


def _json_triplets(path: Path, given: Instructions) -> Iterator[pa.RecordBatch]:
    if is_line_form(next(json_values(path), None)):
        yield from _blocks(line_records(json_values(path), path, given))
        return
    _refuse(given, path)
    yield from _blocks(_json_records(path))


def _blocks(records: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    while block := list(islice(records, ROWS_PER_BATCH)):
        yield _to_batch(block)


def _json_records(path: Path) -> Iterator[tuple[Any, ...]]:
    task_key = ""
    for number, value in enumerate(_records(path)):
        where = f"{path.name}, record {number}"
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: is {_shown(value)}; it has to be an object with query, pos, neg and task_id")
        task_key = _check_keys(value, task_key, where)
        halves = [half for side in SIDES for half in _pair(value[side], side, where)]
        lists = [_strings(value.get(name, []), name, where) for name in LISTS]
        yield (*halves, _task(value[task_key], task_key, where), where, *lists)


def _to_batch(block: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*block, strict=True)
    try:
        arrays = [pa.array(column, field.type) for column, field in zip(columns, TRIPLETS, strict=True)]
    except UnicodeEncodeError as error:
        where = next(row for row in block if not _is_unicode(row))[TRIPLETS.names.index("where")]
        raise InputError(f"{where}: a text is not valid Unicode ({error.reason}); mend the file") from error
    return pa.RecordBatch.from_arrays(arrays, schema=TRIPLETS)


def _is_unicode(row: tuple[Any, ...]) -> bool:
    """Whether all strings of a row can be written as UTF-8; lone surrogates cannot."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_keys(record: Mapping[str, Any], task_key: str, where: str) -> str:
    """Check a record's keys; returns the one that names the task, which all records of a file share."""
    found = [key for key in ("task_id", "task_name") if key in record]
    key = task_key if task_key in found else next(iter(found), "task_id")
    missing = [name for name in (*SIDES, key) if name not in record]
    if missing:
        raise InputError(
            f"{where}: has no {' and no '.join(missing)}; its keys are {', '.join(map(repr, record)) or 'none'}, "
            "it needs query, pos, neg and task_id (task_name in old files)"
        )
    if task_key and key != task_key:
        raise InputError(
            f"{where}: names its task by {key!r}, the records before it by {task_key!r}; a file has to use one of them"
        )
    return key


def _pair(value: Any, side: str, where: str) -> tuple[str, str]:
    """``(instruction, text)`` of a side in the present form, or in the old one with a third entry 0 or 1."""
    good = isinstance(value, list) and len(value) in (2, 3) and all(isinstance(part, str) for part in value[:2])
    if not good or (len(value) == 3 and value[2] not in (0, 1)):
        raise InputError(
            f"{where}: {side} is {_shown(value)}; it has to be [instruction, text], two strings (in old files with a "
            "third entry 0 or 1)"
        )
    instruction, text = value[:2]
    if len(value) == 3:
        instruction = instruction.rstrip().removesuffix(_OLD_SUFFIX).rstrip()
    return instruction, text


def _task(value: Any, key: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int if key == "task_id" else (int, str)):
        kind = "an integer" if key == "task_id" else "a string"
        raise InputError(f"{where}: {key} is {_shown(value)}; it has to be {kind}")
    return str(value)


def _strings(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise InputError(f"{where}: {name} is {_shown(value)}; it has to be a list of strings")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:99] + "…"


def _records(path: Path) -> Iterator[Any]:
    """The records of a JSON array or of JSON lines; old files hold lists of four records, which are laid flat."""
    for value in json_values(path, exact=True):
        if isinstance(value, list):
            yield from value
        else:
            yield value

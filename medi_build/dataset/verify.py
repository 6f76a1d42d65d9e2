"""Checks a built dataset against its manifest, and its records against the rules of the format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.dataset.reader import DatasetEntry, Manifest, open_dataset, shard_batches
from medi_build.errors import DatasetError
from medi_build.files import FileEntry, file_digest
from medi_build.ledger import Ledger


class Verified(NamedTuple):
    """What was found whole."""

    rows: int
    datasets: int
    shards: int


def verify(folder: Path, batch_size: int = 1) -> Verified:
    """Check digests and counts of every file, the ledgers, and every record.

    Args:
        folder: output folder of a build.
        batch_size: windows of this many consecutive rows of ``medi-data.json`` must not mix tasks, as the public
            trainer drops those that do.

    Raises:
        DatasetError: on the first fault, naming file and row.
    """
    dataset = open_dataset(folder)
    manifest, shards = dataset.manifest, 0
    for one in manifest.datasets:
        Ledger.from_dict(one.ledger).check()
        rows = 0
        for shard in one.shards:
            _check_file(folder, shard)
            rows += _check_shard(folder / shard.path, one)
            shards += 1
        if rows != one.rows or rows != one.ledger["written"]:
            raise DatasetError(
                f"{one.name}: shards hold {rows} rows, the manifest says {one.rows}, the ledger "
                f"{one.ledger['written']}; build it again"
            )
    for file in manifest.files:
        _check_file(folder, file)
    for file in manifest.explanations:
        if (folder / file.path).is_file():  # they are beside the dataset: a copy may be without them
            _check_file(folder, file)
    _check_json(folder / "medi-data.json", manifest, batch_size)
    return Verified(manifest.rows, len(manifest.datasets), shards)


def _check_file(folder: Path, entry: FileEntry) -> None:
    path = folder / entry.path
    try:
        digest = file_digest(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); build it again") from error
    if digest != entry.sha256:
        raise DatasetError(f"{path}: sha256 is {digest}, the manifest says {entry.sha256}; it was changed or damaged")


def _check_shard(path: Path, dataset: DatasetEntry) -> int:
    """Check every record of a shard and return how many there are."""
    done = 0
    for batch in shard_batches(path, None):
        fault = _first_fault(batch, dataset)
        if fault is not None:
            raise DatasetError(f"{path}: row {done + fault[0]}: {fault[1]}")
        done += batch.num_rows
    return done


def _first_fault(batch: pa.RecordBatch, dataset: DatasetEntry) -> tuple[int, str] | None:
    """``(row, what)`` of the first record that breaks a rule, vectorised over the batch.

    As long as all is well no array meets a Python value: for that pyarrow imports pandas, which takes longer than all
    the rest.
    """
    sides = ("query", "pos", "neg")
    for side in sides:
        lengths = pc.list_value_length(batch[side])
        if set(lengths.unique().to_pylist()) - {2}:
            return pc.index(pc.not_equal(lengths, 2), True).as_py(), f"{side} is no [instruction, text]"
    if set(batch["task_id"].unique().to_pylist()) - {dataset.task_id}:
        return pc.index(pc.not_equal(batch["task_id"], dataset.task_id), True).as_py(), "wrong task_id"
    texts = {side: pc.utf8_trim_whitespace(pc.list_slice(batch[side], 1, 2).flatten()) for side in sides}
    rules: dict[str, pa.Array] = {"the negative equals the positive": pc.equal(texts["neg"], texts["pos"])}
    rules["the negative equals the query"] = pc.equal(texts["neg"], texts["query"])
    for side, text in texts.items():
        instruction = pc.list_slice(batch[side], 0, 1).flatten()
        rules[f"empty {side}"] = pc.invert(_filled(text))
        good = pc.or_(pc.invert(_filled(instruction)), pc.starts_with(instruction, "Represent "))
        rules[f"the instruction of {side} is neither empty nor begins with 'Represent '"] = pc.invert(good)
    for what, broken in rules.items():
        if pc.any(broken).as_py():
            return pc.index(broken, True).as_py(), what
    return None


def _filled(texts: pa.Array) -> pa.Array:
    """Whether each string has a character."""
    return pc.binary_length(texts).cast(pa.bool_())


def _check_json(path: Path, manifest: Manifest, batch_size: int) -> None:
    """Stream ``medi-data.json``: keys, order, count, windows."""
    order = [d.task_id for d in manifest.datasets for _ in range(d.rows)]
    count, first = 0, 0
    for count, row in enumerate(_json_rows(path), 1):
        if tuple(row) != ("query", "pos", "neg", "task_id"):
            raise DatasetError(f"{path}: record {count} has the keys {', '.join(row)}")
        if count > len(order) or row["task_id"] != order[count - 1]:
            raise DatasetError(f"{path}: record {count} has task_id {row['task_id']}, out of the manifest's order")
        first = row["task_id"] if (count - 1) % batch_size == 0 else first
        if row["task_id"] != first:
            raise DatasetError(
                f"{path}: the window of {batch_size} rows around record {count} mixes tasks {first} and "
                f"{row['task_id']}; build with --batch-multiple {batch_size}"
            )
    if count != manifest.rows:
        raise DatasetError(f"{path}: {count} records, the manifest says {manifest.rows}")


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file in the form we write: one per line inside one array."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            body = line.strip().removesuffix(b",")
            if body in (b"[", b"]", b""):
                continue
            try:
                yield orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise DatasetError(f"{path}:{number}: not a record ({error}); build it again") from error

"""Checks a built dataset against its manifest, and its records against the rules of the format."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medi_build.errors import OutputError
from medi_build.ledger import Ledger
from medi_build.records import RECORDS
from medi_build.write.output import MANIFEST


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
        OutputError: on the first fault, naming file and row.
    """
    manifest = _manifest(folder)
    try:
        return _verify(folder, manifest, batch_size)
    except (KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{folder / MANIFEST}: not as medi writes it ({type(error).__name__}: {error}); build it again"
        ) from error


def _verify(folder: Path, manifest: Mapping[str, Any], batch_size: int) -> Verified:
    shards = 0
    for dataset in manifest["datasets"]:
        Ledger.from_dict(dataset["ledger"]).check()
        rows = 0
        for shard in dataset["shards"]:
            _check_file(folder, shard)
            rows += _check_shard(folder / shard["path"], dataset)
            shards += 1
        if rows != dataset["rows"] or rows != dataset["ledger"]["written"]:
            raise OutputError(
                f"{dataset['name']}: shards hold {rows} rows, the manifest says {dataset['rows']}, the ledger "
                f"{dataset['ledger']['written']}; build it again"
            )
    for file in manifest["files"]:
        _check_file(folder, file)
    _check_json(folder / "medi-data.json", manifest, batch_size)
    return Verified(manifest["rows"], len(manifest["datasets"]), shards)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; give the --out of a build")
    try:
        manifest: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise OutputError(
            f"{path}: not there; this is no output folder of medi, or its build is not finished: run it again"
        ) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise OutputError(f"{path}: not valid JSON ({error}); build it again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        seen = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise OutputError(f"{path}: format {seen!r}; this version of medi reads format 1")
    return manifest


def _check_file(folder: Path, entry: Mapping[str, Any]) -> None:
    path = folder / entry["path"]
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}); build it again") from error
    if digest != entry["sha256"]:
        raise OutputError(f"{path}: sha256 is {digest}, the manifest says {entry['sha256']}; it was changed or damaged")


def _check_shard(path: Path, dataset: Mapping[str, Any]) -> int:
    """Check every record of a shard and return how many there are."""
    with pq.ParquetFile(path) as file:
        if not file.schema_arrow.equals(RECORDS):
            raise OutputError(f"{path}: its schema is not the one of this version of medi; build it again")
        done = 0
        for batch in file.iter_batches():
            fault = _first_fault(batch, dataset)
            if fault is not None:
                raise OutputError(f"{path}: row {done + fault[0]}: {fault[1]}")
            done += batch.num_rows
    return done


def _first_fault(batch: pa.RecordBatch, dataset: Mapping[str, Any]) -> tuple[int, str] | None:
    """``(row, what)`` of the first record that breaks a rule, vectorised over the batch."""
    texts = {side: pc.utf8_trim_whitespace(pc.list_element(batch[side], 1)) for side in ("query", "pos", "neg")}
    rules: dict[str, pa.Array] = {"the negative equals the positive": pc.equal(texts["neg"], texts["pos"])}
    rules["the negative equals the query"] = pc.equal(texts["neg"], texts["query"])
    rules["wrong task_id"] = pc.not_equal(batch["task_id"], dataset["task_id"])
    for side, text in texts.items():
        instruction = pc.list_element(batch[side], 0)
        good = pc.or_(pc.equal(instruction, ""), pc.starts_with(instruction, "Represent "))
        rules[f"empty {side}"] = pc.equal(text, "")
        rules[f"the instruction of {side} is neither empty nor begins with 'Represent '"] = pc.invert(good)
    for what, broken in rules.items():
        row = pc.index(broken, True).as_py()
        if row >= 0:
            return row, what
    return None


def _check_json(path: Path, manifest: Mapping[str, Any], batch_size: int) -> None:
    """Stream ``medi-data.json``: keys, order, count, windows."""
    order = [d["task_id"] for d in manifest["datasets"] for _ in range(d["rows"])]
    count, first = 0, 0
    for count, row in enumerate(_json_rows(path), 1):
        if tuple(row) != ("query", "pos", "neg", "task_id"):
            raise OutputError(f"{path}: record {count} has the keys {', '.join(row)}")
        if count > len(order) or row["task_id"] != order[count - 1]:
            raise OutputError(f"{path}: record {count} has task_id {row['task_id']}, out of the manifest's order")
        first = row["task_id"] if (count - 1) % batch_size == 0 else first
        if row["task_id"] != first:
            raise OutputError(
                f"{path}: the window of {batch_size} rows around record {count} mixes tasks {first} and "
                f"{row['task_id']}; build with --batch-multiple {batch_size}"
            )
    if count != manifest["rows"]:
        raise OutputError(f"{path}: {count} records, the manifest says {manifest['rows']}")


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
                raise OutputError(f"{path}:{number}: not a record ({error}); build it again") from error

"""A whole dataset folder around any records, for those who read one."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.dataset.reader import DatasetEntry, Manifest
from medi_build.dataset.schema import MANIFEST, RECORDS, SCHEMA_VERSION
from medi_build.dataset.shards import json_rows, write_json_array
from medi_build.files import FileEntry, atomic_file
from medi_build.ledger import Ledger

FILLER: dict[Any, Any] = {pa.string(): "", pa.int32(): 0, pa.int64(): 0, pa.float32(): 0.5}


def filled(row: dict[str, Any]) -> dict[str, Any]:
    """A record with something in every column."""
    return {field.name: FILLER.get(field.type, []) for field in RECORDS} | row


def entry(root: Path, path: Path, rows: int) -> FileEntry:
    data = path.read_bytes()
    name = path.relative_to(root).as_posix()
    return FileEntry(path=name, rows=rows, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_built(folder: Path, records: list[dict[str, Any]], shards_of: int = 2) -> Path:
    """Shards of schema RECORDS, ``shards_of`` for each task, and what a manifest lists beside them."""
    (folder / "data").mkdir(parents=True)
    rows = [filled(row) for row in records]
    datasets = []
    for task in dict.fromkeys(row["task_id"] for row in rows):
        own = [row for row in rows if row["task_id"] == task]
        step = -(-len(own) // shards_of)
        shards = []
        for number, start in enumerate(range(0, len(own), step)):
            path = folder / "data" / f"{task:05d}-toy-{number:04d}.parquet"
            part = pa.Table.from_pylist(own[start : start + step], schema=RECORDS)
            pq.write_table(part, path)
            shards.append(entry(folder, path, part.num_rows))
        ledger = Ledger(f"toy/{task}", read=len(own), adapted=len(own), written=len(own))
        datasets.append(
            DatasetEntry(
                name=f"toy/{task}",
                task_id=task,
                kind="pairs",
                rows=len(own),
                licence="CC0-1.0",
                commercial_use="allowed",
                instructions=[("", "")],
                rows_sha256="",
                shards=shards,
                ledger=ledger.to_dict(),
            )
        )
    with atomic_file(folder / "medi-data.json") as file:
        write_json_array(file, ([json_rows(pa.Table.from_pylist([row], schema=RECORDS))] for row in rows))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        medi_version="0",
        writers={},
        pipeline={"name": "toy"},
        encoder="none",
        prompts={},
        rows=len(rows),
        digest="",
        datasets=datasets,
        overlaps=[],
        files=[entry(folder, folder / "medi-data.json", len(rows))],
    )
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest.model_dump(mode="json")))
    return folder

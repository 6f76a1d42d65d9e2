"""A whole dataset folder around any records, for those who read one."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec, Pipeline
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


def dataset_entry(name: str, task_id: int, rows: int, **given: Any) -> DatasetEntry:
    """A dataset as a manifest tells it; what is not given is as good as any."""
    ledger = Ledger(name, read=rows, adapted=rows, written=rows)
    usual = {
        "kind": "pairs",
        "licence": "CC0-1.0",
        "commercial_use": "allowed",
        "instructions": [("", "")],
        "rows_sha256": "",
        "shards": [],
        "ledger": ledger.to_dict(),
        "fingerprint": "",
        "basis": {"task_id": task_id, "template": {}, "cap": 0, "rows": [], "extra": {}},
        "card": {"name": name, "description": "Toys.", "citation": "None.", "download": None},
    }
    return DatasetEntry.model_validate({"name": name, "task_id": task_id, "rows": rows, **usual, **given})


def toy_manifest(datasets: list[DatasetEntry], **given: Any) -> Manifest:
    """The manifest of some datasets."""
    pipeline = Pipeline(
        name="toy",
        description="Toys.",
        sources=("toy",),
        encoder=EncoderSpec(model="none"),
        mining=MiningRule(preset="paper"),
    )
    usual = {
        "schema_version": SCHEMA_VERSION,
        "medi_version": "0",
        "writers": {},
        "environment": {},
        "pipeline": pipeline.model_dump(mode="json"),
        "basis": {
            "stages": {},
            "encoders": [{"model": "none", "revision": None}],
            "mining": pipeline.mining.model_dump(mode="json"),
        },
        "encoder": "none",
        "prompts": {},
        "rows": sum(one.rows for one in datasets),
        "digest": "",
        "overlaps": [],
        "files": [],
    }
    return Manifest.model_validate({"datasets": datasets, **usual, **given})


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
        datasets.append(dataset_entry(f"toy/{task}", task, len(own), shards=shards))
    with atomic_file(folder / "medi-data.json") as file:
        write_json_array(file, ([json_rows(pa.Table.from_pylist([row], schema=RECORDS))] for row in rows))
    manifest = toy_manifest(datasets, files=[entry(folder, folder / "medi-data.json", len(rows))])
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest.model_dump(mode="json")))
    return folder

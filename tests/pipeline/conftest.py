"""A user's own pairs, on disk."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.own_files import PAIRS, THINGS


@pytest.fixture(params=["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def source(request, tmp_path):
    path = tmp_path / request.param
    lines = "\n".join(map(json.dumps, PAIRS)).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(PAIRS), path)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.fixture
def things(tmp_path):
    path = tmp_path / "things.jsonl"
    path.write_text("\n".join(json.dumps([f"where is the {thing}", f"the {thing} stands there"]) for thing in THINGS))
    return path

"""A version of a warehouse is exported and pushed as the folder that was committed."""

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.remote.listing import manifest_bytes
from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.shards import json_rows, write_shard
from tests.dataset.built import entry
from tests.dataset.remote.conftest import tree


def with_row_groups(folder: Path) -> None:
    """Each shard anew in three row groups, and ``medi-data.json`` as a build writes it."""
    manifest, rows = open_dataset(folder).manifest, []
    datasets = []
    for one in manifest.datasets:
        shards = []
        for shard in one.shards:
            table = pq.read_table(folder / shard.path)
            parts: list[pa.Table] = [table.slice(start, 4) for start in (0, 4, 8)]
            shards.append(write_shard(folder / shard.path, folder, parts))
            rows.append(json_rows(table))
        datasets.append(one.model_copy(update={"shards": shards}))
    (folder / "medi-data.json").write_bytes(b"[\n" + b",\n".join(rows) + b"\n]\n")
    files = [entry(folder, folder / one.path, one.rows) for one in manifest.files]
    new = manifest.model_copy(update={"datasets": datasets, "files": files})
    (folder / MANIFEST).write_bytes(manifest_bytes(new))


def medi(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "400"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_a_tag_goes_out_as_the_folder_did(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDI_WAREHOUSE", str(tmp_path / "warehouse"))
    with_row_groups(one)
    medi("commit", one, "-m", "first", "--tag", "v1")
    medi("push", "v1", f"file://{tmp_path}/store")
    medi("pull", f"file://{tmp_path}/store", "--out", tmp_path / "back")
    medi("checkout", "v1", "--out", tmp_path / "checked-out")
    assert tree(tmp_path / "back") == tree(one) == tree(tmp_path / "checked-out")
    medi("export", "v1", "--format", "medi-json", "--out", tmp_path / "array")
    assert tree(tmp_path / "array")["medi-data.json"] == tree(one)["medi-data.json"]
    medi("export", "v1", "--format", "tevatron", "--out", tmp_path / "tevatron", "--warehouse", tmp_path / "warehouse")
    line = (tmp_path / "tevatron" / "data" / "toy_1.jsonl").read_bytes().splitlines()[0]
    assert orjson.loads(line)["query"] == "a 0"

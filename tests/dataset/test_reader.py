"""A built folder is opened whole or not at all, by every command, before any model is loaded."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.verify import verify
from medi_build.errors import DatasetError
from tests.dataset.built import write_built


def record(number: int, task: int) -> dict[str, Any]:
    return {
        "query": ["", f"question {number}"],
        "pos": ["", f"answer {number}"],
        "neg": ["", f"another answer than {number}"],
        "task_id": task,
        "id": f"toy/{number}",
    }


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return write_built(tmp_path / "built", [record(number, 1 + number // 7) for number in range(20)], shards_of=3)


def test_the_records_come_in_the_manifest_s_order(built: Path) -> None:
    dataset = open_dataset(built)
    assert [row["id"] for batch in dataset.batches() for row in batch.to_pylist()] == [f"toy/{n}" for n in range(20)]
    assert next(b.schema.names for b in dataset.batches(["task_id", "id"])) == ["task_id", "id"]
    assert [shard.name for shard in dataset.shards[:2]] == ["00001-toy-0000.parquet", "00001-toy-0001.parquet"]
    assert verify(built).rows == dataset.manifest.rows == 20


@pytest.mark.parametrize(("count", "wanted"), [(0, []), (1, [10]), (4, [2, 7, 12, 17]), (20, list(range(20)))])
def test_a_sample_is_spread_evenly(built: Path, count: int, wanted: list[int]) -> None:
    assert [row["id"] for row in open_dataset(built).sample(count)] == [f"toy/{number}" for number in wanted]


def test_a_larger_sample_is_all_there_is(built: Path) -> None:
    assert len(open_dataset(built).sample(100)) == 20


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def a_shard_gone(folder: Path) -> None:
    (folder / "data" / "00002-toy-0001.parquet").unlink()


def a_shard_cut_short(folder: Path) -> None:
    path = folder / "data" / "00002-toy-0001.parquet"
    path.write_bytes(path.read_bytes()[:-1])


def a_stray_shard(folder: Path) -> None:
    (folder / "data" / "old").mkdir()
    pq.write_table(pq.read_table(folder / "data" / "00001-toy-0000.parquet"), folder / "data" / "old" / "x.parquet")


def a_joined_file_gone(folder: Path) -> None:
    (folder / "medi-data.json").unlink()


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def of_the_first_version(manifest: dict[str, Any]) -> None:
    manifest["format"] = manifest.pop("schema_version") - 1


DAMAGES = {
    "no manifest": (no_manifest, r"manifest\.json: not there"),
    "a shard gone": (a_shard_gone, r"00002-toy-0001\.parquet: is missing"),
    "a shard cut short": (a_shard_cut_short, r"00002-toy-0001\.parquet: has [\d,]+ bytes, the manifest says"),
    "a stray shard": (a_stray_shard, r"old/x\.parquet: is no shard that the manifest lists; remove it"),
    "a joined file gone": (a_joined_file_gone, r"medi-data\.json: is missing"),
    "an older version": (changed(of_the_first_version), r"schema version 5, this medi reads 6; .*medi build"),
    "a newer version": (changed(lambda m: m.update(schema_version=99)), r"schema version 99"),
    "no rows": (changed(lambda m: m.pop("rows")), r"not as medi writes it \(rows: Field required\)"),
    "an unknown key": (changed(lambda m: m.update(more=1)), r"not as medi writes it \(more: "),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_folder_that_is_not_whole_is_one_clear_error(
    built: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(built)
    for read in (open_dataset, verify):
        with pytest.raises(DatasetError, match=message):
            read(built)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [no_manifest, a_shard_gone, a_stray_shard])
@pytest.mark.parametrize(
    "command", [["train", "BUILT", "--model", "no/such-model", "--output-dir", "OUT"], ["verify", "BUILT"]]
)
def test_every_command_says_so_before_any_model_is_looked_for(
    built: Path, tmp_path: Path, damage: Callable[[Path], None], command: list[str]
) -> None:
    damage(built)
    places = {"BUILT": str(built), "OUT": str(tmp_path / "out")}
    line = [sys.executable, "-m", "medi_build", *(places.get(word, word) for word in command)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={"HF_HUB_OFFLINE": "1", "HOME": "/"})
    assert done.returncode == 1
    assert "DatasetError" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_records_are_read_only_in_the_columns_of_this_version(built: Path) -> None:
    path = built / "data" / "00001-toy-0000.parquet"
    size = path.stat().st_size
    table = pq.read_table(path).drop_columns("labels")
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    with pytest.raises(DatasetError, match=r"00001-toy-0000\.parquet: (its columns|cannot be read)"):
        list(open_dataset(built).batches())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(DatasetError, match="no such folder"):
            open_dataset(path)

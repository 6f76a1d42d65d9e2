"""A version as a folder again, and every byte of it checked."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build import BuildOptions, build
from medi_build.cli import app
from medi_build.dataset.verify import verify
from medi_build.dataset.versions import place, refs
from medi_build.dataset.versions.checkout import MARK, checkout
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.verify import verify_version
from medi_build.errors import DatasetError, OutputError, VersionError
from tests.versions.toy import dataset, records


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file but what a build keeps for itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".medi" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    folder = dataset(tmp_path / "a", records(1, 5), records(2, 7))
    commit(tmp_path / "w", folder, "first", tag="v1")
    commit(tmp_path / "w", dataset(tmp_path / "b", records(1, 5), records(2, 7, "changed")), "second", tag="v2")
    return tmp_path / "w"


def test_a_real_build_comes_back_byte_for_byte(tmp_path: Path) -> None:
    sources = ("embedding_training_data/sample_entailment", "medmcqa/sample")
    build(BuildOptions(out=tmp_path / "a", sources=sources, limit_per_dataset=20))
    commit(tmp_path / "w", tmp_path / "a", "samples", tag="v1")
    checkout(tmp_path / "w", "v1", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "a")
    assert {"README.md", "tasks.csv", "medi-data.json", "manifest.json"} < contents(tmp_path / "out").keys()
    assert not (tmp_path / "out" / ".medi").exists()
    verify(tmp_path / "out")


@pytest.mark.parametrize("copy", [False, True])
def test_shards_are_linked_or_copied(tmp_path: Path, warehouse: Path, copy: bool) -> None:
    checkout(warehouse, "v1", tmp_path / "out", copy=copy)
    assert contents(tmp_path / "out") == contents(tmp_path / "a")
    shard = "data/00002-toy-0000.parquet"
    assert (tmp_path / "out" / shard).samefile(tmp_path / "a" / shard) is not copy
    checkout(warehouse, "v1", tmp_path / "out", copy=copy)  # it is there
    assert contents(tmp_path / "out") == contents(tmp_path / "a")


def test_a_folder_with_something_else_is_refused(tmp_path: Path, warehouse: Path) -> None:
    checkout(warehouse, "v1", tmp_path / "out")
    with pytest.raises(OutputError, match="holds another dataset"):
        checkout(warehouse, "v2", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="holds something else"):
        checkout(warehouse, "v1", tmp_path / "mine")
    with pytest.raises(OutputError, match="holds something else"):
        checkout(warehouse, "v1", tmp_path / "mine" / "notes.txt")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    (tmp_path / "out" / "medi-data.json").write_bytes(b"[]")
    with pytest.raises(OutputError, match=r"medi-data.json: is missing or damaged"):
        checkout(warehouse, "v1", tmp_path / "out")


@pytest.mark.parametrize("steps", range(8))
def test_a_checkout_that_stops_anywhere_is_gone_on_with(
    tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Stopped at each file that it syncs, and then done for another version that was asked for instead."""
    left = [steps]

    def stopping(paths: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, "sync", stopping)
        patch.setattr("medi_build.dataset.versions.checkout.sync", stopping)
        try:
            checkout(warehouse, "v1", tmp_path / "out")
        except KeyboardInterrupt:
            pass
        else:
            pytest.skip("fewer steps")
    assert (tmp_path / "out" / MARK).is_file()
    if (tmp_path / "out" / "data").exists():
        (tmp_path / "out" / "data" / ".00001-toy-0000.parquet.1.tmp").write_bytes(b"of a kill")
    version, folder = ("v2", "b") if steps % 2 else ("v1", "a")
    checkout(warehouse, version, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / folder)
    assert not (tmp_path / "out" / ".medi").exists()


def test_a_damaged_version_is_not_checked_out(tmp_path: Path, warehouse: Path) -> None:
    path = refs.open_version(warehouse, "v1").shards[0]
    text = bytearray(path.read_bytes())
    text[40] ^= 1
    path.unlink()
    path.write_bytes(text)
    with pytest.raises(DatasetError, match="it was changed or damaged"):
        checkout(warehouse, "v1", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_json_of_another_library_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset(tmp_path / "a", records(1, 5))
    commit(tmp_path / "w", folder, "first")
    monkeypatch.setattr(place, "json_rows", lambda table: b"{}")
    with pytest.raises(VersionError, match=r"medi-data.json: would have the sha256 .* here is polars"):
        checkout(tmp_path / "w", "main", tmp_path / "out")
    assert not (tmp_path / "out" / "medi-data.json").exists()


def test_verify_tells_every_damaged_file_and_who_has_it(tmp_path: Path, warehouse: Path) -> None:
    good = verify_version(warehouse, "v1")
    assert (good.files, good.damaged) == (5, [])
    shards = refs.open_version(warehouse, "v1").shards
    shards[0].unlink()
    shards[3].unlink()
    shards[3].write_bytes(b"x")
    one, two = refs.resolve(warehouse, "v1"), refs.resolve(warehouse, "v2")
    found = verify_version(warehouse, "v1").damaged
    assert [(one.path, one.what.split(" (")[0][:14], [c.id for c in one.commits]) for one in found] == [
        (shards[0], "is missing", [one.id, two.id]),
        (shards[3], "has the sha256", [one.id]),
    ]
    assert [one.path for one in verify_version(warehouse, "v2").damaged] == [shards[0]]
    done = CliRunner().invoke(app, ["verify", "v1", "--warehouse", str(warehouse)])
    assert isinstance(done.exception, VersionError)
    assert f"{shards[0]}: is missing; it belongs to commit {one.id} (tag v1), commit {two.id} (branch main" in (
        done.stderr.replace("\n", "")
    )
    manifest = warehouse / "manifests" / two.manifest / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert [one.path for one in verify_version(warehouse, "v2").damaged] == [manifest]


def test_verify_without_icebergs_files(tmp_path: Path, warehouse: Path) -> None:
    for path in (warehouse / "records" / "metadata").glob("snap-*"):
        path.write_bytes(b"junk")
    with pytest.raises(VersionError, match="a file of the table's metadata cannot be read"):
        verify_version(warehouse, "v1")


def test_verify_takes_both(tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDI_WAREHOUSE", str(warehouse))
    run = CliRunner().invoke
    assert "all as committed" in run(app, ["verify", "v1"]).stdout
    assert "5 files" in run(app, ["verify", "v1"]).stdout
    assert "batch-size" in str(run(app, ["verify", "v1", "--batch-size", "4"]).exception)
    assert "no such folder" in str(run(app, ["verify", str(tmp_path / "missing")]).exception)

"""A warehouse that was moved or copied."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.versions import refs
from medi_build.dataset.versions.checkout import checkout
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.gc import gc
from medi_build.dataset.versions.relocate import relocate
from medi_build.dataset.versions.verify import verify_version
from medi_build.errors import VersionError
from tests.versions.test_checkout import contents
from tests.versions.toy import dataset, records


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    commit(tmp_path / "w", dataset(tmp_path / "a", records(1, 5), records(2, 7)), "first", tag="v1")
    commit(tmp_path / "w", dataset(tmp_path / "b", records(1, 5), records(2, 7, "changed")), "second", tag="v2")
    return tmp_path / "w"


def told(warehouse: Path) -> list[dict[str, object]]:
    return [one.to_dict() for one in refs.log(warehouse)]


@pytest.mark.parametrize("copied", [False, True])
def test_a_moved_warehouse_says_what_to_do_and_is_whole_after_it(tmp_path: Path, warehouse: Path, copied: bool) -> None:
    history = told(warehouse)
    moved = tmp_path / "elsewhere" / "w 2"
    moved.parent.mkdir()
    (shutil.copytree if copied else shutil.move)(warehouse, moved)
    for use in (
        lambda: refs.resolve(moved, "v1"),
        lambda: commit(moved, tmp_path / "a", "third"),
        lambda: gc(moved),
        lambda: checkout(moved, "v1", tmp_path / "out"),
    ):
        with pytest.raises(VersionError, match="medi versions relocate --warehouse"):
            use()
    done = CliRunner().invoke(app, ["versions", "relocate", "--warehouse", str(moved)], env={"COLUMNS": "200"})
    assert done.stdout == f"2 versions moved from {warehouse}/records to {moved}/records\n"
    assert told(moved) == history
    for ref, folder in (("v1", "a"), ("v2", "b")):
        assert verify_version(moved, ref).damaged == []
        assert all(path.is_relative_to(moved) for path in refs.open_version(moved, ref).shards)
        checkout(moved, ref, tmp_path / "out" / ref)
        assert contents(tmp_path / "out" / ref) == contents(tmp_path / folder)
    assert gc(moved).files == []
    assert commit(moved, tmp_path / "a", "as it was").new
    if copied:
        assert told(warehouse) == history
        assert verify_version(warehouse, "v2").damaged == []


def test_one_that_is_where_it_was_is_left(warehouse: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (warehouse / "records").rglob("*")}
    assert relocate(warehouse).versions == 0
    assert {path: path.stat().st_mtime_ns for path in (warehouse / "records").rglob("*")} == before


def test_a_warehouse_without_its_table_is_told(tmp_path: Path, warehouse: Path) -> None:
    shutil.move(warehouse, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "records" / "metadata")
    with pytest.raises(VersionError, match="the whole folder has to be moved"):
        relocate(tmp_path / "moved")
    with pytest.raises(VersionError, match="no warehouse"):
        relocate(tmp_path / "nothing")

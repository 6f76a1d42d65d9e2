"""What goes and what stays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.versions import refs
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.gc import gc
from medi_build.dataset.versions.verify import verify_version
from medi_build.errors import VersionError
from tests.versions.toy import dataset, records


def files(warehouse: Path) -> set[Path]:
    return {path for path in warehouse.rglob("*") if path.is_file()}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """main: one, two; the branch trial: one, three. Their folders are gone."""
    root = tmp_path / "w"
    folders = [dataset(tmp_path / str(n), records(1, 5), records(2, 4, f"version {n}")) for n in range(3)]
    commit(root, folders[0], "one", tag="v1")
    refs.set_branch(root, "trial")
    commit(root, folders[1], "two")
    commit(root, folders[2], "three", branch="trial")
    for folder in folders:
        shutil.rmtree(folder)
    return root


def test_nothing_that_a_ref_reaches_goes(warehouse: Path) -> None:
    before = files(warehouse)
    found = gc(warehouse)
    assert (found.snapshots, found.files, found.size) == ([], [], 0)
    assert files(warehouse) == before


def test_a_branch_that_is_deleted_goes_with_what_it_alone_had(warehouse: Path) -> None:
    three = refs.resolve(warehouse, "trial")
    only = {path for path in refs.open_version(warehouse, "trial").shards if path.parent.name == three.key[:16]}
    assert len(only) == 2
    refs.delete_branch(warehouse, "trial")
    before = files(warehouse)
    told = gc(warehouse, dry_run=True)
    assert files(warehouse) == before
    assert only <= set(told.files)
    found = gc(warehouse)
    assert found.snapshots == told.snapshots == [three.id]
    assert set(found.files) == set(told.files)
    assert found.size > 0
    assert not any(path.exists() for path in only)
    assert not (warehouse / "manifests" / three.manifest).exists()
    assert not only.pop().parent.exists()
    for ref in ("main", "v1"):
        assert verify_version(warehouse, ref).damaged == []
    with pytest.raises(VersionError, match="no tag, branch or commit"):
        refs.resolve(warehouse, str(three.id))
    again = gc(warehouse)
    assert again.snapshots == []


def test_a_tag_keeps_what_a_branch_left(warehouse: Path) -> None:
    refs.set_tag(warehouse, "keep", "trial")
    refs.delete_branch(warehouse, "trial")
    assert gc(warehouse).snapshots == []
    assert verify_version(warehouse, "keep").damaged == []


def test_what_kills_have_left_goes_unless_it_is_young(warehouse: Path) -> None:
    left = [
        warehouse / "records" / "data" / "0123456789abcdef" / "00001-toy-0000.parquet",
        warehouse / "records" / "metadata" / "00099-never-registered.metadata.json",
        warehouse / "manifests" / ".0123.1.tmp" / "manifest.json",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    assert gc(warehouse, older_than=3600).files == []
    assert set(gc(warehouse).files) == set(left)
    assert not any(path.exists() for path in left)
    assert not left[0].parent.exists()


def test_who_writes_next_clears_away_temporary_names_of_the_dead_alone(warehouse: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [warehouse / f".journal.json.{gone.pid}.tmp", warehouse / "manifests" / f".0123.{gone.pid}.tmp"]
    lives = warehouse / f".tombstones.jsonl.{os.getpid()}.tmp"
    left[1].mkdir()
    for path in (left[0], left[1] / "manifest.json", lives):
        path.write_bytes(b"half")
    refs.set_tag(warehouse, "next")
    assert [path.exists() for path in (*left, lives)] == [False, False, True]


def test_nothing_goes_where_the_metadata_cannot_be_read(warehouse: Path) -> None:
    refs.delete_branch(warehouse, "trial")
    [path] = (warehouse / "records" / "metadata").glob(f"snap-{refs.resolve(warehouse, 'v1').id}-*")
    path.write_bytes(b"junk")
    before = files(warehouse)
    with pytest.raises(VersionError, match=r"cannot be read .* nothing was removed"):
        gc(warehouse)
    assert files(warehouse) == before


def test_the_verb_tells_counts(warehouse: Path) -> None:
    refs.delete_branch(warehouse, "trial")
    told = CliRunner().invoke(app, ["gc", "--dry-run", "--warehouse", str(warehouse)], env={"COLUMNS": "200"})
    assert "1 versions that nothing reached" in told.stdout
    assert "would go" in told.stdout
    done = CliRunner().invoke(app, ["gc", "--warehouse", str(warehouse)], env={"COLUMNS": "200"})
    assert "are gone" in done.stdout

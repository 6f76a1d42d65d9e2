"""What a commit stores, and what names it."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import parquet_files_to_data_files
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.versions import refs
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.data_files import data_files_of
from medi_build.dataset.versions.warehouse import reading
from medi_build.dataset.versions.which import open_any
from medi_build.errors import DatasetError, VersionError
from medi_build.files import file_digest
from tests.versions.toy import dataset, records


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def same_records(version: str, warehouse: Path, folder: Path) -> bool:
    found, built = refs.open_version(warehouse, version), open_dataset(folder)
    rows = [batch.to_pylist() for batch in built.batches()]
    return found.manifest == built.manifest and [batch.to_pylist() for batch in found.batches()] == rows


def test_a_version_is_what_was_committed_and_stays_so(tmp_path: Path) -> None:
    warehouse = tmp_path / "w"
    first = dataset(tmp_path / "a", records(1, 5), records(2, 7))
    second = dataset(tmp_path / "b", records(1, 5), records(2, 7, "changed"), records(3, 2))
    third = dataset(tmp_path / "c", records(3, 2))
    one = commit(warehouse, first, "first", tag="v1").commit
    two = commit(warehouse, second, "second", tag="v2").commit
    three = commit(warehouse, third, "third").commit
    four = commit(warehouse, first, "as it was").commit
    assert one.changed.added == ("toy/1", "toy/2")
    assert (two.changed.added, two.changed.replaced) == (("toy/3",), ("toy/2",))
    assert three.changed.removed == ("toy/1", "toy/2")
    for ref, folder in {"v1": first, "v2": second, str(three.id)[:12]: third, "main": first}.items():
        assert same_records(ref, warehouse, folder), ref
    assert [one.id for one in refs.log(warehouse)] == [four.id, three.id, two.id, one.id]
    assert [one.parent for one in refs.log(warehouse)] == [three.id, two.id, one.id, None]


def test_what_did_not_change_is_stored_once_and_by_link(tmp_path: Path) -> None:
    warehouse = tmp_path / "w"
    first = dataset(tmp_path / "a", records(1, 5), records(2, 7))
    commit(warehouse, first, "first")
    before = files(warehouse / "records" / "data")
    commit(warehouse, dataset(tmp_path / "b", records(1, 5), records(2, 7, "changed")), "second")
    new = files(warehouse / "records" / "data") - before
    assert {Path(one).name for one in new} == {"00002-toy-0000.parquet", "00002-toy-0001.parquet"}
    [stored] = (warehouse / "records" / "data").glob("*/00001-toy-0000.parquet")
    assert stored.samefile(first / "data" / "00001-toy-0000.parquet")


def test_where_links_cannot_be_made_shards_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", no_link)
    first = dataset(tmp_path / "a", records(1, 5))
    commit(tmp_path / "w", first, "first")
    shutil.rmtree(first)
    assert refs.open_version(tmp_path / "w", "main").manifest.rows == 5


def test_the_same_again_is_nothing_to_commit_but_is_tagged(tmp_path: Path) -> None:
    warehouse, folder = tmp_path / "w", dataset(tmp_path / "a", records(1, 5))
    first = commit(warehouse, folder, "first")
    before = files(warehouse / "records" / "data")
    again = commit(warehouse, folder, "first", tag="v1")
    assert (first.new, again.new, again.commit.id, again.commit.tags) == (True, False, first.commit.id, ("v1",))
    assert files(warehouse / "records" / "data") == before
    assert commit(warehouse, folder, "first", tag="v1").commit.tags == ("v1",)


def test_a_damaged_folder_is_not_committed(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "a", records(1, 5))
    damaged = folder / "data" / "00001-toy-0000.parquet"
    text = bytearray(damaged.read_bytes())
    text[len(text) // 2] ^= 1
    damaged.write_bytes(text)
    with pytest.raises(DatasetError, match=r"00001-toy-0000\.parquet: sha256 is .* it was changed or damaged"):
        commit(tmp_path / "w", folder, "first")
    with pytest.raises(VersionError, match="nothing was committed yet"):
        refs.resolve(tmp_path / "w", "main")
    damaged.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        commit(tmp_path / "w", folder, "first")


def test_a_commit_that_was_killed_leaves_files_that_the_next_one_checks(tmp_path: Path) -> None:
    """A shard under its final path with wrong bytes, as a kill in the middle may leave one."""
    folder = dataset(tmp_path / "a", records(1, 5))
    done = commit(tmp_path / "undisturbed", folder, "first").commit
    place = tmp_path / "w" / "records" / "data" / done.key[:16] / "00001-toy-0000.parquet"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half")
    assert commit(tmp_path / "w", folder, "first").commit.key == done.key
    assert files(tmp_path / "w" / "records" / "data") == files(tmp_path / "undisturbed" / "records" / "data")
    assert place.samefile(folder / "data" / "00001-toy-0000.parquet")


def test_names_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "a", records(1, 5))
    for name in ("", "a b", "../x", "a/b", "-v", "123456789", "a..b", "x" * 101, ".hidden"):
        with pytest.raises(VersionError, match="not a name for a tag or branch"):
            commit(tmp_path / "w", folder, "first", tag=name)
    with pytest.raises(VersionError, match="-m: empty"):
        commit(tmp_path / "w", folder, "  ")
    assert not (tmp_path / "w").exists()


def test_tags_stay_and_branches_go_on(tmp_path: Path) -> None:
    warehouse = tmp_path / "w"
    first, second = dataset(tmp_path / "a", records(1, 5)), dataset(tmp_path / "b", records(1, 4))
    one = commit(warehouse, first, "first", tag="v1").commit
    with pytest.raises(VersionError, match=r"no branch of this name.*`medi branch trial main` makes it"):
        commit(warehouse, second, "trial", branch="trial")
    refs.set_branch(warehouse, "trial", "v1")
    two = commit(warehouse, second, "trial", branch="trial").commit
    assert {one.name: one.commit.id for one in refs.branches(warehouse)} == {"main": one.id, "trial": two.id}
    with pytest.raises(VersionError, match="tags do not move"):
        commit(warehouse, second, "third", tag="v1")
    with pytest.raises(VersionError, match="tags do not move"):
        refs.set_tag(warehouse, "v1", "trial")
    with pytest.raises(VersionError, match="is a branch"):
        refs.set_tag(warehouse, "trial", "main")
    with pytest.raises(VersionError, match="is a tag"):
        commit(warehouse, second, "third", branch="v1")
    assert refs.set_tag(warehouse, "v1", "main").id == one.id
    refs.set_branch(warehouse, "main", "trial")
    assert refs.resolve(warehouse, "main").id == two.id
    with pytest.raises(VersionError, match="main: stays"):
        refs.delete_branch(warehouse, "main")
    refs.delete_tag(warehouse, "v1")
    assert refs.tags(warehouse) == []
    with pytest.raises(VersionError, match="no tag of this name"):
        refs.delete_tag(warehouse, "trial")


def test_an_unknown_ref_names_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="no warehouse"):
        refs.resolve(tmp_path / "w", "v1")
    one = commit(tmp_path / "w", dataset(tmp_path / "a", records(1, 5)), "first", tag="v1.2").commit
    with pytest.raises(VersionError, match=r"did you mean 'v1\.2'"):
        refs.resolve(tmp_path / "w", "v1.3")
    with pytest.raises(VersionError, match="at least 6 digits"):
        refs.resolve(tmp_path / "w", str(one.id)[:5])
    assert refs.resolve(tmp_path / "w", str(one.id)[:6]).id == one.id


def test_a_name_that_is_a_folder_and_a_version_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = dataset(tmp_path / "a", records(1, 5))
    commit(None, folder, "first", tag="a")
    assert (tmp_path / "warehouse").is_dir()
    with pytest.raises(VersionError, match=r"is a folder, and a version .* write \./a"):
        open_any("a", None)
    assert open_any("./a", None).root == Path("a")
    assert open_any("main", None).root.parent.name == "manifests"
    with pytest.raises(VersionError, match="no such folder"):
        open_any("out/b", None)
    with pytest.raises(VersionError, match="no tag, branch or commit"):
        open_any("b", None)
    with pytest.raises(VersionError, match="no warehouse at"):
        open_any("b", tmp_path / "elsewhere")


def test_a_warehouse_is_made_among_no_other_things(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "a", records(1, 5))
    with pytest.raises(VersionError, match="holds something else"):
        commit(folder, folder, "first")
    assert not (folder / "catalog.db").exists()


def test_folders_with_odd_names(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "a #1?", records(1, 5))
    commit(tmp_path / "the w%20 ü #2?x", folder, "first: 'quoted' {ü}\nand more")
    assert refs.resolve(tmp_path / "the w%20 ü #2?x", "main").message == "first: 'quoted' {ü}\nand more"
    assert same_records("main", tmp_path / "the w%20 ü #2?x", folder)


def test_eight_processes_commit_at_once_and_all_land(tmp_path: Path) -> None:
    warehouse = tmp_path / "w"
    folders = [dataset(tmp_path / str(number), records(1, 3 + number)) for number in range(8)]

    def run(number: int) -> subprocess.CompletedProcess[str]:
        code = (
            "import sys; from pathlib import Path; from medi_build.dataset.versions.commit import commit\n"
            "commit(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], tag='v' + sys.argv[3])"
        )
        command = [sys.executable, "-c", code, str(warehouse), str(folders[number]), str(number)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LANG": "C"})

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(run, range(8)))
    assert [one.returncode for one in done] == [0] * 8, [one.stderr for one in done]
    history = refs.log(warehouse)
    assert sorted(one.message for one in history) == sorted(map(str, range(8)))
    for number, folder in enumerate(folders):
        version = refs.open_version(warehouse, f"v{number}")
        assert [file_digest(path) for path in version.shards] == [
            file_digest(path) for path in open_dataset(folder).shards
        ]


def test_the_verbs_say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDI_WAREHOUSE", str(tmp_path / "w"))
    folder = str(dataset(tmp_path / "a", records(1, 5)))

    def medi(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "5 records of 1 datasets; 1 added" in medi("commit", folder, "-m", "the first", "--tag", "v1")
    assert "nothing to commit" in medi("commit", folder, "-m", "the first")
    assert "the first" in medi("log")
    assert '"tags": [\n      "v1"' in medi("log", "--json")
    assert "names commit" in medi("tag", "v1.1", "v1")
    assert medi("tag").startswith("v1  ")
    assert "is commit" in medi("branch", "trial")
    assert medi("branch").splitlines()[1].startswith("trial  ")
    assert "gone" in medi("tag", "v1.1", "--delete")
    assert "gone" in medi("branch", "trial", "--delete")


def test_shards_are_listed_as_pyiceberg_would_list_them(tmp_path: Path) -> None:
    commit(tmp_path / "w", dataset(tmp_path / "a", records(1, 5), records(2, 7)), "first")
    with reading(tmp_path / "w") as opened:
        table = opened.table()
        paths = refs.open_version(tmp_path / "w", "main").shards
        theirs = list(parquet_files_to_data_files(table.io, table.metadata, iter(map(str, paths))))
        ours = data_files_of(table.metadata, paths)
    assert [str(one) for one in ours] == [str(one) for one in theirs]
    assert [one.partition for one in ours] == [one.partition for one in theirs]
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match="its columns are not those of this version"):
        data_files_of(table.metadata, [tmp_path / "x.parquet"])

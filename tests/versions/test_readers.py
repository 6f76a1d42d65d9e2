"""Other tools read a tagged version, and see exactly the records that were committed."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from datasets import load_dataset
from pyiceberg.catalog import load_catalog

from medi_build import BuildOptions, build
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.versions import commit as commit_module
from medi_build.dataset.versions import refs
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.gc import gc
from medi_build.dataset.versions.purge import purge
from medi_build.dataset.versions.purge_files import Target
from medi_build.dataset.versions.relocate import relocate
from medi_build.dataset.versions.verify import verify_version
from medi_build.dataset.versions.warehouse import Warehouse, reading
from medi_build.errors import VersionError
from tests.versions.toy import dataset, records

SOURCES = ("embedding_training_data/sample_entailment", "medmcqa/sample")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for batch in open_dataset(folder).batches() for row in batch.to_pylist()]


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A table has no order; NaN, which equals nothing, becomes a word."""
    return sorted(
        ({key: "NaN" if value != value else value for key, value in row.items()} for row in rows),
        key=lambda row: (row["task_id"], row["id"]),
    )


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A warehouse with two versions, v1 and v2, and what was committed."""
    root = tmp_path_factory.mktemp("readers")
    build(BuildOptions(out=root / "a", sources=SOURCES, limit_per_dataset=15))
    build(BuildOptions(out=root / "b", sources=SOURCES[:1], limit_per_dataset=20))
    commit(root / "w", root / "a", "first", tag="v1")
    commit(root / "w", root / "b", "second", tag="v2")
    return {"warehouse": root / "w", "v1": ordered(rows_of(root / "a")), "v2": ordered(rows_of(root / "b"))}


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_polars(team: dict[str, Any], tag: str) -> None:
    with reading(team["warehouse"]) as opened:
        table = opened.table()
        snapshot = table.metadata.refs[tag].snapshot_id
        assert ordered(pl.scan_iceberg(table, snapshot_id=snapshot).collect().to_dicts()) == team[tag]
    by_path = pl.scan_iceberg(str(table.metadata_location), snapshot_id=snapshot, reader_override="native")
    assert ordered(by_path.collect().to_dicts()) == team[tag]
    task = team[tag][0]["task_id"]
    few = by_path.filter(pl.col("task_id") == task).select("id").collect()["id"].to_list()
    assert sorted(few) == sorted(row["id"] for row in team[tag] if row["task_id"] == task)


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_pyiceberg_and_duckdb(team: dict[str, Any], tag: str) -> None:
    """Any pyiceberg, with the catalog as it lies there; DuckDB over its Arrow, and over the files."""
    catalog = load_catalog("medi", type="sql", uri=f"sqlite:///{team['warehouse']}/catalog.db")
    table = catalog.load_table("medi.records")
    arrow = table.scan(snapshot_id=table.snapshot_by_name(tag).snapshot_id).to_arrow()
    catalog.close()
    assert ordered(arrow.to_pylist()) == team[tag]
    with duckdb.connect() as connection:
        connection.register("records", arrow)
        counted = connection.execute("select task_id, count(*) from records group by all order by all").fetchall()
        files = [str(path) for path in refs.open_version(team["warehouse"], tag).shards]
        read = connection.execute("select * from read_parquet(?)", [files]).fetchall()
        names = [column[0] for column in connection.description or []]
    assert dict(counted) == {task: len([1 for row in team[tag] if row["task_id"] == task]) for task, _ in counted}
    assert ordered([dict(zip(names, row, strict=True)) for row in read]) == team[tag]


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_datasets(team: dict[str, Any], tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(team["warehouse"])  # it looks through the working directory, and wants some data file there
    catalog = load_catalog("medi", type="sql", uri=f"sqlite:///{team['warehouse']}/catalog.db")
    snapshot = refs.resolve(team["warehouse"], tag).id
    loaded = load_dataset(
        "iceberg", catalog=catalog, table="medi.records", snapshot_id=snapshot, split="train", cache_dir=str(tmp_path)
    )
    catalog.close()
    assert ordered(loaded.to_list()) == team[tag]


def test_a_catalog_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyiceberg's configuration names it; here in another database than the warehouse's."""
    monkeypatch.setenv("PYICEBERG_CATALOG__MEDI__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__MEDI__URI", f"sqlite:///{tmp_path}/other.db")
    root = tmp_path / "w"
    folder = dataset(tmp_path / "a", records(1, 5), records(2, 4))
    commit(root, folder, "first", tag="v1")
    assert not (root / "catalog.db").exists()
    assert ordered([row for one in refs.open_version(root, "v1").batches() for row in one.to_pylist()]) == ordered(
        rows_of(folder)
    )
    left = root / "records" / "data" / "0123" / "x.parquet"
    left.parent.mkdir()
    left.write_bytes(b"of another machine's commit, for all we know")
    assert gc(root).files == []
    purge(root, Target("id", "toy/2/1"), "asked for")
    assert refs.resolve(root, "v1").rows == 8
    root.rename(tmp_path / "moved")
    with pytest.raises(VersionError, match="medi versions relocate"):
        refs.resolve(tmp_path / "moved", "v1")
    assert relocate(tmp_path / "moved").versions == 1
    assert verify_version(tmp_path / "moved", "v1").damaged == []


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__MEDI__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__MEDI__URI", f"sqlite:///{tmp_path}/no/such/folder.db")
    with pytest.raises(VersionError, match="unable to open database file"):
        commit(tmp_path / "w", dataset(tmp_path / "a", records(1, 5)), "first")


def test_a_faster_machine_makes_a_commit_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look at the table and our commit another one lands, past our lock."""
    root = tmp_path / "w"
    commit(root, dataset(tmp_path / "a", records(1, 5), records(2, 5)), "first")
    original, others = commit_module._place, [dataset(tmp_path / "b", records(1, 5), records(2, 5, "theirs"))]

    def placed(warehouse: Warehouse, *rest: Any) -> list[Path]:
        if others:
            monkeypatch.setattr(commit_module, "writing", lambda *_, **__: nullcontext(warehouse))
            theirs = others.pop()
            commit(root, theirs, "theirs")
        return original(warehouse, *rest)

    monkeypatch.setattr(commit_module, "_place", placed)
    ours = dataset(tmp_path / "c", records(1, 5, "ours"), records(2, 5))
    done = commit(root, ours, "ours").commit
    assert [one.message for one in refs.log(root)] == ["ours", "theirs", "first"]
    assert done.changed.replaced == ("toy/1", "toy/2")
    assert ordered([row for one in refs.open_version(root, "main").batches() for row in one.to_pylist()]) == ordered(
        rows_of(ours)
    )

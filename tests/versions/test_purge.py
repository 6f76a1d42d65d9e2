"""A takedown: nowhere in the warehouse is left what was purged, and all else is as it was."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from typer.testing import CliRunner

from medi_build import BuildOptions, build
from medi_build.cli import app
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.verify import verify
from medi_build.dataset.versions import pending, refs
from medi_build.dataset.versions.checkout import checkout
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.gc import gc
from medi_build.dataset.versions.purge import purge
from medi_build.dataset.versions.purge_files import Target
from medi_build.dataset.versions.tombstones import read_tombstones
from medi_build.dataset.versions.verify import verify_version
from medi_build.dataset.versions.warehouse import Warehouse, locked, reading
from medi_build.errors import OptionError, VersionError
from tests.versions.toy import dataset, records

ONE = Target("id", "toy/2/3")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """v1: 1 and 2. v2: 2 is another. trial: v1 without 1. The last commit of main is v1's folder again."""
    root = tmp_path / "w"
    first = dataset(tmp_path / "a", records(1, 5), records(2, 7))
    commit(root, first, "first", tag="v1")
    refs.set_branch(root, "trial")
    commit(root, dataset(tmp_path / "b", records(1, 5), records(2, 7, "secret")), "second", tag="v2")
    commit(root, first, "as it was")
    commit(root, dataset(tmp_path / "c", records(2, 7)), "less", branch="trial")
    return root


def rows(warehouse: Path, ref: str) -> list[dict[str, Any]]:
    return [row for batch in refs.open_version(warehouse, ref).batches() for row in batch.to_pylist()]


def everything(warehouse: Path) -> str:
    """All that can be read in a warehouse: every file, decoded where it is compressed."""
    assert gc(warehouse, dry_run=True).files == []
    found = []
    for path in warehouse.rglob("*"):
        if path.suffix == ".parquet":
            found += [str(pq.read_table(path).to_pylist()), str(pq.read_metadata(path).to_dict())]
        elif path.is_file() and path.suffix != ".avro":
            found.append(path.read_bytes().decode(errors="replace"))
    with reading(warehouse) as opened:
        table = opened.table()
        for snapshot in table.metadata.snapshots:
            for manifest in snapshot.manifests(table.io):
                found += map(str, [manifest, *manifest.fetch_manifest_entry(table.io, discard_deleted=False)])
    return "\n".join(found)


def told(warehouse: Path, ref: str) -> list[tuple[Any, ...]]:
    return [(c.id, c.parent, c.time, c.message, c.tags, c.branches, c.key) for c in refs.log(warehouse, ref)]


def snapshots(warehouse: Path) -> list[tuple[Any, ...]]:
    with reading(warehouse) as opened:
        metadata = opened.table().metadata
        return [(s.snapshot_id, s.parent_snapshot_id, s.sequence_number, s.timestamp_ms) for s in metadata.snapshots]


def test_a_record_goes_from_every_version_and_nothing_else(tmp_path: Path, warehouse: Path) -> None:
    names = {"v1": 12, "v2": 12, "main": 12, "trial": 7}
    before = {ref: (rows(warehouse, ref), told(warehouse, ref)) for ref in names}
    shape = snapshots(warehouse)
    found = purge(warehouse, ONE, "asked for")
    assert found.records == {"toy/2": 1}
    assert len(found.commits) == 4
    assert snapshots(warehouse) == shape
    for ref, (old, history) in before.items():
        assert rows(warehouse, ref) == [row for row in old if row["id"] != "toy/2/3"]
        assert len(rows(warehouse, ref)) == names[ref] - 1
        assert told(warehouse, ref) == history
        assert {c.purged for c in refs.log(warehouse, ref)} == {1}
        assert verify_version(warehouse, ref).damaged == []
        checkout(warehouse, ref, tmp_path / "out" / ref)
        verify(tmp_path / "out" / ref)
    left = everything(warehouse)
    assert "plain query 2-3" not in left
    assert "secret query 2-3" not in left
    assert "toy/2/3'" not in left
    assert "plain query 2-4" in left


def test_manifest_ledger_and_icebergs_counts_follow(tmp_path: Path, warehouse: Path) -> None:
    purge(warehouse, ONE, "asked for")
    version = refs.open_version(warehouse, "v1")
    one, two = version.manifest.datasets
    assert (one.rows, two.rows, version.manifest.rows) == (5, 6, 11)
    assert two.ledger["dropped"] == {"purge": {"purged": 1}}
    assert two.ledger["written"] == 6
    assert one == open_dataset(tmp_path / "a").manifest.datasets[0]
    with reading(warehouse) as opened:
        table = opened.table()
        for commit_ in [*refs.log(warehouse), *refs.log(warehouse, "trial")]:
            snapshot = table.metadata.snapshot_by_id(commit_.id)
            assert snapshot is not None and snapshot.summary is not None
            assert snapshot.summary["total-records"] == str(commit_.rows)
            assert table.scan(snapshot_id=commit_.id).to_arrow().num_rows == commit_.rows


def test_all_texts_that_match_go(warehouse: Path) -> None:
    found = purge(warehouse, Target("text", "secret"), "a leak")
    assert found.records == {"toy/2": 7}
    assert [one.tags for one in found.commits] == [("v2",)]
    assert "secret" not in everything(warehouse)
    assert [one.name for one in refs.open_version(warehouse, "v2").manifest.datasets] == ["toy/1", "toy/2"]
    assert refs.open_version(warehouse, "v2").manifest.datasets[1].rows == 0
    assert len(rows(warehouse, "v1")) == 12


@pytest.mark.parametrize(
    ("side", "count"), [("query", 1), ("answer", 1), ("other", 1), ("further", 1), ("Represent", 0)]
)
def test_texts_are_looked_for_on_every_side_but_not_in_instructions(warehouse: Path, side: str, count: int) -> None:
    target = Target("text", f"plain {side} 2-3" if count else side)
    if count:
        assert purge(warehouse, target, "asked for", dry_run=True).records == {"toy/2": 1}
    else:
        with pytest.raises(VersionError, match="has a record with this text"):
            purge(warehouse, target, "asked for")


def test_a_dry_run_changes_nothing(warehouse: Path) -> None:
    before = {path: path.read_bytes() for path in warehouse.rglob("*") if path.is_file()}
    assert purge(warehouse, ONE, "asked for", dry_run=True).shards == 3  # v1 and trial share one
    assert {path: path.read_bytes() for path in warehouse.rglob("*") if path.is_file()} == before


def test_the_tombstone_tells_all_but_the_text(warehouse: Path) -> None:
    purge(warehouse, Target("text", "secret query 2-3"), "a request")
    [stone] = read_tombstones(warehouse)
    assert (stone.reason, stone.by, stone.records) == ("a request", "text", {"toy/2": 1})
    assert stone.sha256 == hashlib.sha256(b"secret query 2-3").hexdigest()
    assert "secret" not in (warehouse / "tombstones.jsonl").read_text()
    with pytest.raises(VersionError, match="--reason: empty"):
        purge(warehouse, Target("text", "plain query 2-3"), " ")
    with pytest.raises(VersionError, match="--reason: holds the text"):
        purge(warehouse, Target("text", "other"), "it holds other people's names")


def test_what_was_purged_does_not_come_back(tmp_path: Path, warehouse: Path) -> None:
    purge(warehouse, ONE, "asked for")
    with pytest.raises(VersionError, match=r"has the record toy/2/3, which was purged on .* \(asked for\)"):
        commit(warehouse, tmp_path / "b", "the old build again")
    assert "query 2-3" not in everything(warehouse)
    rest = [row for row in records(2, 7, "new") if row["id"] != "toy/2/3"]
    assert commit(warehouse, dataset(tmp_path / "d", records(1, 5), rest), "built anew").new


def test_records_that_hold_the_same_texts_are_counted(tmp_path: Path) -> None:
    other = records(3, 2)
    other[0]["neg"] = ["Represent the document: ", "plain answer 2-3"]
    other[1]["hard_negatives"] = ["x", "plain answer 2-3"]
    commit(tmp_path / "w", dataset(tmp_path / "a", records(2, 7), other), "first")
    assert purge(tmp_path / "w", ONE, "asked for", dry_run=True).holders == 2
    assert purge(tmp_path / "w", Target("text", "answer 2-3"), "asked for", dry_run=True).records == {
        "toy/2": 1,
        "toy/3": 2,
    }


class Killed(BaseException):
    """In place of SIGKILL: no handler of ours takes it."""


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_a_purge_that_is_killed_is_finished_or_never_was(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Killed before the journal, after it, after the swap, after the tombstone, after the old files."""

    def killed_at(number: int) -> Callable[..., Any]:
        def call(*_: Any) -> None:
            raise Killed(number)

        return call

    before = {ref: rows(warehouse, ref) for ref in ("v1", "v2", "main", "trial")}

    def no_end(path: Path, missing_ok: bool = False) -> None:
        if path.name == "journal.json":
            raise Killed
        os.unlink(path)  # noqa: PTH108

    with monkeypatch.context() as patch:
        if steps < 4:
            patch.setattr(pending, ["write_bytes", "swap", "add_tombstone", "remove"][steps], killed_at(steps))
        else:
            patch.setattr(Path, "unlink", no_end)
        with pytest.raises(Killed):
            purge(warehouse, ONE, "asked for")
    if steps < 2:
        assert {ref: rows(warehouse, ref) for ref in before} == before
    refs.set_tag(warehouse, "later", "v1")  # whoever writes next
    done = steps > 0
    for ref, old in before.items():
        assert rows(warehouse, ref) == [row for row in old if row["id"] != "toy/2/3" or not done]
        assert verify_version(warehouse, ref).damaged == []
    assert len(read_tombstones(warehouse)) == done
    assert not (warehouse / "journal.json").exists()
    gc(warehouse)
    if not done:
        purge(warehouse, ONE, "asked for")
    assert "plain query 2-3" not in everything(warehouse)


class Plain(Catalog):
    """A catalog that is not in SQL, as far as we know, and cannot register over a table; and may die in between."""

    dies = False

    def __init__(self, inner: SqlCatalog) -> None:
        self.inner = inner

    def __getattribute__(self, name: str) -> Any:
        own = ("inner", "register_table", "dies", "__class__")
        return object.__getattribute__(self, name) if name in own else getattr(self.inner, name)

    def register_table(self, identifier: Any, metadata_location: str, overwrite: bool = False) -> Any:
        if overwrite:
            raise NotImplementedError
        if self.dies:
            raise Killed
        return self.inner.register_table(identifier, metadata_location)


@pytest.mark.parametrize("dies", [False, True])
def test_a_catalog_that_can_only_drop_and_register(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    @contextmanager
    def plain(*_: Any) -> Iterator[Warehouse]:
        with locked(warehouse) as opened:
            catalog = Plain(cast(SqlCatalog, opened.catalog))
            catalog.dies = dies
            plain_one = Warehouse(opened.root, catalog, embedded=False)
            pending.finish(plain_one)
            yield plain_one

    monkeypatch.setattr(Plain, "__abstractmethods__", frozenset())
    before = rows(warehouse, "v1")
    monkeypatch.setattr("medi_build.dataset.versions.purge.writing", plain)
    if dies:
        with pytest.raises(Killed):
            purge(warehouse, ONE, "asked for")
        with pytest.raises(VersionError, match="the catalog has no table"):
            refs.resolve(warehouse, "v1")
        dies = False
        with plain():
            pass
    else:
        purge(warehouse, ONE, "asked for")
    assert rows(warehouse, "v1") == [row for row in before if row["id"] != "toy/2/3"]
    assert "plain query 2-3" not in everything(warehouse)
    assert len(read_tombstones(warehouse)) == 1


def test_a_real_build_is_whole_after_it(tmp_path: Path) -> None:
    sources = ("embedding_training_data/sample_entailment", "medmcqa/sample")
    build(BuildOptions(out=tmp_path / "a", sources=sources, limit_per_dataset=20))
    commit(tmp_path / "w", tmp_path / "a", "samples", tag="v1")
    goes = rows(tmp_path / "w", "v1")[3]
    purge(tmp_path / "w", Target("id", goes["id"]), "asked for")
    checkout(tmp_path / "w", "v1", tmp_path / "out")
    verify(tmp_path / "out")
    was, now = open_dataset(tmp_path / "a").manifest, open_dataset(tmp_path / "out").manifest
    assert now.rows == was.rows - 1
    assert now.datasets[0].rows_sha256 != was.datasets[0].rows_sha256
    assert now.datasets[1] == was.datasets[1]
    lines = (tmp_path / "out" / "medi-data.json").read_text(encoding="utf-8")
    assert json.loads(lines) == [
        row
        for row in json.loads((tmp_path / "a" / "medi-data.json").read_text(encoding="utf-8"))
        if row["query"] != goes["query"] or row["pos"] != goes["pos"]
    ]
    assert f"{now.rows:,} records" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    part = ",\n".join(lines[2:].split(",\n")[: now.datasets[0].rows])
    assert hashlib.sha256(part.encode()).hexdigest() == now.datasets[0].rows_sha256


def test_the_verb_tells_what_is_not_reached(warehouse: Path) -> None:
    where = ["--warehouse", str(warehouse)]
    run = CliRunner().invoke
    dry = run(app, ["purge", "toy/2/3", "--reason", "asked for", "--dry-run", *where], env={"COLUMNS": "200"})
    assert "1 records would go from 4 versions: 1 of toy/2" in dry.stdout
    done = run(app, ["purge", "toy/2/3", "--reason", "asked for", *where], env={"COLUMNS": "200"})
    assert "1 records are gone from 4 versions" in done.stdout
    assert "not reached: built folders" in done.stdout
    assert "1 purged since" in run(app, ["log", *where], env={"COLUMNS": "200"}).stdout
    again = run(app, ["purge", "toy/2/3", "--reason", "asked for", *where])
    assert again.exit_code == 0
    assert "nothing left to purge: 1 records went on 2" in again.stdout
    assert len(read_tombstones(warehouse)) == 1
    other = run(app, ["purge", "--matching", "toy/2/3", "--reason", "asked for", *where])
    assert "has a record with this text" in str(other.exception)
    assert isinstance(run(app, ["purge", "--reason", "x", *where]).exception, OptionError)
    assert isinstance(run(app, ["purge", "x", "--matching", "x", "--reason", "x", *where]).exception, OptionError)

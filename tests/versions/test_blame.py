"""Where a record comes from, in a folder and over the versions of a warehouse."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.blame import blame
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.story import Story, story
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.log import Commit
from medi_build.dataset.versions.refs import open_version
from medi_build.errors import DatasetError
from tests.commands import run_main
from tests.dataset.built import write_built
from tests.versions.records import Record, edited, record


def described(manifest: dict[str, Any]) -> None:
    one = manifest["datasets"][0]
    one["fingerprint"] = "f1f1"
    one["basis"]["rows"] = [["other.jsonl", "00"], ["rows.jsonl", "abcd"]]
    one["card"]["download"] = {"hub": "them/toys", "revision": "r9"}
    manifest["encoder"] = "toy-encoder"
    manifest["basis"]["encoders"] = [{"model": "them/toy", "revision": "c0ffee"}]


def test_a_folder_tells_all_but_commits(tmp_path: Path) -> None:
    rows = [record(name, hard_negatives=["more"]) for name in "abc"]
    rows[1].update(source_file="part/rows.jsonl", source_row=42)
    folder = edited(write_built(tmp_path / "out", rows, 2), described)
    printed = CliRunner().invoke(app, ["blame", "toy/1/b", str(folder), "--json"])
    assert printed.exit_code == 0, printed.output
    told = orjson.loads(printed.stdout)
    assert told["source"] == {"file": "part/rows.jsonl", "row": 42, "sha256": "abcd"}
    assert told["card"]["download"] == {"hub": "them/toys", "revision": "r9"}
    assert told["card"]["licence"] == "CC0-1.0"
    assert told["build"] == {
        "medi_version": "0",
        "pipeline": "toy",
        "fingerprint": "f1f1",
        "encoder": "them/toy@c0ffee",
        "encoder_identity": "toy-encoder",
    }
    assert {name: told["record"][name] for name in ("id", "neg", "neg_rank", "neg_score", "miner")} == {
        name: rows[1][name] for name in ("id", "neg", "neg_rank", "neg_score", "miner")
    }
    assert told["commits"] is None
    printed = CliRunner().invoke(app, ["blame", "toy/1/b", str(folder)])
    for part in (
        "part/rows.jsonl, row 42, sha256 abcd",
        "them/toys, revision r9",
        "score 0.5000, rank 3",
        "f1f1",
        "them/toy@c0ffee",
    ):
        assert part in " ".join(printed.output.split())


def test_an_id_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    opened = open_dataset(write_built(tmp_path / "out", [record(name) for name in ("tea-1", "tea-2", "fox")]))
    with pytest.raises(DatasetError, match=r"toy/1/tea-3: .*nearest ids there are toy/1/tea-[12], toy/1/tea-[12]"):
        blame(opened, "toy/1/tea-3")
    with pytest.raises(DatasetError, match=r"none of the 1 datasets here, as ids do; did you mean 'toy/1'"):
        blame(opened, "toy/2/tea-1")


def test_an_id_is_of_the_dataset_with_the_longest_name(tmp_path: Path) -> None:
    rows = [record("a"), {**record("b"), "task_id": 2, "id": "toy/1/x/b"}]
    folder = write_built(tmp_path / "out", rows)
    edited(folder, lambda manifest: manifest["datasets"][1].update(name="toy/1/x"))
    assert blame(open_dataset(folder), "toy/1/x/b").dataset.task_id == 2
    with pytest.raises(DatasetError, match="no record of toy/1/x has this id"):
        blame(open_dataset(folder), "toy/1/x/c")
    edited(folder, lambda manifest: manifest["datasets"][0].update(name="toy/1/x/b"))
    assert blame(open_dataset(folder), "toy/1/x/b").dataset.task_id == 2


def commits(tmp_path: Path, *versions: list[Record]) -> list[Commit]:
    """A warehouse with these versions, each committed on top of the one before."""
    return [
        commit(tmp_path / "w", write_built(tmp_path / f"v{number}", rows, 2), f"week {number}").commit
        for number, rows in enumerate(versions)
    ]


def told(tmp_path: Path, record_id: str, ref: str = "main") -> Story:
    warehouse = tmp_path / "w"
    return story(warehouse, ref, blame(open_version(warehouse, ref), record_id))


def messages(life: Story) -> tuple[str | None, str | None]:
    brought, changed = (one.message if one else None for one in (life.brought, life.changed))
    return brought, changed


def test_the_commits_of_a_record(tmp_path: Path) -> None:
    other = [record("z", 2)]
    a, b, c, d = (record(name) for name in "abcd")
    other_b, far_b = (
        {**b, "neg": ["Represent it;", "another"]},
        {**b, "neg": ["Represent it;", "another"], "pos_score": 0.9},
    )
    made = commits(
        tmp_path,
        [a, b, c],
        [a, other_b, c, *other],
        [a, far_b, d, *other],
        [{**a, "pos_score": 0.7501, "source_row": 9}, far_b, c, d, *other],
    )
    assert messages(told(tmp_path, "toy/1/a")) == ("week 0", None)
    assert messages(told(tmp_path, "toy/1/b")) == ("week 0", "week 2")
    assert told(tmp_path, "toy/1/b").fields == ("scores",)
    assert told(tmp_path, "toy/1/b", str(made[1].id)).fields == ("neg",)
    assert messages(told(tmp_path, "toy/1/c")) == ("week 3", None)
    assert messages(told(tmp_path, "toy/1/d")) == ("week 2", None)
    assert messages(told(tmp_path, "toy/2/z")) == ("week 1", None)
    result = CliRunner().invoke(app, ["blame", "toy/1/b", "--json", "--warehouse", str(tmp_path / "w")])
    life = orjson.loads(result.stdout)["commits"]
    assert (life["brought"]["message"], life["changed"]["message"]) == ("week 0", "week 2")
    assert life["changed"]["fields"] == ["scores"]
    result = CliRunner().invoke(app, ["blame", "toy/1/b", "--warehouse", str(tmp_path / "w")])
    assert "week 0" in result.stdout
    assert "week 2 ; scores" in result.stdout.replace("week 2;", "week 2 ;")


def test_shards_that_stayed_are_not_read(tmp_path: Path) -> None:
    rows = [record(name) for name in "abcd"]
    made = commits(tmp_path, rows, [*rows[:2], rows[2], {**rows[3], "miner": "bm25"}])
    newest = open_version(tmp_path / "w", "main")
    found = blame(newest, "toy/1/d")
    for alike in (open_version(tmp_path / "w", str(made[0].id)).shards[0], newest.shards[0]):
        size = alike.stat().st_size
        alike.unlink(missing_ok=True)  # it may be a hard link of what was built
        alike.write_bytes(b"\0" * size)
    assert messages(story(tmp_path / "w", "main", found)) == ("week 0", "week 1")


def test_a_purged_record_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from medi_build.dataset.versions.tombstones import Tombstone, add_tombstone
    from medi_build.files import text_digest

    commits(tmp_path, [record("a")])
    stone = Tombstone(
        time=datetime(2026, 3, 1, tzinfo=UTC),
        reason="asked by its author",
        by="id",
        sha256="",
        records={"toy/1": 1},
        commits=["1", "2"],
        ids=[text_digest("toy/1/gone")],
    )
    add_tombstone(tmp_path / "w", stone)
    code, text = run_main(capsys, monkeypatch, "blame", "toy/1/gone", "--warehouse", tmp_path / "w")
    assert code == 1
    assert "purged on 2026-03-01 from 2 version(s) (asked by its author)" in text
    code, text = run_main(capsys, monkeypatch, "blame", "toy/1/never", "--warehouse", tmp_path / "w")
    assert code == 1
    assert "no record of toy/1 has this id" in text

"""Differences of two builds, against a slow and obvious count over random small ones."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.cli.diff import _value
from medi_build.dataset.diff import Difference, diff
from medi_build.dataset.reader import BuiltDataset, open_dataset
from medi_build.dataset.row_changes import FIELDS, RowChanges, value_of
from medi_build.errors import DatasetError
from tests.versions.records import Record, alike, edited, record, two

NAN = float("nan")
TEXT = st.sampled_from(["tea", "fox", ""])
TEXTS = st.lists(TEXT, max_size=2)
SCORE = st.sampled_from([0.5, 0.5004, 0.75, NAN])
"""The first two are the same, and far from 0.001 apart in float32."""
OTHER: dict[str, st.SearchStrategy[Any]] = {
    **{side: st.lists(TEXT, min_size=2, max_size=2) for side in ("query", "pos", "neg")},
    **dict.fromkeys(("pos_id", "neg_id", "miner", "source_file"), TEXT),
    **dict.fromkeys(("hard_negatives", "possible_false_negative_ids", "labels", "groups"), TEXTS),
    **dict.fromkeys(("pos_score", "neg_score"), SCORE),
    "hard_negative_scores": st.lists(SCORE, max_size=2),
    "hard_negative_ranks": st.lists(st.integers(0, 2), max_size=2),
    "neg_rank": st.integers(-1, 1),
    "source_row": st.integers(1, 2),
}
CHANGES = st.fixed_dictionaries({}, optional=OTHER)
ROWS = st.dictionaries(st.tuples(st.integers(1, 3), st.sampled_from("abcdef")), CHANGES, min_size=1, max_size=12)


def records(rows: dict[tuple[int, str], dict[str, Any]]) -> list[Record]:
    return [record(name, task, **change) for (task, name), change in sorted(rows.items(), key=lambda row: row[0][0])]


def compared(old: Path, new: Path, provenance: bool = False) -> Difference:
    return diff(open_dataset(old), open_dataset(new), provenance)


def differs(field: str, old: Record, new: Record) -> bool:
    a, b = value_of(old, field), value_of(new, field)
    if field != "scores":
        return bool(a != b)
    pairs = [(a[name], b[name]) for name in ("pos_score", "neg_score")]
    lists = a["hard_negative_scores"], b["hard_negative_scores"]
    return len(lists[0]) != len(lists[1]) or not all(alike(*pair) for pair in [*pairs, *zip(*lists, strict=True)])


def counted(old: list[Record], new: list[Record], provenance: bool) -> dict[str, Any]:
    """What a diff of one dataset has to say, row by row."""
    before, after = {row["id"]: row for row in old}, {row["id"]: row for row in new}
    fields, changed, negatives = Counter[str](), 0, 0
    for name in before.keys() & after.keys():
        other = [f for f in FIELDS if (provenance or f != "source") and differs(f, before[name], after[name])]
        fields.update(other)
        changed += bool(other)
        negatives += bool({"neg", "hard_negatives"} & set(other))
    return {
        "added": len(after.keys() - before.keys()),
        "removed": len(before.keys() - after.keys()),
        "changed": changed,
        "fields": dict(fields),
        "other_negatives": negatives,
    }


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans())
def test_a_diff_says_what_a_count_row_by_row_says(
    first: dict[tuple[int, str], dict[str, Any]],
    second: dict[tuple[int, str], dict[str, Any]],
    shards: tuple[int, int],
    provenance: bool,
) -> None:
    old, new = records(first), records(second)
    with tempfile.TemporaryDirectory() as folder:
        found = compared(*two(Path(folder), old, new, shards), provenance)
    tasks = {task for task, _ in first} | {task for task, _ in second}
    told = {one.name: one for one in found.datasets}
    for task in tasks:
        sides = [[row for row in side if row["task_id"] == task] for side in (old, new)]
        expected = counted(*sides, provenance)
        one = told.get(f"toy/{task}")
        if not sides[0] or not sides[1]:
            assert one is not None
            assert one.status == ("added" if sides[1] else "removed")
            assert one.rows is None
        elif one is None:
            assert not any(expected.values())
        else:
            assert one.status == "changed"
            assert one.rows is not None
            seen = {name: getattr(one.rows, name) for name in expected}
            assert seen == expected
            if one.old and one.new and one.old.false_negatives is not None:
                counts = [sum(bool(row["possible_false_negative_ids"]) for row in side) for side in sides]
                assert [one.old.false_negatives, one.new.false_negatives] == counts
    assert found.equal == len({task for task, _ in second}) - sum(one.status != "removed" for one in found.datasets)
    assert found.same == (not told)
    for example in found.examples:
        rows = [{row["id"]: row for row in side}.get(example.id) for side in (old, new)]
        if example.kind in FIELDS:
            assert rows[0] and rows[1]
            assert differs(example.kind, rows[0], rows[1])
            if example.kind != "scores":
                assert (example.old, example.new) == tuple(value_of(row, example.kind) for row in rows if row)
        else:
            assert [row is not None for row in rows] == [example.kind == "removed", example.kind == "added"]
    assert max(Counter(example.kind for example in found.examples).values(), default=0) <= 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), TEXT), min_size=1),
    st.lists(st.tuples(st.sampled_from("ab"), TEXT), min_size=1),
)
def test_rows_of_one_id_are_as_many_rows(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    sides = [[record(name, miner=text) for name, text in rows] for rows in (first, second)]
    with tempfile.TemporaryDirectory() as folder:
        found = compared(*two(Path(folder), *sides, (1, 2)))
    left = Counter(first) - Counter(second), Counter(second) - Counter(first)
    gone, come = (Counter(name for name, _ in rows.elements()) for rows in left)
    changed = sum((gone & come).values())
    total = [(one.rows.added, one.rows.removed, one.rows.changed) for one in found.datasets if one.rows]
    expected = (sum(come.values()) - changed, sum(gone.values()) - changed, changed)
    assert total == ([expected] if any(expected) else [])


def test_equal_shards_are_not_read(tmp_path: Path) -> None:
    """Nor those whose counterpart is found in another place of the dataset."""
    rows = [record(name) for name in "abcd"]
    old, new = two(tmp_path, rows, [*rows[2:], *rows[:2]], (2, 2))
    opened = open_dataset(old), open_dataset(new)
    for path in (tmp_path / "old" / "data").iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)
    assert diff(*opened).same
    old, new = two(tmp_path / "more", rows, [*rows[:2], record("c"), record("e")], (2, 2))
    opened = open_dataset(old), open_dataset(new)
    (old / "data" / "00001-toy-0001.parquet").write_bytes(b"\0" * 9)
    with pytest.raises(DatasetError, match="cannot be read to its end"):
        diff(*opened)


def test_a_dataset_is_the_same_in_another_order(tmp_path: Path) -> None:
    rows = [record(name) for name in "abcd"]
    assert compared(*two(tmp_path, rows, rows[::-1])).same


def test_two_rows_without_a_score_have_the_same_one(tmp_path: Path) -> None:
    old = record("a", pos_score=NAN, neg_score=NAN, hard_negative_scores=[NAN])
    [one] = compared(*two(tmp_path, [old], [{**old, "miner": "bm25"}])).datasets
    assert one.rows is not None
    assert one.rows.fields == {"miner": 1}


def test_a_shard_that_one_side_has_twice_is_there_once_more(tmp_path: Path) -> None:
    old, new = two(tmp_path, [record("a"), record("a")], [record("a")], (2, 1))
    [one] = compared(old, new).datasets
    assert one.rows is not None
    assert (one.rows.added, one.rows.removed, one.rows.changed) == (0, 1, 0)


def test_source_rows_count_where_they_are_asked_for(tmp_path: Path) -> None:
    old, new = two(tmp_path, [record("a")], [record("a", source_row=2)])
    assert compared(old, new).same
    [one] = compared(old, new, provenance=True).datasets
    assert one.rows is not None
    assert one.rows.fields == {"source": 1}
    [example] = compared(old, new, provenance=True).examples
    assert example.new == {"source_file": "rows.jsonl", "source_row": 2}


def test_examples_come_from_different_datasets(tmp_path: Path) -> None:
    old = [record(name, task) for task in (1, 2) for name in "abcd"]
    new = [{**row, "miner": "bm25"} for row in old]
    found = [(one.dataset, one.id) for one in compared(*two(tmp_path, old, new)).examples]
    assert found == [("toy/1", "toy/1/a"), ("toy/2", "toy/2/a"), ("toy/1", "toy/1/b")]


def test_what_manifests_say_differently_is_told_by_key(tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["pipeline"]["mining"]["num_negatives"] = 5
        manifest["pipeline"]["seed"] = 7
        manifest["environment"] = {"torch": "9.9"}
        manifest["basis"].update(mining={"num_negatives": 5}, stages={"mine": 9, "adapt": 1})
        manifest["prompts"] = {"main": {"query": "query: ", "document": None}}
        manifest["datasets"][0].update(licence="MIT", instructions=[("Represent a;", "")])
        manifest["datasets"][0]["card"]["download"] = {"hub": "them/toys", "revision": "abc"}
        manifest["datasets"][0]["basis"].update(
            cap=9, rows=[["rows.jsonl", "f" * 64]], extra={"pages": [["p", "e" * 64]]}
        )

    old, new = two(tmp_path, [record("a")], [record("a")])
    found = compared(old, edited(new, change))
    assert {(one.kind, one.key): (one.old, one.new) for one in found.settings} == {
        ("mining", "mining.num_negatives"): (1, 5),
        ("settings", "seed"): (42, 7),
        ("settings", "environment.torch"): (None, "9.9"),
        ("mining", "stages.mine"): (None, 9),
        ("settings", "stages.adapt"): (None, 1),
        ("mining", "prompts.main.query"): (None, "query: "),
    }
    [one] = found.datasets
    assert one.rows is not None
    assert one.rows.changed == 0
    assert {(fact.kind, fact.key): (fact.old, fact.new) for fact in one.facts} == {
        ("licence", "licence"): ("CC0-1.0", "MIT"),
        ("instructions", "instructions"): ([["", ""]], [["Represent a;", ""]]),
        ("card", "card.download.hub"): (None, "them/toys"),
        ("card", "card.download.revision"): (None, "abc"),
        ("card", "cap"): (0, 9),
        ("input", "input.rows.rows.jsonl"): (None, "f" * 64),
        ("input", "input.pages.p"): (None, "e" * 64),
    }


def test_a_shard_of_other_columns_is_told(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    old, new = two(tmp_path, [record("a")], [record("b")])
    sides = open_dataset(old), open_dataset(new)
    pq.write_table(pa.table({"id": ["x"]}), new / "data" / "00001-toy-0000.parquet")
    with pytest.raises(DatasetError, match="other columns"):
        diff(*sides)


def test_a_version_is_read_where_its_shards_lie(tmp_path: Path) -> None:
    old, new = two(tmp_path, [record("a")], [record("b")])
    opened = open_dataset(new)
    elsewhere = tmp_path / "elsewhere.parquet"
    opened.shards[0].rename(elsewhere)
    moved: BuiltDataset = replace(opened, root=tmp_path / "nowhere", shards=[elsewhere])
    [one] = diff(open_dataset(old), moved).datasets
    assert one.rows == RowChanges(1, 1, 0, {}, 0, one.rows.examples if one.rows else {})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "(none)"),
        ([], "(none)"),
        ([["for queries;", "for texts;"]], "for queries; | for texts;"),
        ({"pos_score": 0.8987476825714111, "hard_negative_scores": []}, "pos_score 0.898748"),
    ],
)
def test_values_in_the_terminal_read_well(value: object, told: str) -> None:
    assert _value(value) == told

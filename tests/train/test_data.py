"""Reading training data: every form, every fault by name, and rows that come back as they were."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.errors import DatasetError, InputError, TrainError
from medi_build.ingest import json_rows as json_module
from medi_build.ingest.json_rows import json_values
from medi_build.ingest.triplets import open_source
from medi_build.train import data as data_module
from medi_build.train.data import TrainingData
from medi_build.train.holdout import hold_out
from medi_build.train.keys import Ragged, RowKeys, first_hard_negatives, take_keys
from tests.dataset.built import write_built


def record(i: int, task: int = 1) -> dict[str, Any]:
    return {
        "query": ["Represent the question;", f"what is thing {i}?"],
        "pos": ["Represent the answer;", f"thing {i} is a Ding ü{i}"],
        "neg": ["Represent the answer;", f"another thing than {i}"],
        "task_id": task,
    }


def write_json(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records, ensure_ascii=False))
    return path


def prepare(source: Path, cache: Path, *, skip_bad_rows: bool = False) -> TrainingData:
    """As `medi train` reads a source."""
    return data_module.prepare(source, open_source(source).files, cache, skip_bad_rows=skip_bad_rows)


def test_parquet_and_json_give_the_same_rows(tmp_path: Path) -> None:
    records = [record(i, task=1 + i // 6) for i in range(10)]
    with_keys = [row | {"labels": ["a", "b"][: i % 3], "groups": [f"page {i}"]} for i, row in enumerate(records)]
    shards = prepare(write_built(tmp_path / "build", with_keys), tmp_path / "cache")
    plain = prepare(write_json(tmp_path / "medi-data.json", records), tmp_path / "cache")
    for data in (shards, plain):
        assert len(data) == 10
        rows = data.rows([7, 0, 3])
        for side in ("query", "pos", "neg"):
            assert rows.instructions[side] == [records[i][side][0] for i in (7, 0, 3)]
            assert rows.texts[side] == [records[i][side][1] for i in (7, 0, 3)]
        assert data.keys.task.tolist() == [row["task_id"] for row in records]
        assert data.keys.pos[4] == xxhash.xxh3_64_intdigest(records[4]["pos"][1].encode())
    assert np.diff(shards.keys.labels.offsets).tolist() == [len(row["labels"]) for row in with_keys]
    assert shards.keys.groups.values[3] == xxhash.xxh3_64_intdigest(b"page 3")
    assert plain.keys.labels.values.size == 0


def test_old_forms_are_read(tmp_path: Path) -> None:
    old = []
    for i in range(8):
        row = record(i)
        del row["task_id"]
        for side in ("query", "pos", "neg"):
            row[side] = [row[side][0] + " Input: ", row[side][1], int(side != "query")]
        old.append(row | {"task_name": "toy" if i < 4 else "other"})
    lists_of_four = [old[:4], old[4:]]
    data = prepare(write_json(tmp_path / "old.json", lists_of_four), tmp_path / "cache")
    assert data.keys.task.tolist() == [1] * 4 + [2] * 4
    assert data.info["tasks"] == {"1": "toy", "2": "other"}
    assert data.rows([5]).instructions["query"] == ["Represent the question;"]
    assert data.rows([5]).texts["neg"] == ["another thing than 5"]


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(record(i)) for i in range(5)) + "\n")
    assert len(prepare(path, tmp_path / "cache")) == 5


@settings(max_examples=60)
@given(
    values=st.lists(
        st.dictionaries(st.text(max_size=5), st.text(alphabet='ab"\\{}[],ü☃\n', max_size=30), min_size=1), max_size=8
    ),
    size=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_streaming_equals_json_load(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "values.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_module, "BYTES_PER_READ", size)
        assert list(json_values(path)) == values


def broken(i: int, **changes: Any) -> list[dict[str, Any]]:
    rows = [record(n) for n in range(6)]
    rows[i] = {key: value for key, value in (rows[i] | changes).items() if value is not ...}
    return rows


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (broken(3, pos=...), r"record 3: has no pos"),
        (broken(2, task_id=...), r"record 2: has no task_id"),
        (broken(4, task_id=..., task_name="x"), r"record 4: names its task by 'task_name'.*'task_id'"),
        (broken(1, query=["Represent;"]), r"record 1: query is \[\"Represent;\"\]"),
        (broken(1, neg=["Represent;", "text", 2]), r"record 1: neg is"),
        (broken(1, neg=["Represent;", 5]), r"record 1: neg is"),
        (broken(5, pos="text"), r"record 5: pos is"),
        (broken(5, task_id="seven"), r"record 5: task_id is"),
        (broken(0, neg=["Represent;", "  \n"]), r"record 0: the text of neg is empty"),
        (broken(0, neg=["Represent;", "half \ud800"]) + broken(1), r"record 0: a text is not valid Unicode"),
        ([*broken(0), 5], r"record 6: is 5"),
        ([], r"no records"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, records: Any, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(records))
    with pytest.raises((InputError, TrainError), match=message):
        prepare(path, tmp_path / "cache")
    assert not [left for left in (tmp_path / "cache").rglob("*") if left.is_file()]


def test_a_compressed_file_with_a_byte_order_mark_is_read_like_a_plain_one(tmp_path: Path) -> None:
    rows = [record(i) for i in range(5)]
    text = json.dumps(rows).encode("utf-8-sig")
    packed = {"a.json": text, "a.json.gz": gzip.compress(text), "a.json.zst": pa.compress(text, "zstd", asbytes=True)}
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        data = prepare(tmp_path / name, tmp_path / f"cache-{name}")
        assert data.rows(range(5)).texts["pos"] == [row["pos"][1] for row in rows]


@pytest.mark.parametrize("rest", ["{}", "[]", " x", '\n\n{"query": 1}'])
def test_what_follows_the_array_is_not_lost_without_a_word(tmp_path: Path, rest: str) -> None:
    path = write_json(tmp_path / "two.json", [record(i) for i in range(3)])
    with path.open("a") as file:
        file.write(" \n" * 3)
    assert len(prepare(path, tmp_path / "cache")) == 3
    with path.open("a") as file:
        file.write(rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_module, "BYTES_PER_READ", 7)
        with pytest.raises(InputError, match=r"goes on after its array of 3 elements ended"):
            prepare(path, tmp_path / "cache")


def test_tasks_named_by_numbers_and_words_stay_apart(tmp_path: Path) -> None:
    names = ["toy", "1", "7", "007", "²", "--5", "9" * 30, "-3", "toy"]
    rows = [{key: value for key, value in record(i).items() if key != "task_id"} for i in range(len(names))]
    rows = [row | {"task_name": name} for row, name in zip(rows, names, strict=True)]
    data = prepare(write_json(tmp_path / "old.json", rows), tmp_path / "cache")
    assert data.keys.task.tolist() == [1, 2, 7, 8, 9, 10, 11, -3, 1]
    assert data.info["tasks"]["8"] == "007"
    big = prepare(write_json(tmp_path / "big.json", [record(0, task=2**70)]), tmp_path / "cache")
    assert big.info["tasks"] == {"1": str(2**70)}


def test_a_bad_row_of_a_shard_is_named(tmp_path: Path) -> None:
    rows = [record(i) for i in range(6)]
    rows[4]["query"] = ["only one"]
    with pytest.raises(InputError, match=r"00001-toy-0001.parquet, row 1: query is \['only one'\]"):
        prepare(write_built(tmp_path / "build", rows), tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"query": 1}, {"que', r"element 1 is not JSON"),
        (b'[{"a": "' + b"x" * 50, r"element 0 is not JSON"),
        (b'[{"query": ["", "a"], "pos": ["", "b"], "neg": ["", "c"], "task_id": 1},', r"ends in the middle"),
        (b'["\xff\xfe"]', r"not UTF-8"),
        (b"", r"no records"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "medi-data.json"
    path.write_bytes(content)
    with pytest.raises((InputError, TrainError), match=message):
        values = list(json_values(path))
        assert values == [{"query": 1}] or not values
        prepare(path, tmp_path / "cache")


def test_missing_files_and_columns(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"manifest\.json: not there"):
        prepare(tmp_path / "empty", tmp_path / "cache")
    with pytest.raises(InputError, match="no such file"):
        prepare(tmp_path / "nothing.json", tmp_path / "cache")
    pq.write_table(pa.table({"query": [["a", "b"]]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"no column neg, pos, task_id"):
        prepare(tmp_path / "x.parquet", tmp_path / "cache")
    (tmp_path / "y.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="not a readable Parquet"):
        prepare(tmp_path / "y.parquet", tmp_path / "cache")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("task_id", pa.array([None, 1, 1], pa.int64()), r"x.parquet, row 0: task_id is null"),
        ("task_id", pa.array([0.5, 1.0, 1.0]), r"column task_id is of type double; it has to hold integers or strings"),
        ("task_id", pa.array([[1], [1], [1]]), r"column task_id is of type list"),
        ("query", pa.array(["a", "b", "c"]), r"column query is of type string; it has to hold lists of strings"),
        ("pos", pa.array([[1, 2]] * 3), r"column pos is of type list<.*int64>; it has to hold lists of strings"),
        ("labels", pa.array(["a", "b", "c"]), r"column labels is of type string; it has to hold lists of strings"),
        ("pos_id", pa.array([["a"]] * 3), r"column pos_id is of type list"),
    ],
)
def test_columns_of_another_type_are_named(tmp_path: Path, column: str, values: pa.Array, message: str) -> None:
    table = pa.Table.from_pylist([record(i) for i in range(3)])
    table = table.drop_columns([column] if column in table.column_names else []).append_column(column, values)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises((InputError, TrainError), match=message):
        prepare(tmp_path / "x.parquet", tmp_path / "cache")


def test_numbers_will_do_for_classes_and_ids(tmp_path: Path) -> None:
    rows = [record(i) | {"labels": [i % 2], "pos_id": 10 + i, "groups": []} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    data = prepare(tmp_path / "x.parquet", tmp_path / "cache")
    assert data.keys.labels.values.tolist() == [xxhash.xxh3_64_intdigest(str(i % 2).encode()) for i in range(3)]
    assert data.keys.pos_ids.values[2] == xxhash.xxh3_64_intdigest(b"12")


def test_a_shard_damaged_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([record(i) for i in range(300)]), path)
    data = bytearray(path.read_bytes())
    data[4:600] = b"\xff" * 596
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x.parquet: cannot be read to its end"):
        prepare(path, tmp_path / "cache")


def test_an_output_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = write_json(tmp_path / "medi-data.json", [record(0)])
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/below"):
        with pytest.raises(TrainError, match=r"cannot be written \(.*directory.*name another output folder"):
            prepare(path, tmp_path / folder / "cache")
    assert (tmp_path / "file").read_text() == "mine"


def test_empty_texts_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    records = broken(2, neg=["Represent;", " "]) + broken(0, query=["", ""], pos=["", ""])
    data = prepare(write_json(tmp_path / "some.json", records), tmp_path / "cache", skip_bad_rows=True)
    assert len(data) == 10
    assert data.info["skipped"] == {"empty_neg": 1, "empty_query": 1}
    assert data.rows([9]).texts["query"] == ["what is thing 5?"]


def test_prepared_data_is_reused_until_the_source_changes(tmp_path: Path) -> None:
    path = write_json(tmp_path / "medi-data.json", [record(i) for i in range(3)])
    first = prepare(path, tmp_path / "cache")
    stamp = (first.folder / "rows.arrow").stat().st_mtime_ns
    again = prepare(path, tmp_path / "cache")
    assert again == first
    assert (first.folder / "rows.arrow").stat().st_mtime_ns == stamp
    write_json(path, [record(i) for i in range(4)])
    assert len(prepare(path, tmp_path / "cache")) == 4


def make_keys(task: list[int], query: list[int]) -> RowKeys:
    none = Ragged(np.zeros(len(task) + 1, np.int64), np.empty(0, np.uint64))
    hashes = np.array([xxhash.xxh3_64_intdigest(str(q).encode()) for q in query], np.uint64)
    return RowKeys(np.array(task, np.int64), hashes, hashes, hashes, none, none, none, none, none)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=200),
    wanted=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_held_out_rows_share_no_query_with_training(rows: list[tuple[int, int]], wanted: int, seed: int) -> None:
    keys = make_keys([row[0] for row in rows], [row[1] for row in rows])
    training, evaluation = hold_out(keys, wanted, seed)
    assert sorted([*training, *evaluation]) == list(range(len(rows)))
    for task in {row[0] for row in rows}:
        inside = [row for row in evaluation if rows[row][0] == task]
        assert len(inside) <= min(wanted, sum(row[0] == task for row in rows) // 10)
        assert not {rows[row][1] for row in inside} & {rows[row][1] for row in training if rows[row][0] == task}


def test_take_keys() -> None:
    keys = make_keys([1, 1, 2], [5, 6, 7])
    keys = RowKeys(
        keys.task,
        keys.query,
        keys.pos,
        keys.neg,
        Ragged(np.array([0, 3, 4, 6]), np.arange(6).astype("u8")),
        Ragged(np.array([0, 2, 2, 3]), np.arange(3).astype("u8")),
        keys.groups,
        keys.pos_ids,
        keys.possible_false_negative_ids,
    )
    some = take_keys(keys, np.array([2, 0]))
    assert some.task.tolist() == [2, 1]
    assert some.labels.offsets.tolist() == [0, 1, 3]
    assert some.labels.values.tolist() == [2, 0, 1]
    assert some.hard_negatives.values.tolist() == [4, 5, 0, 1, 2]
    fewer = first_hard_negatives(some, 1)
    assert fewer.hard_negatives.offsets.tolist() == [0, 1, 2]
    assert fewer.hard_negatives.values.tolist() == [4, 0]


def test_further_negatives_are_kept_and_bad_ones_counted(tmp_path: Path) -> None:
    records = [record(i) for i in range(4)]
    records[0]["hard_negatives"] = ["one", "two", "one", records[0]["neg"][1]]
    records[2]["hard_negatives"] = [records[2]["pos"][1], "three", records[2]["query"][1]]
    for data in (
        prepare(write_json(tmp_path / "medi-data.json", records), tmp_path / "cache"),
        prepare(write_built(tmp_path / "build", records), tmp_path / "cache"),
    ):
        assert data.rows([2, 0, 1]).hard_negatives == [["three"], ["one", "two"], []]
        assert data.keys.hard_negatives.offsets.tolist() == [0, 2, 2, 3, 3]
        assert data.keys.hard_negatives.values[2] == xxhash.xxh3_64_intdigest(b"three")
        assert data.info["skipped"] == {
            "hard_negative_is_pos": 1,
            "hard_negative_is_query": 1,
            "hard_negative_repeated": 2,
        }
    records[3]["hard_negatives"] = ["four", " "]
    path = write_json(tmp_path / "bad.json", records)
    with pytest.raises(TrainError, match=r"record 3: a text of hard_negatives is empty"):
        prepare(path, tmp_path / "cache")
    data = prepare(path, tmp_path / "cache", skip_bad_rows=True)
    assert data.rows([3]).hard_negatives == [["four"]]
    assert data.info["skipped"]["empty_hard_negative"] == 1


def test_foreign_parquet_may_have_nulls_where_lists_may_be_empty(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([record(i) | {"labels": None, "hard_negatives": ["x"] * (i % 2)} for i in range(3)])
    pq.write_table(table.set_column(4, "labels", pa.array([["a"], None, ["b"]])), tmp_path / "x.parquet")
    data = prepare(tmp_path / "x.parquet", tmp_path / "cache")
    assert data.keys.labels.offsets.tolist() == [0, 1, 1, 2]
    assert data.rows([0, 1]).hard_negatives == [[], ["x"]]

"""Each form as its library documents it, read back with the public readers."""

import datasets
import orjson
import pyarrow as pa
import pytest

from medi_build.errors import OutputError
from medi_build.records import EXAMPLES, MINED, RECORDS
from medi_build.write.formats import TUPLES, from_mined, from_records, write_format

MINED_ROWS = pa.table(
    [
        [0, 2],
        ["a drink", "a mammal"],
        ["t/0#p0", "t/2#p0"],
        ["a towel", "a bird"],
        ["d1", "d2"],
        [0.9, 0.8],
        [0.5, 0.4],
        [0, 1],
        ["dense", "dense"],
        [["a cup", "a pot"], []],
        [[0.25, 0.125], []],
        [[1, 2], []],
        [["t/2#p0"], []],
    ],
    schema=MINED,
)
EXAMPLE_ROWS = pa.table(
    [["t/0", "t/1", "t/2"], ["tea", "no", "fox"], [["a drink"], [], ["a mammal"]], *[[[]] * 3] * 4], schema=EXAMPLES
)


@pytest.fixture
def tuples():
    return from_mined(EXAMPLE_ROWS, MINED_ROWS)


def load(path):
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent)).to_list()


def test_tuples_put_the_first_negative_in_front(tuples):
    assert tuples.schema == TUPLES
    assert tuples["query"].to_pylist() == ["tea", "fox"]
    assert tuples["negatives"].to_pylist() == [["a towel", "a cup", "a pot"], ["a bird"]]
    assert tuples["negative_scores"].to_pylist() == [[0.5, 0.25, 0.125], [pytest.approx(0.4)]]


def test_records_give_the_same_with_their_instruction(tuples):
    count = MINED_ROWS.num_rows
    columns = {name: MINED_ROWS[name] for name in RECORDS.names if name in MINED.names}
    columns |= {
        "query": [["Represent the question;", q] for q in tuples["query"].to_pylist()],
        "pos": [["Represent the document;", p] for p in MINED_ROWS["pos"].to_pylist()],
        "neg": [["Represent the document;", n] for n in MINED_ROWS["neg"].to_pylist()],
        "task_id": [1] * count,
        "task_name": ["toy"] * count,
        "id": ["t/0", "t/2"],
        "labels": [[]] * count,
        "groups": [[]] * count,
    }
    records = pa.table([columns[name] for name in RECORDS.names], schema=RECORDS)
    again = from_records(records)
    assert again["instruction"].to_pylist() == ["Represent the question;"] * 2
    assert again.drop_columns(["instruction"]).equals(tuples.drop_columns(["instruction"]))


def test_triplet(tuples, tmp_path):
    assert write_format([tuples], "triplet", tmp_path / "t.parquet") == 4
    rows = load(tmp_path / "t.parquet")
    assert rows[1] == {"anchor": "tea", "positive": "a drink", "negative": "a cup"}
    assert rows[3] == {"anchor": "fox", "positive": "a mammal", "negative": "a bird"}


def test_n_tuple_leaves_out_short_rows(tuples, tmp_path):
    assert write_format([tuples], "n-tuple", tmp_path / "t.parquet") == 1
    assert load(tmp_path / "t.parquet") == [
        {
            "anchor": "tea",
            "positive": "a drink",
            "negative_1": "a towel",
            "negative_2": "a cup",
            "negative_3": "a pot",
        }
    ]


def test_labels(tuples, tmp_path):
    assert write_format([tuples, tuples], "labeled-pair", tmp_path / "p.parquet") == 12
    rows = load(tmp_path / "p.parquet")
    assert [(row["anchor"], row["label"]) for row in rows[:6]] == [
        ("tea", 1), ("tea", 0), ("tea", 0), ("tea", 0), ("fox", 1), ("fox", 0),
    ]  # fmt: skip
    assert write_format([tuples], "labeled-list", tmp_path / "l.parquet") == 2
    assert load(tmp_path / "l.parquet")[1] == {
        "anchor": "fox",
        "documents": ["a mammal", "a bird"],
        "labels": [1, 0],
    }


def test_json_lines(tuples, tmp_path):
    assert write_format([tuples], "flagembedding", tmp_path / "f.jsonl") == 2
    first, second = map(orjson.loads, (tmp_path / "f.jsonl").read_bytes().splitlines())
    assert set(first) == {"query", "pos", "neg", "pos_scores", "neg_scores", "prompt"}
    assert (second["pos"], second["neg"], second["neg_scores"]) == (["a mammal"], ["a bird"], [pytest.approx(0.4)])
    assert write_format([tuples], "tevatron", tmp_path / "t.jsonl") == 2
    first = orjson.loads((tmp_path / "t.jsonl").read_bytes().splitlines()[0])
    assert first["positive_passages"] == [{"docid": "t/0#p0", "title": "", "text": "a drink"}]
    assert [p["docid"] for p in first["negative_passages"]] == ["d1", "t/0#negative-1", "t/0#negative-2"]


def test_unknown_forms_and_nothing_to_write(tuples, tmp_path):
    with pytest.raises(OutputError, match="did you mean 'triplet'"):
        write_format([tuples], "triplets", tmp_path / "t.parquet")
    with pytest.raises(OutputError, match="nothing to write"):
        write_format([], "triplet", tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
    assert write_format([tuples.slice(0, 0)], "labeled-list", tmp_path / "e.parquet") == 0

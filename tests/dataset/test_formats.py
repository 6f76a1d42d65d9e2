"""Each form as its library documents it, read back with the public readers."""

import datasets
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.dataset.formats import TUPLES, from_mined, write_format
from medi_build.dataset.schema import EXAMPLES, MINED
from medi_build.errors import OutputError

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
    [["t/0", "t/1", "t/2"], ["tea", "no", "fox"], [["a drink"], [], ["a mammal"]], *[[[]] * 3] * 4, [""] * 3, [0] * 3],
    schema=EXAMPLES,
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


@pytest.mark.parametrize(
    ("form", "name", "values"),
    [
        ("triplet", "scores", [[0.9, 0.5], [0.9, 0.25], [0.9, 0.125], [0.8, 0.4]]),
        ("n-tuple", "scores", [[0.9, 0.5, 0.25, 0.125]]),
        ("labeled-pair", "score", [0.9, 0.5, 0.25, 0.125, 0.8, 0.4]),
        ("labeled-list", "scores", [[0.9, 0.5, 0.25, 0.125], [0.8, 0.4]]),
    ],
)
def test_scores_stand_beside_tuples_and_in_place_of_labels(tuples, tmp_path, form, name, values):
    plain, scored = tmp_path / "plain.parquet", tmp_path / "scored.parquet"
    assert write_format([tuples, tuples], form, plain) == write_format([tuples, tuples], form, scored, scores=True)
    texts, found = (pq.read_table(path) for path in (plain, scored))
    assert found[name].type in (pa.float32(), TUPLES.field("negative_scores").type)
    assert found[name].to_pylist() == pa.array(values * 2, found[name].type).to_pylist()
    marks = {"label", "labels", "score", "scores"}
    assert marks & set(found.column_names) == {name}
    kept = [column for column in texts.column_names if column not in marks]
    assert found.select(kept).equals(texts.select(kept))


def test_n_tuples_of_later_tables_have_as_many_scores_as_negatives(tuples, tmp_path):
    assert write_format([tuples.slice(1), tuples], "n-tuple", tmp_path / "t.parquet", scores=True) == 3
    found = pq.read_table(tmp_path / "t.parquet")
    assert found["negative_1"].to_pylist() == ["a bird", "a towel", "a bird"]
    assert [len(row) for row in found["scores"].to_pylist()] == [2, 2, 2]


def test_json_lines(tuples, tmp_path):
    assert write_format([tuples], "flagembedding", tmp_path / "f.jsonl") == 2
    first, second = map(orjson.loads, (tmp_path / "f.jsonl").read_bytes().splitlines())
    assert set(first) == {"query", "pos", "neg", "pos_scores", "neg_scores"}
    assert (second["pos"], second["neg"], second["neg_scores"]) == (["a mammal"], ["a bird"], [pytest.approx(0.4)])
    assert write_format([tuples], "tevatron", tmp_path / "t.jsonl") == 2
    first = orjson.loads((tmp_path / "t.jsonl").read_bytes().splitlines()[0])
    assert first["positive_passages"] == [{"docid": "t/0#p0", "title": "", "text": "a drink"}]
    assert [p["docid"] for p in first["negative_passages"]] == ["d1", "t/0#negative-1", "t/0#negative-2"]


def test_flagembedding_is_told_of_an_instruction(tmp_path):
    told = from_mined(EXAMPLE_ROWS, MINED_ROWS, "Represent the question;")
    write_format([told], "flagembedding", tmp_path / "f.jsonl")
    rows = map(orjson.loads, (tmp_path / "f.jsonl").read_bytes().splitlines())
    assert [row["prompt"] for row in rows] == ["Represent the question;"] * 2


def test_unknown_forms_and_nothing_to_write(tuples, tmp_path):
    with pytest.raises(OutputError, match="did you mean 'triplet'"):
        write_format([tuples], "triplets", tmp_path / "t.parquet")
    with pytest.raises(OutputError, match="nothing to write"):
        write_format([], "triplet", tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
    assert write_format([tuples.slice(0, 0)], "labeled-list", tmp_path / "e.parquet") == 0
    assert write_format([tuples.slice(0, 0)], "n-tuple", tmp_path / "e.parquet", scores=True) == 0
    assert write_format([tuples.slice(0, 0)], "triplet", tmp_path / "e.parquet", scores=True) == 0

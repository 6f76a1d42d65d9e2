"""Each form as its library documents it, read back with the public readers."""

import os
import subprocess
import sys

import datasets
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.dataset.formats import FILES, TUPLES, from_mined, write_formats
from medi_build.dataset.passages import Passages
from medi_build.dataset.schema import CORPUS, EXAMPLES, MINED
from medi_build.errors import OutputError
from tests.mine.conftest import text_id

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


def write(tables, form, folder, negatives=3, **options):
    """Write one form; how many rows it has."""
    return write_formats(tables, [form], folder, negatives=negatives, **options)[form]


def lines(folder, form):
    return list(map(orjson.loads, (folder / FILES[form]).read_bytes().splitlines()))


def load(path):
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent)).to_list()


def test_tuples_put_the_first_negative_in_front(tuples):
    assert tuples.schema == TUPLES
    assert tuples["query"].to_pylist() == ["tea", "fox"]
    assert tuples["negatives"].to_pylist() == [["a towel", "a cup", "a pot"], ["a bird"]]
    assert tuples["negative_scores"].to_pylist() == [[0.5, 0.25, 0.125], [pytest.approx(0.4)]]


def test_triplet(tuples, tmp_path):
    assert write([tuples], "triplet", tmp_path) == 4
    rows = load(tmp_path / "triplet.parquet")
    assert rows[1] == {"anchor": "tea", "positive": "a drink", "negative": "a cup"}
    assert rows[3] == {"anchor": "fox", "positive": "a mammal", "negative": "a bird"}


def test_n_tuple_leaves_out_short_rows(tuples, tmp_path):
    assert write([tuples], "n-tuple", tmp_path) == 1
    assert load(tmp_path / "n-tuple.parquet") == [
        {
            "anchor": "tea",
            "positive": "a drink",
            "negative_1": "a towel",
            "negative_2": "a cup",
            "negative_3": "a pot",
        }
    ]


def test_labels(tuples, tmp_path):
    assert write([tuples, tuples], "labeled-pair", tmp_path) == 12
    rows = load(tmp_path / "labeled-pair.parquet")
    assert [(row["anchor"], row["label"]) for row in rows[:6]] == [
        ("tea", 1), ("tea", 0), ("tea", 0), ("tea", 0), ("fox", 1), ("fox", 0),
    ]  # fmt: skip
    assert write([tuples], "labeled-list", tmp_path) == 2
    assert load(tmp_path / "labeled-list.parquet")[1] == {
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
    plain, scored = tmp_path / "plain", tmp_path / "scored"
    assert write([tuples, tuples], form, plain) == write([tuples, tuples], form, scored, scores=True)
    texts, found = (pq.read_table(path / FILES[form]) for path in (plain, scored))
    assert found[name].type in (pa.float32(), TUPLES.field("negative_scores").type)
    assert found[name].to_pylist() == pa.array(values * 2, found[name].type).to_pylist()
    marks = {"label", "labels", "score", "scores"}
    assert marks & set(found.column_names) == {name}
    kept = [column for column in texts.column_names if column not in marks]
    assert found.select(kept).equals(texts.select(kept))


def test_n_tuples_have_as_many_columns_whatever_the_first_table_holds(tuples, tmp_path):
    assert write([tuples.slice(1), tuples], "n-tuple", tmp_path, negatives=1, scores=True) == 3
    found = pq.read_table(tmp_path / "n-tuple.parquet")
    assert found["negative_1"].to_pylist() == ["a bird", "a towel", "a bird"]
    assert [len(row) for row in found["scores"].to_pylist()] == [2, 2, 2]
    assert write([tuples.slice(1), tuples], "n-tuple", tmp_path) == 1
    assert pq.read_table(tmp_path / "n-tuple.parquet")["negative_3"].to_pylist() == ["a pot"]


def test_json_lines(tuples, tmp_path):
    assert write([tuples], "flagembedding", tmp_path) == 2
    first, second = lines(tmp_path, "flagembedding")
    assert set(first) == {"query", "pos", "neg", "pos_scores", "neg_scores"}
    assert (second["pos"], second["neg"], second["neg_scores"]) == (["a mammal"], ["a bird"], [pytest.approx(0.4)])


def test_tevatron_has_ids_and_titles_of_the_corpus_and_else_a_hash(tuples, tmp_path):
    corpus = pa.table(
        [["D7", "D8", "D9", "D7"], ["a drink", "a pot", "Cups a cup", "a cup"], [[]] * 4, ["", "", "Cups", ""]],
        schema=CORPUS,
    )
    place = TUPLES.get_field_index("negatives")
    other = pa.array([["a towel", "Cups a cup", "a pot"], ["a bird"]], TUPLES.types[place])
    renamed = tuples.set_column(place, TUPLES.field(place), other)
    assert write([renamed], "tevatron", tmp_path, passages=Passages(corpus)) == 2
    first, second = lines(tmp_path, "tevatron")
    assert first == {
        "query_id": "t/0",
        "query": "tea",
        "positive_passages": [{"docid": "D7", "title": "", "text": "a drink"}],
        "negative_passages": [
            {"docid": text_id("a towel"), "title": "", "text": "a towel"},
            {"docid": "D9", "title": "Cups", "text": "a cup"},
            {"docid": "D8", "title": "", "text": "a pot"},
        ],
    }
    assert second["negative_passages"] == [{"docid": text_id("a bird"), "title": "", "text": "a bird"}]
    write([tuples], "tevatron", tmp_path)
    passages = [
        p for line in lines(tmp_path, "tevatron") for side in ("positive", "negative") for p in line[f"{side}_passages"]
    ]
    assert [p["docid"] for p in passages] == [text_id(p["text"]) for p in passages]


def test_flagembedding_is_told_of_an_instruction(tmp_path):
    told = from_mined(EXAMPLE_ROWS, MINED_ROWS, "Represent the question;")
    write([told], "flagembedding", tmp_path)
    assert [row["prompt"] for row in lines(tmp_path, "flagembedding")] == ["Represent the question;"] * 2


def test_an_unknown_form_is_refused_before_anything_is_written(tuples, tmp_path):
    with pytest.raises(OutputError, match="did you mean 'triplet'"):
        write_formats([tuples], ["n-tuple", "triplets"], tmp_path, negatives=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("scores", [False, True])
def test_no_rows_make_an_empty_file_of_the_same_columns(tuples, tmp_path, form, scores):
    for number, tables in enumerate(([], [tuples.slice(0, 0)])):
        assert write(tables, form, tmp_path / str(number), scores=scores) == 0
    write([tuples], form, tmp_path / "full", scores=scores)
    empty, also, full = (tmp_path / name / FILES[form] for name in ("0", "1", "full"))
    assert empty.read_bytes() == also.read_bytes()
    if empty.suffix == ".parquet":
        assert pq.read_schema(empty).equals(pq.read_schema(full), check_metadata=True)
        assert pq.read_table(empty).num_rows == 0


def test_all_forms_in_one_pass_are_what_each_is_alone_and_parts_make_no_other_rows(tuples, tmp_path):
    written = write_formats(iter([tuples, tuples]), [*FILES, "triplet"], tmp_path / "all", negatives=3)
    assert written == {form: write([tuples, tuples], form, tmp_path / "alone") for form in FILES}
    for name in FILES.values():
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    whole = pa.concat_tables([tuples, tuples]).combine_chunks()
    write_formats([whole], list(FILES), tmp_path / "whole", negatives=3)
    for name in FILES.values():
        both = [tmp_path / folder / name for folder in ("whole", "all")]
        read = pq.read_table if name.endswith("parquet") else lambda path: path.read_bytes()
        assert read(both[0]) == read(both[1])


def test_an_error_half_way_leaves_the_old_files_and_nothing_else(tuples, tmp_path):
    write_formats([tuples], list(FILES), tmp_path, negatives=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken():
        yield tuples
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write_formats(broken(), list(FILES), tmp_path, negatives=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_left_is_removed_and_that_of_a_living_one_is_not(tuples, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive, other = (
        tmp_path / name
        for name in (
            f".triplet.parquet.{gone.pid}.tmp",
            f".triplet.parquet.{os.getppid()}.tmp",
            ".triplet.parquet.x.tmp",
        )
    )
    for path in (dead, alive, other):
        path.write_text("half")
    write([tuples], "triplet", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"triplet.parquet", alive.name, other.name}

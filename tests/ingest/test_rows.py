"""The one reader of rows: every form and compression gives the same rows, and every row is counted."""

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.errors import InputError
from medi_build.ingest import json_rows as module
from medi_build.ingest.preview import raw_rows
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger

ROWS = [
    {"query": "who winds the clock?", "pos": 'The sexton, on "Mondays"'},
    {"query": "wo ist der Käse?", "pos": "im Keller;\nlinks"},
    {"query": "when does it rain", "pos": "in autumn\tmostly"},
]
PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def read(path: Path, **options: Any) -> tuple[list[Any], Ledger]:
    ledger = Ledger("rows")
    found = list(rows_of(path, ledger, **options))
    assert ledger.read == len(found) + ledger.dropped_in("adapt")
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    return [row for _, row in found], ledger


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(rows: list[dict[str, str]], **options: Any) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMS = {
    "a.jsonl": "\n".join(map(json.dumps, ROWS)),
    "one line.json": json.dumps(ROWS, ensure_ascii=False),
    "pretty.json": json.dumps(ROWS, indent=2),
    "commas.json": "[" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "a.csv": table(ROWS),
    "semicolons.csv": table(ROWS, delimiter=";", quoting=csv.QUOTE_ALL),
    "a.tsv": table(ROWS, delimiter="\t"),
}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_compression_gives_the_same_rows(tmp_path: Path, form: str, mark: bytes, ending: str):
    path = written(tmp_path, form + ending, PACKERS[ending](mark + FORMS[form].encode()))
    assert read(path)[0] == ROWS


def test_the_first_bytes_tell_the_compression_and_parquet_is_read(tmp_path: Path):
    assert read(written(tmp_path, "a.jsonl", gzip.compress(FORMS["a.jsonl"].encode())))[0] == ROWS
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == ROWS


@pytest.mark.parametrize("ending", [ending for ending in PACKERS if ending])
def test_a_stream_that_breaks_is_an_error(tmp_path: Path, ending: str):
    lines = "\n".join(json.dumps([f"{i * 7919:x}", f"{i * 104729:x}"]) for i in range(5000)).encode()
    whole = PACKERS[ending](lines)
    for name in ("a.jsonl", "a.csv", "a.json"):
        path = written(tmp_path, name + ending, whole[: len(whole) // 2])
        with pytest.raises(InputError, match=r"stream ends or breaks .*fetch it again"):
            read(path)


@pytest.mark.parametrize("form", ["a.jsonl", "one line.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_by_name(tmp_path: Path, form: str, encoding: str):
    with pytest.raises(InputError, match=r"is UTF-16.*iconv"):
        read(written(tmp_path, form, FORMS[form].encode(encoding)))


def test_nan_and_infinity_are_read(tmp_path: Path):
    lines = '{"a": NaN, "b": "x"}\n{"a": -Infinity, "b": "y"}\n{"a": 1, "b": "z"}\n{"a": nan}\n{"a": "\\ud800"}'
    found, ledger = read(written(tmp_path, "a.jsonl", lines))
    assert [row["b"] for row in found] == ["x", "y", "z"]
    assert ledger.dropped["adapt"] == {"invalid_json": 1, "invalid_unicode": 1}
    found, _ = read(written(tmp_path, "a.json", '[{"a": NaN, "b": "x"}, {"a": 1, "b": "z"}]'))
    assert [row["b"] for row in found] == ["x", "z"]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('["a", "b"]', [["a", "b"]]),
        ('["a", "b"]\n["c", "d"]', [["a", "b"], ["c", "d"]]),
        ('[["a", "b"], ["c", "d"], ["e", "f"]]', [["a", "b"], ["c", "d"], ["e", "f"]]),
        ('[["a", "b"],\n["c", "d"]]', [["a", "b"], ["c", "d"]]),
        ('[["a", "b"]\n,["c", "d"]]', [["a", "b"], ["c", "d"]]),
        ('[["i", "q"], ["i", "p"]]\n[["i", "r"], ["i", "s"]]', [[["i", "q"], ["i", "p"]], [["i", "r"], ["i", "s"]]]),
        ('\n\n[{"a": [1, {"b": "}"}]}]', [{"a": [1, {"b": "}"}]}]),
        ("[]", [[]]),
        ("[\n]", []),
        ('{\n "a": 1\n}', [{"a": 1}]),
        ("", []),
        ("\n \n", []),
    ],
)
def test_lines_and_arrays_are_told_apart(tmp_path: Path, text: str, rows: list[Any]):
    assert read(written(tmp_path, "a.json", text))[0] == rows


def test_where_no_row_is_a_list_every_list_is_an_array(tmp_path: Path):
    assert read(written(tmp_path, "a.json", '["a text", "another"]'), lists=False)[0] == ["a text", "another"]


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.one_of(
            st.dictionaries(st.text(max_size=4), st.text(alphabet='ab"\\{}[],ü☃\n', max_size=20), min_size=1),
            st.lists(st.text(alphabet='ab"\\{}[],ü', max_size=9), min_size=1, max_size=3),
            st.fixed_dictionaries({"a": st.fixed_dictionaries({"b": st.lists(st.just({"c": "}"}), max_size=2)})}),
        ),
        min_size=1,
        max_size=9,
    ),
    size=st.integers(1, 60),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_is_what_json_says_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int, indent: int | None
):
    path = written(tmp_path_factory.mktemp("rows"), "a.json", json.dumps(rows, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BYTES_PER_READ", size)
        assert list(module.json_values(path)) == list(module.json_values(path, exact=True)) == rows


def test_an_array_that_breaks_names_the_element(tmp_path: Path):
    whole = json.dumps(ROWS)
    for text, message in (
        (whole[:-20], "element 2 is not JSON"),
        (whole + "\n[1]", "goes on after its array of 3 elements"),
        (whole[:-1], "ends in the middle of the array, after 3 elements"),
    ):
        with pytest.raises(InputError, match=message):
            list(module.json_values(written(tmp_path, "a.json", text)))


CELL = st.text(alphabet='ab,;"\t\n é☃', max_size=12).filter(lambda text: text == text.strip())


@settings(max_examples=80)
@given(rows=st.lists(st.fixed_dictionaries({"query": CELL, "positive": CELL, "": CELL}), min_size=1, max_size=6))
def test_a_csv_is_what_the_csv_module_wrote(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]):
    path = written(tmp_path_factory.mktemp("rows"), "a.csv", table(rows))
    assert read(path)[0] == [{key: value or None for key, value in row.items()} for row in rows]


def test_rows_of_another_length_are_counted_with_their_place(tmp_path: Path):
    path = written(tmp_path, "a.csv", "query,positive\na,b\nonly one\n\nc,d,e\nf,g\n")
    found, ledger = read(path)
    assert found == [{"query": "a", "positive": "b"}, {"query": "f", "positive": "g"}]
    assert ledger.dropped["adapt"] == {"wrong_number_of_columns": 2}
    assert ledger.places["adapt/wrong_number_of_columns"] == [f"{path}:2", f"{path}:3"]
    with pytest.raises(InputError, match="two columns are named 'a'"):
        read(written(tmp_path, "b.csv", "a,a\n1,2\n"))


def test_quotation_marks_in_a_tsv_are_text_unless_they_wrap_the_cell(tmp_path: Path):
    text = 'id\ttext\n1\t"Fog" is a word\n2\t5" of snow\n3\t"quoted ""twice"""\n4\t"\n'
    found, _ = read(written(tmp_path, "a.tsv", text))
    assert [row["text"] for row in found] == ['"Fog" is a word', '5" of snow', 'quoted "twice"', '"']


def test_a_table_without_a_header_is_known_by_its_names(tmp_path: Path):
    path = written(tmp_path, "collection.tsv", "7\tThe fox sleeps.\n8\tThe ferry leaves.\n")
    options = {"headless": ("id", "text"), "known": ("id", "text", "title")}
    assert read(path, **options)[0] == [
        {"id": "7", "text": "The fox sleeps."},
        {"id": "8", "text": "The ferry leaves."},
    ]
    assert read(written(tmp_path, "b.tsv", "id\ttext\n7\tx\n"), **options)[0] == [{"id": "7", "text": "x"}]


@pytest.mark.parametrize("form", FORMS)
def test_a_preview_shows_the_rows_of_every_form(tmp_path: Path, form: str):
    path = written(tmp_path, form + ".gz", gzip.compress(FORMS[form].encode()))
    assert [json.loads(row) for row in raw_rows(path, 2)] == ROWS[:2]

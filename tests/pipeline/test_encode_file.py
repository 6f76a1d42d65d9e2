"""`medi encode`: every form of a file, streamed, counted, refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.encode.instructor import Instructor
from medi_build.encode.pair_tokens import TRUNCATED
from medi_build.errors import InputError, OutputError, TrainError
from medi_build.pipeline.encode_file import encode_file
from tests.conftest import ROOT

TINY = ROOT / "tests" / "golden" / "tiny_instructor"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def model() -> Instructor:
    return Instructor(TINY, "cpu")


def test_files_of_every_kind(model: Instructor, tmp_path: Path) -> None:
    texts = ["The harbour froze.", "", "Bread rises.", "Zwei Züge"]
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(t) for t in texts))
    (tmp_path / "b.json").write_text(json.dumps(texts))
    (tmp_path / "c.csv").write_text("n,body\n" + "".join(f'1,"{text}"\n' for text in texts), encoding="utf-8-sig")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    (tmp_path / "c.json.zst").write_bytes(
        pa.compress(json.dumps([{"body": t} for t in texts]).encode(), "zstd", asbytes=True)
    )
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"body": t, "n": 1}) for t in texts))
    pq.write_table(pa.table({"body": texts}), tmp_path / "d.parquet")
    wanted = model.encode([["Represent the sentence;", text] for text in texts if text], normalize_embeddings=True)
    for name in ("a.txt", "a.txt.gz", "b.jsonl", "b.json", "c.jsonl", "c.csv", "c.json.zst", "d.parquet"):
        ledger = encode_file(
            model, tmp_path / name, tmp_path / "out" / "v.parquet", instruction="Represent the sentence;", column="body"
        )
        ledger.check()
        assert (ledger.read, ledger.written, dict(ledger.dropped["adapt"])) == (4, 3, {"empty_text": 1})
        rows = rows_of(tmp_path / "out" / "v.parquet")
        assert [row["row"] for row in rows] == [0, 2, 3]
        assert [row["text"] for row in rows] == [text for text in texts if text]
        assert np.abs(np.array([row["vector"] for row in rows]) - wanted).max() < 1e-6
    assert not list((tmp_path / "out").glob(".*"))


def test_rows_are_counted_in_the_source_whatever_is_dropped(model: Instructor, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"one"\n\n{broken\n5\n"\\ud800"\n" two "\n')
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n\xff\xfe\nx\n y\n")
    ledger = encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet")
    ledger.check()
    assert dict(ledger.dropped["adapt"]) == {"invalid_json": 1, "wrong_type": 1, "invalid_unicode": 1}
    assert [(row["row"], row["text"]) for row in rows_of(tmp_path / "v.parquet")] == [(0, "one"), (5, " two ")]
    ledger = encode_file(model, tmp_path / "a.txt", tmp_path / "v.parquet")
    ledger.check()
    assert dict(ledger.dropped["adapt"]) == {"empty_text": 1, "invalid_unicode": 1}
    assert [(row["row"], row["text"]) for row in rows_of(tmp_path / "v.parquet")] == [(0, "one"), (3, "x"), (4, " y")]


def test_files_stream_in_steps(model: Instructor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi_build.pipeline.encode_file.ROWS_PER_STEP", 7)
    (tmp_path / "a.txt").write_text("".join(f"ship {i}\n" for i in range(20)))
    ledger = encode_file(model, tmp_path / "a.txt", tmp_path / "v.parquet")
    assert ledger.written == 20
    assert pq.ParquetFile(tmp_path / "v.parquet").num_row_groups == 3


def test_truncated_texts_are_counted(tmp_path: Path) -> None:
    short = Instructor(TINY, "cpu", max_tokens=16)
    (tmp_path / "a.txt").write_text("one\n" + "many words in a long line " * 9 + "\n")
    assert encode_file(short, tmp_path / "a.txt", tmp_path / "v.parquet").notes["truncated"] == 1


def test_a_long_text_is_cut_at_the_window_and_never_dropped(model: Instructor, tmp_path: Path) -> None:
    words = " ".join(["the ferry crosses the strait"] * 5_000)
    texts = ["one", words, " " * 200_000 + "behind many blanks", "x" * 300_000]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, texts)))
    ledger = encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet", instruction="Represent the sentence;")
    ledger.check()
    cut = model.tokenise([["Represent the sentence;", text] for text in texts]).flags & TRUNCATED
    assert (ledger.read, ledger.written, ledger.notes["truncated"]) == (4, 4, int(cut.sum()))
    assert cut.tolist()[:3] == [0, 1, 0]
    rows = rows_of(tmp_path / "v.parquet")
    assert [row["text"] for row in rows] == texts
    wanted = model.encode([["Represent the sentence;", text] for text in texts], normalize_embeddings=True)
    assert np.abs(np.array([row["vector"] for row in rows]) - wanted).max() < 1e-6


def test_bad_rows_are_counted_and_the_others_encoded(model: Instructor, tmp_path: Path) -> None:
    rows = ['{"title": "x"}', '{"text": "one"}', '{"text": null}', "{broken", '{"text": ["x"]}', "5", '"two"', "{}"]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    ledger = encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet")
    ledger.check()
    dropped = {"missing_column": 2, "empty_text": 1, "invalid_json": 1, "wrong_type": 2}
    assert (ledger.read, ledger.written, dict(ledger.dropped["adapt"])) == (8, 2, dropped)
    assert ledger.places["adapt/missing_column"] == ["row 0", "row 7"]
    assert [(row["row"], row["text"]) for row in rows_of(tmp_path / "v.parquet")] == [(1, "one"), (6, "two")]


@pytest.mark.parametrize("first", [10, 999, 1000])
def test_a_column_that_no_first_row_has_is_an_error_before_the_work(
    model: Instructor, tmp_path: Path, first: int
) -> None:
    lines = ['{"body": "x"}', "{}"] * 500
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:first], '{"text": "one"}', '{"text": "two"}']))
    if first < 1000:
        assert encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet").written == 2
        return
    with pytest.raises(InputError, match=r"none of its first 1,000 rows has 'text'; their keys are 'body', name"):
        encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()


def test_a_step_holds_so_many_characters(model: Instructor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi_build.pipeline.encode_file.CHARACTERS_PER_STEP", 30)
    (tmp_path / "a.txt").write_text("".join(f"a ship of {i}\n" for i in range(9)))
    assert encode_file(model, tmp_path / "a.txt", tmp_path / "v.parquet").written == 9
    assert pq.ParquetFile(tmp_path / "v.parquet").num_row_groups == 3


def test_bad_files_are_refused(model: Instructor, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "x"}\n')
    (tmp_path / "a.pdf").write_text("x")
    (tmp_path / "a.csv").write_text("title\nx\n")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.jsonl: none of its first 1 rows has 'text'; their keys are 'title'"):
        encode_file(model, tmp_path / "a.jsonl", tmp_path / "v.parquet")
    with pytest.raises(TrainError, match=r"neither \.txt"):
        encode_file(model, tmp_path / "a.pdf", tmp_path / "v.parquet")
    with pytest.raises(InputError, match=r"a.csv: none of its first 1 rows has 'text'; their keys are 'title'"):
        encode_file(model, tmp_path / "a.csv", tmp_path / "v.parquet")
    with pytest.raises(InputError, match="no column 'text'"):
        encode_file(model, tmp_path / "a.parquet", tmp_path / "v.parquet")
    with pytest.raises(TrainError, match="no such file"):
        encode_file(model, tmp_path / "b.txt", tmp_path / "v.parquet")
    (tmp_path / "d.jsonl").write_text('{"text": 5}\n[]\n{"text": " "}\n')
    with pytest.raises(InputError, match=r"none of its 3 rows has a usable text \(2 wrong_type, 1 empty_text\)"):
        encode_file(model, tmp_path / "d.jsonl", tmp_path / "v.parquet")
    (tmp_path / "c.txt").write_text("one\n")
    with pytest.raises(TrainError, match=r"leaves no room for text in the window of 512 tokens: 'Represent"):
        encode_file(model, tmp_path / "c.txt", tmp_path / "v.parquet", instruction="Represent this " * 300)
    with pytest.raises(OutputError, match=r"c.txt/v.parquet: cannot be written .*choose another"):
        encode_file(model, tmp_path / "c.txt", tmp_path / "c.txt" / "v.parquet")
    with pytest.raises(TrainError, match=r"c.txt: is the file to encode"):
        encode_file(model, tmp_path / "c.txt", tmp_path / "." / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "one\n"
    assert not (tmp_path / "v.parquet").exists()

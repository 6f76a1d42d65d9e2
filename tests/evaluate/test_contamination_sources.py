"""What `medi contamination` reads: every form of records and of evaluation texts, and what it says of bad input."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from medi_build.errors import DatasetError, EvaluationError, InputError, MediError
from medi_build.evaluate.contamination import against, records, scan
from medi_build.evaluate.contamination.index import Entry, SetBatch, open_index, write_index
from medi_build.evaluate.contamination.report import contamination
from tests.dataset.built import write_built


def lines(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def record(query: str, pos: str, neg: str, task: str = "one") -> dict[str, Any]:
    return {"query": ["Ask:", query], "pos": ["Tell:", pos], "neg": ["Tell:", neg], "task_name": task}


def built(folder: Path, count: int) -> Path:
    sides = ("query", "pos", "neg")
    rows = [{side: ["", f"{side} {n}"] for side in sides} for n in range(count)]
    return write_built(folder, [{**row, "task_id": n % 2, "task_name": f"toy/{n % 2}"} for n, row in enumerate(rows)])


# --- forms of records


FORMS: dict[str, Any] = {
    "texts": {"query": "q one", "pos": "p one", "neg": "n one"},
    "pairs with instructions": {"query": ["I", "q one"], "pos": ["I", "p one"], "neg": ["I", "n one"], "task_id": 1},
    "the old form": {"query": ["I", "q one", 0], "pos": ["I", "p one", 0], "neg": ["I", "n one", 1], "task_name": "t"},
    "lists of pairs": {"query": [["I", "q one"]], "pos": [["I", "p one"]], "neg": [["I", "n one"]]},
    "lists of texts": {"query": "q one", "pos": ["p one"], "neg": ["n one"], "prompt": "I"},
    "beside their instructions": {
        "query": "q one",
        "query_instruct": "I",
        "pos": ["I", "p one"],
        "pos_instruct": "I",
        "neg": "n one",
    },
    "anchor and so on": {"anchor": "q one", "positive": "p one", "negative_1": "n one"},
    "passages": {
        "query": "q one",
        "positive_passages": [{"docid": "1", "title": "p", "text": "one"}],
        "negative_passages": [{"text": "n one"}],
    },
    "documents with labels": {"anchor": "q one", "documents": ["p one", "n one"], "labels": [1, 0]},
    "a list": ["q one", "p one", "n one"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_record_is_read(tmp_path: Path, form: str) -> None:
    source = lines(tmp_path / "records.jsonl", [FORMS[form], FORMS[form]])
    [block] = records.open_records(source).blocks
    told = [
        (int(row), records.SIDES[side], text)
        for row, side, text in zip(block.rows, block.sides, block.texts.to_pylist(), strict=True)
    ]
    assert told == [(n, side, f"{side[0]} one") for n in (0, 1) for side in records.SIDES]


def test_a_built_folder_and_its_json_are_the_same_records(tmp_path: Path) -> None:
    folder = built(tmp_path / "built", 12)
    blocks = list(records.open_records(folder).blocks)
    others = list(records.open_records(folder / "medi-data.json").blocks)

    def flat(some: list[records.Block]) -> list[tuple[str, str]]:
        return sorted(
            (records.SIDES[s], t) for one in some for s, t in zip(one.sides, one.texts.to_pylist(), strict=True)
        )

    assert records.open_records(folder).total == 12 == sum(len(one.datasets) for one in blocks)
    assert flat(blocks) == flat(others) and len(flat(blocks)) >= 36
    assert {name for one in blocks for name in one.datasets} == {"toy/0", "toy/1"}


def test_further_negatives_of_a_build_are_negatives(tmp_path: Path) -> None:
    batch = pa.record_batch(
        {
            "query": [["I", "q"], ["I", "r"]], "pos": [["I", "p"]] * 2, "neg": [["I", "n"]] * 2,
            "task_name": ["t", "t"], "hard_negatives": [["x", "y"], []],
        }
    )  # fmt: skip
    block = records.block_of(batch)
    assert block.texts.to_pylist() == ["q", "r", "p", "p", "n", "n", "x", "y"]
    assert block.rows.tolist() == [0, 1, 0, 1, 0, 1, 0, 0] and block.sides.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "shard.parquet")
    [read] = records.open_records(tmp_path / "shard.parquet").blocks
    assert read.texts.to_pylist() == block.texts.to_pylist()


# --- what is looked for


def entries(given: str) -> list[Entry]:
    return [entry for batch in against.batches(against.open_against([given]), []) for entry in batch.entries]


def test_files_of_texts_are_read_in_every_form(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "one text"}, {"text": "two"}]
    made = [
        lines(tmp_path / "e.jsonl", rows),
        tmp_path / "e.jsonl.gz",
        tmp_path / "e.csv",
        tmp_path / "e.parquet",
        tmp_path / "e.txt",
    ]
    made[1].write_bytes(gzip.compress(made[0].read_bytes()))
    made[2].write_text("text,other\none text,x\ntwo,y\n", encoding="utf-8")
    pq.write_table(pa.table({"text": ["one text", "two"]}), made[3])
    made[4].write_text("one text\n\n  two  \n", encoding="utf-8")
    for path in made:
        assert [entry.text for entry in entries(str(path))] == ["one text", "two"], path
    assert [entry.id for entry in entries(str(made[0]))] == ["a", "2"]
    assert [entry.id for entry in entries(str(made[4]))] == ["1", "3"]


def test_a_folder_of_an_evaluation_set_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", [{"_id": "d", "title": "Title", "text": "of it"}, {"_id": "e", "text": "else"}])
    lines(folder / "queries.jsonl", [{"_id": "q", "text": "asked"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    assert {(one.role, one.text) for one in entries(str(folder))} == {
        ("query", "asked"), ("document", "Title of it"), ("document", "else"),
    }  # fmt: skip


TASKS = {
    "pairs": {
        "test": Dataset.from_dict({"sentence1": ["a b"], "sentence2": ["c d"], "score": [1.0], "genre": ["news"]})
    },
    "clusters": {"test": Dataset.from_dict({"sentences": [["a b", "c d"]], "labels": [["x y", "z"]]})},
    "labels": {
        "test": Dataset.from_dict({"text": ["a b", "c d"], "label": [0, 1], "label_text": ["x y", "z"]}),
        "train": Dataset.from_dict({"text": ["no"], "label": [0], "label_text": ["x"]}),
    },
    "searches": {
        "default": {
            "test": {
                "corpus": Dataset.from_dict({"id": ["1"], "title": ["a"], "text": ["b"]}),
                "queries": Dataset.from_dict({"id": ["q"], "text": ["c d"]}),
                "relevant_docs": {"q": {"1": 1}},
                "top_ranked": None,
            }
        }
    },
    "languages": {
        "en": {"test": Dataset.from_dict({"text": ["a b"], "lang": ["en"]})},
        "de": {"test": Dataset.from_dict({"text": ["c d"], "lang": ["de"]})},
    },
    "of an older shape": {"corpus": {"test": {"1": {"title": "a", "text": "b"}}}, "queries": {"test": {"q": "c d"}}},
}


@pytest.mark.parametrize("shape", TASKS)
def test_all_texts_of_a_task_are_taken_and_nothing_else(shape: str) -> None:
    subsets = ["en", "de"] if shape == "languages" else ["default"]
    found = [entry.text for entry in against.task_entries(TASKS[shape], ["test"], subsets)]
    assert sorted(found) == ["a b", "c d"]


def test_a_task_of_mteb_that_is_mistyped_gets_a_suggestion() -> None:
    pytest.importorskip("mteb")
    with pytest.raises(EvaluationError, match=r"STSBenchmrk.* did you mean .*STSBenchmark"):
        against.open_against(["mteb:STSBenchmrk"])
    with pytest.raises(EvaluationError, match="did you mean 'mteb:NFCorpus'"):
        against.open_against(["mteb:nfcorpus"])
    assert [one.name for one in against.open_against(["mteb:STSBenchmark"])] == ["STSBenchmark"]


# --- bad input


def test_what_is_wrong_is_told_before_or_with_its_place(tmp_path: Path) -> None:
    source = lines(tmp_path / "records.jsonl", [record("a", "b", "c")])
    good = lines(tmp_path / "e.jsonl", [{"text": "x"}])
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "marks.txt").write_text("...\n---\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "x"}\n{"text": ')
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    number = lines(tmp_path / "n.jsonl", [{"query": 3, "pos": "x"}])
    keys = lines(tmp_path / "keys.jsonl", [{"sentence": "x"}])
    wrong: list[tuple[type[MediError], str, Path, list[str]]] = [
        (EvaluationError, r"nowhere: no such file or folder", tmp_path / "nowhere", [str(good)]),
        (DatasetError, r"manifest.json: not there", tmp_path / "folder", [str(good)]),
        (EvaluationError, r"gone.txt: no such file or folder; give mteb:TASK", source, [str(tmp_path / "gone.txt")]),
        (EvaluationError, r"folder: holds nothing", source, [str(tmp_path / "folder")]),
        (EvaluationError, r"empty.txt: holds no text", source, [str(tmp_path / "empty.txt")]),
        (EvaluationError, r"marks.txt: holds no text", source, [str(tmp_path / "marks.txt")]),
        (InputError, r"keys.jsonl: row 1 has the keys sentence; .* string `text`", source, [str(keys)]),
        (InputError, r"broken.jsonl:2: invalid_json", source, [str(tmp_path / "broken.jsonl")]),
        (InputError, r"latin.txt:1: is not UTF-8", source, [str(tmp_path / "latin.txt")]),
        (EvaluationError, r"two sets are named 'e.jsonl'", source, [str(good), str(good)]),
        (EvaluationError, r"nothing to check against", source, []),
        (InputError, r"empty.jsonl: holds no records", lines(tmp_path / "empty.jsonl", []), [str(good)]),
        (InputError, r"row 1: has the keys text; a record has query, pos", good, [str(good)]),
        (InputError, r"row 1: query is 3; a record", number, [str(good)]),
        (InputError, r"row 1: is 'x'; a record", lines(tmp_path / "s.jsonl", ["x"]), [str(good)]),
        (InputError, r"broken.jsonl:2: invalid_json", tmp_path / "broken.jsonl", [str(good)]),
    ]
    (tmp_path / "broken.jsonl").write_text('{"text": "x", "query": "q", "pos": "p"}\n{"text": ')
    for kind, message, path, given in wrong:
        with pytest.raises(kind, match=message):
            contamination(path, given)


def test_a_folder_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    folder = built(tmp_path / "built", 6)
    next((folder / "data").glob("*.parquet")).unlink()
    good = lines(tmp_path / "e.jsonl", [{"text": "x"}])
    with pytest.raises(DatasetError, match="is missing, the manifest says"):
        contamination(folder, [str(good)])


def test_an_error_in_the_middle_leaves_no_thread_waiting(tmp_path: Path) -> None:
    write_index([SetBatch(0, [Entry("t", "0", "x y")])], tmp_path)

    def blocks() -> Any:
        yield records.Block(["a"], pa.array(["x y"], pa.large_string()), *(np.zeros(1, np.int64),) * 2)
        raise InputError("broken in the middle")

    with pytest.raises(InputError, match="in the middle"):
        scan.scan(open_index(tmp_path), blocks())

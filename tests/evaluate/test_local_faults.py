"""Evaluation folders with faults: each is told, or counted where the rest is sound."""

from pathlib import Path

import pytest

from medi_build.errors import EvaluationError, InputError
from medi_build.evaluate.local_data import RetrievalSet
from medi_build.evaluate.local_sets import read_local_set
from tests.evaluate.eval_folders import beir, classification, clustering, lines, sts, text

HEAD = "query-id\tcorpus-id\tscore\n"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such folder"):
        read_local_set(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="is a file; name the folder"):
        read_local_set(text(tmp_path / "test.csv", "a,b\n"))


@pytest.mark.parametrize("names", [[], ["notes.md"], ["test.csv"]])
def test_an_unknown_form_is_told_with_those_that_are_known(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        text(tmp_path / name, "colour,size\nred,3\n")
    with pytest.raises(EvaluationError, match=r"the forms are BEIR .*, STS .*, classification .*, clustering"):
        read_local_set(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_file_of_beir_is_missing(tmp_path: Path, name: str) -> None:
    (beir(tmp_path) / name).unlink()
    with pytest.raises(EvaluationError, match=f"lacks {name.replace('test', 'SPLIT')}"):
        read_local_set(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_of_beir_is_empty(tmp_path: Path, name: str, content: str) -> None:
    text(beir(tmp_path) / name, content)
    with pytest.raises(EvaluationError, match=r"has no usable row \(it is empty\)"):
        read_local_set(tmp_path)


def test_an_unknown_split_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no split 'tset'; did you mean 'test'"):
        read_local_set(beir(tmp_path), "tset")
    with pytest.raises(EvaluationError, match="no split 'dev'; there is test"):
        read_local_set(clustering(tmp_path / "clusters"), "dev")
    two = beir(tmp_path / "two", dict.fromkeys(("dev", "train"), f"{HEAD}q-garden\tgarden-0\t1\n"))
    with pytest.raises(EvaluationError, match="has no split 'test'; say with --split which of dev, train"):
        read_local_set(two)


def test_absent_documents_and_queries_are_counted(tmp_path: Path) -> None:
    table = f"{HEAD}q-garden\tgarden-0\t1\nq-garden\tgone\t2\nq-nobody\tgarden-0\t1\nq-kitchen\tkitchen-0\t0\n"
    found = read_local_set(beir(tmp_path, {"test": table}))
    assert isinstance(found, RetrievalSet)
    assert found.qrels == {"q-garden": {"garden-0": 1, "gone": 2}, "q-kitchen": {"kitchen-0": 0}}
    assert found.notes == {
        "qrels_absent_query": 1, "qrels_absent_document": 1, "query_without_relevant_document": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("q-garden\tgone\t1", "names none of the documents of this folder \\(such as 'gone'\\)"),
        ("q-gone\tgarden-0\t1", "names none of the queries of this folder \\(such as 'q-gone'\\)"),
        ("q-garden\tgarden-0\tnan", "score is 'nan', but has to be a finite number"),
        ("q-garden\tgarden-0\thigh", "score is 'high', but has to be a finite number"),
        ("q-garden\tgarden-0\t0.5", "score is '0.5', but has to be a whole number"),
        ("q-garden\t\t1", "names no query or no document"),
    ],
)
def test_faulty_judgements(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        read_local_set(beir(tmp_path, {"test": f"{HEAD}{row}\n"}))


def test_judgements_with_other_columns(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has the columns q, i, d, rel, but has to have query-id"):
        read_local_set(beir(tmp_path, {"test": "q\ti\td\trel\nq-garden\t0\tgarden-0\t1\n"}))
    with pytest.raises(EvaluationError, match=r"test\.tsv:1: score is 'rel'"):  # three may be a table without a header
        read_local_set(beir(tmp_path, {"test": "q\td\trel\nq-garden\tgarden-0\t1\n"}))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "no id"}, "`_id` is None"),
        ({"_id": "x", "body": "b"}, "has no `text`; its keys are _id, body"),
        ({"_id": "x", "text": ["b"]}, "has to be a text"),
    ],
)
def test_faulty_documents(tmp_path: Path, row: dict[str, object], said: str) -> None:
    lines(beir(tmp_path) / "corpus.jsonl", [{"_id": "garden-0", "text": "t"}, row])
    with pytest.raises(EvaluationError, match=r"corpus\.jsonl:2.*" + said):
        read_local_set(tmp_path)


def test_broken_and_repeated_documents_are_counted(tmp_path: Path) -> None:
    with (beir(tmp_path) / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "garden-0", "text": "another"}\n{"_id": "cut", "te\n{"_id": "bare", "text": ""}\n')
    found = read_local_set(tmp_path)
    assert isinstance(found, RetrievalSet)
    assert found.documents["garden-0"] == ("", "roses need pruning in spring")  # the first one
    assert found.notes == {"corpus.jsonl: repeated_id": 1, "corpus.jsonl: invalid_json": 1, "empty_text": 1}


@pytest.mark.parametrize("score", ["nan", "inf", "high", ""])
def test_scores_that_are_no_numbers(tmp_path: Path, score: str) -> None:
    with (sts(tmp_path) / "test.tsv").open("a") as file:
        file.write(f"one\tother\t{score}\n")
    with pytest.raises(EvaluationError, match=r"test\.tsv:6: the score is .* has to be a finite number"):
        read_local_set(tmp_path)


def test_scores_of_the_benchmarks_own_form(tmp_path: Path) -> None:
    text(tmp_path / "sts-test.csv", "m\tx\ty\t1\t5.0\ta\tb\nm\tx\ty\t2\tNaN\tc\td\n")
    with pytest.raises(EvaluationError, match=r"sts-test\.csv:2: the score is 'NaN'"):
        read_local_set(tmp_path)


def test_scores_that_are_all_the_same(tmp_path: Path) -> None:
    text(tmp_path / "test.csv", "sentence1,sentence2,score\na,b,1\nc,d,1\n")
    with pytest.raises(EvaluationError, match=r"all scores are 1.0; a correlation needs different ones"):
        read_local_set(tmp_path)


def test_a_label_file_of_another_length(tmp_path: Path) -> None:
    with (clustering(tmp_path) / "label_topics.txt").open("a") as file:
        file.write("garden\n")
    with pytest.raises(EvaluationError, match=r"has 13 lines, but title_topics.txt has 12"):
        read_local_set(tmp_path)
    (tmp_path / "title_topics.txt").unlink()
    with pytest.raises(EvaluationError, match=r"has 0 files title_\*.txt and 1 label_\*.txt"):
        read_local_set(tmp_path)


def test_clusters_that_are_one(tmp_path: Path) -> None:
    text(tmp_path / "texts.csv", "text,label\na,1\nb,1\n")
    with pytest.raises(EvaluationError, match="2 texts with less than two different labels"):
        read_local_set(tmp_path)


def test_lists_of_other_lengths(tmp_path: Path) -> None:
    lines(tmp_path / "test.jsonl", [{"sentences": ["a", "b"], "labels": ["x"]}])
    with pytest.raises(EvaluationError, match="have to be lists of the same length"):
        read_local_set(tmp_path)


def test_classification_without_one_side(tmp_path: Path) -> None:
    folder = classification(tmp_path)
    with pytest.raises(EvaluationError, match=r"needs a train file and another .* --split is train"):
        read_local_set(folder, "train")
    (folder / "test.csv").unlink()
    with pytest.raises(EvaluationError, match=r"needs a train file and another .* there is train\.csv"):
        read_local_set(folder)


def test_labels_that_cannot_be_learned(tmp_path: Path) -> None:
    text(classification(tmp_path) / "test.csv", "text,category\na,unheard\n")
    with pytest.raises(EvaluationError, match=r"1 of the 1 of test.csv are not among them"):
        read_local_set(tmp_path)
    text(tmp_path / "test.csv", "text,category\na,\n")
    with pytest.raises(EvaluationError, match=r"test\.csv:1: the label is 'None'"):
        read_local_set(tmp_path)


def test_files_that_may_be_meant_both(tmp_path: Path) -> None:
    text(sts(tmp_path) / "test.csv", "sentence1,sentence2,score\na,b,1\n")
    with pytest.raises(EvaluationError, match=r"test.csv and test.tsv both stand for the split 'test'"):
        read_local_set(tmp_path)
    for name in ("one.csv", "two.csv"):
        text(tmp_path / "unnamed" / name, "text,label\na,1\n")
    with pytest.raises(EvaluationError, match=r"holds one.csv, two.csv; name them train, dev and test"):
        read_local_set(tmp_path / "unnamed")


def test_a_broken_stream_is_told(tmp_path: Path) -> None:
    (beir(tmp_path) / "corpus.jsonl").unlink()
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(InputError, match="gzip stream ends or breaks"):
        read_local_set(tmp_path)

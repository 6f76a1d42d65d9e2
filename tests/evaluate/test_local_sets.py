"""Evaluation folders in each form: what is read is what stands in the files."""

import csv
import gzip
from pathlib import Path

import pytest

from medi_build.evaluate.local_data import ClassificationSet, ClusteringSet, RetrievalSet, StsSet
from medi_build.evaluate.local_sets import read_local_set
from tests.evaluate.eval_folders import PAIRS, TOPICS, all_forms, beir, classification, clustering, lines, sts, text


def test_beir(tmp_path: Path) -> None:
    found = read_local_set(beir(tmp_path / "search"))
    assert isinstance(found, RetrievalSet)
    assert (found.name, found.split, found.task_type, dict(found.notes)) == ("search", "test", "Retrieval", {})
    assert found.documents["garden-1"] == ("garden", "compost feeds the soil")
    assert found.qrels["q-harbour"] == {f"harbour-{n}": 1 + n % 2 for n in range(4)}
    texts = list(found.texts())
    assert ("query", "q-kitchen", "work in the kitchen") in texts
    assert ("document", "garden-1", "garden compost feeds the soil") in texts  # as mteb joins them
    assert ("document", "garden-0", "roses need pruning in spring") in texts
    assert len(texts) == 3 + 12


def test_beir_packed_and_qrels_without_header(tmp_path: Path) -> None:
    folder = beir(tmp_path, {"dev": "q-garden\tgarden-0\t1\n"})
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    found = read_local_set(folder)
    assert isinstance(found, RetrievalSet)
    assert found.split == "dev"  # the only one
    assert found.queries == {"q-garden": "work in the garden"}  # one without judgements is no query of the split
    assert len(found.documents) == 12


def test_a_split_is_chosen(tmp_path: Path) -> None:
    head = "query-id\tcorpus-id\tscore\n"
    folder = beir(tmp_path, {name: f"{head}q-{t}\t{t}-0\t1\n" for name, t in (("test", "garden"), ("dev", "kitchen"))})
    assert next(iter(read_local_set(folder).texts()))[1] == "q-garden"
    assert next(iter(read_local_set(folder, "dev").texts()))[1] == "q-kitchen"


def test_sts(tmp_path: Path) -> None:
    found = read_local_set(sts(tmp_path / "pairs"))
    assert isinstance(found, StsSet)
    assert list(zip(found.sentences1, found.sentences2, found.scores, strict=True)) == PAIRS  # quotation marks and all
    assert list(found.texts())[:2] == [("sentence1", "1", PAIRS[0][0]), ("sentence2", "1", PAIRS[0][1])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("SICK_test_annotated.txt", "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n7\ta\tb\t1.5\n9\tc\td\t2\n"),
        ("sts-test.csv", "news\tx\t2015\t1\t1.5\ta\tb\nnews\tx\t2015\t2\t2\tc\td\tmore\tof it\n"),
        ("test.csv", "Sentence1,Sentence2,Score\na,b,1.5\nc,d,2\n"),
        (
            "test.jsonl",
            '{"sentence1": "a", "sentence2": "b", "score": 1.5}\n{"sentence1": "c", "sentence2": "d", "score": 2}\n',
        ),
    ],
)
def test_sts_in_the_forms_that_are_passed_around(tmp_path: Path, name: str, content: str) -> None:
    text(tmp_path / name, content)
    text(tmp_path / "README.txt", "what this is\n")
    text(tmp_path / name.replace("test", "dev"), content.replace("1.5", "0"))
    found = read_local_set(tmp_path)
    assert isinstance(found, StsSet)
    assert (found.sentences1, found.sentences2, found.scores) == (("a", "c"), ("b", "d"), (1.5, 2.0))
    assert read_local_set(tmp_path, "validation").scores == (0.0, 2.0)  # type: ignore[union-attr]


def test_classification(tmp_path: Path) -> None:
    found = read_local_set(classification(tmp_path / "topics"))
    assert isinstance(found, ClassificationSet)
    assert len(found.train.texts) == 12
    assert found.test.labels == tuple(TOPICS)
    assert len(list(found.texts())) == 3  # what is learned from is not what is tested
    lines(tmp_path / "numbers" / "train.jsonl", [{"text": f"t{n}", "label": n % 2} for n in range(4)])
    lines(tmp_path / "numbers" / "dev.jsonl", [{"text": "t", "label": 1}, {"text": "u", "label": 7}])
    numbers = read_local_set(tmp_path / "numbers")
    assert isinstance(numbers, ClassificationSet)
    assert (numbers.split, numbers.test.labels) == ("dev", ("1", "7"))
    assert numbers.notes == {"label_not_in_train": 1}


def test_clustering(tmp_path: Path) -> None:
    found = read_local_set(clustering(tmp_path / "clusters"))
    assert isinstance(found, ClusteringSet)
    rows = [(sentence, topic) for topic, sentences in TOPICS.items() for sentence in sentences]
    assert list(zip(found.items.texts, found.items.labels, strict=True)) == rows
    table = text(tmp_path / "table" / "texts.csv", "text,label\n" + "".join(f"{a},{b}\n" for a, b in rows)).parent
    lists = lines(
        tmp_path / "lists" / "test.jsonl",
        [{"sentences": [a for a, _ in part], "labels": [b for _, b in part]} for part in (rows[:5], rows[5:])],
    ).parent
    for folder in (table, lists):
        other = read_local_set(folder)
        assert isinstance(other, ClusteringSet)
        assert (other.items.texts, other.items.labels) == (found.items.texts, found.items.labels)
        assert len(set(other.items.ids)) == len(rows)


def test_the_name_is_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = all_forms(tmp_path)
    (tmp_path / "link").symlink_to(folders[0])
    assert read_local_set(tmp_path / "link").name == "link"
    monkeypatch.chdir(folders[1])
    assert read_local_set(Path()).name == "pairs"


@pytest.mark.shared
def test_real_sets(shared_data: Path) -> None:
    """Sizes as counted by other means: lines, csv module, qrels by hand."""
    data = shared_data / "eval"
    search = read_local_set(data / "beir" / "nfcorpus")
    assert isinstance(search, RetrievalSet)
    assert (len(search.documents), len(search.queries), sum(map(len, search.qrels.values()))) == (3633, 323, 12334)
    assert search.notes == {}
    for name, split, count in (("stsbenchmark", None, 1379), ("stsbenchmark", "dev", 1500), ("sick2014", None, 4927)):
        pairs = read_local_set(data / name, split)
        assert isinstance(pairs, StsSet)
        assert (len(pairs.scores), dict(pairs.notes)) == (count, {})
        assert min(pairs.scores) >= 0
        assert max(pairs.scores) == 5
    topics = read_local_set(data / "classification" / "banking77")
    assert isinstance(topics, ClassificationSet)
    with (data / "classification" / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert list(zip(topics.train.texts, topics.train.labels, strict=True)) == [tuple(row) for row in rows]
    assert len(topics.test.texts) == 3080
    clusters = read_local_set(data / "clustering" / "stackoverflow_titles")
    assert isinstance(clusters, ClusteringSet)
    assert (len(clusters.items.texts), len(set(clusters.items.labels))) == (20000, 20)

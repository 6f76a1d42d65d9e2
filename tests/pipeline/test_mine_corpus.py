"""Further candidates out of a file of one's own: read in any form, counted, and named in the output."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger
from tests.mine.conftest import text_id
from tests.pipeline.own_files import THINGS, own, run


def test_a_corpus_adds_candidates(source, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": "D1", "title": "Tea", "text": "what is it"}, {"_id": "D2", "text": " "}]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    ledger = run(source, tmp_path / "out", corpus=corpus, formats=["tevatron"])
    first = json.loads((tmp_path / "out" / "tevatron.jsonl").read_text().splitlines()[0])
    assert first["negative_passages"] == [{"docid": "D1", "title": "Tea", "text": "what is it"}]
    assert ledger.notes["corpus_empty_text"] == 1


def corpus_of(folder, *lines, name="corpus.jsonl"):
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    ledger = Ledger("own/x")
    table = read_corpus(path, ledger)
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)), ledger


@pytest.mark.parametrize("key", ["_id", "id", "docid", "pid"])
def test_ids_and_texts_of_a_corpus_by_the_names_that_are_in_use(tmp_path, key):
    rows = [{key: "D1", "title": "T", "text": "a fox"}, {key: 7, "title": None, "contents": "a seal"}]
    assert corpus_of(tmp_path, *rows)[0] == [("D1", "T a fox"), ("7", "a seal")]
    assert corpus_of(tmp_path, json.dumps(rows))[0] == [("D1", "T a fox"), ("7", "a seal")]
    header = f"{key},title,text"
    assert corpus_of(tmp_path, header, "D1,T,a fox", "7,,a seal", name="c.csv")[0] == [
        ("D1", "T a fox"),
        ("7", "a seal"),
    ]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({key: [1, 2], "title": [None, None], "text": ["a fox", "a seal"]}), path)
    assert read_corpus(path, Ledger("own/x"))["id"].to_pylist() == ["1", "2"]


def test_a_corpus_may_be_a_list_of_texts_or_a_collection_without_a_header(tmp_path):
    found, _ = corpus_of(tmp_path, '["a fox", "a seal"]')
    assert [text for _, text in found] == ["a fox", "a seal"]
    assert len({key for key, _ in found}) == 2
    found, _ = corpus_of(tmp_path, '10\t"Fog" is a word', "11\ta seal", name="collection.tsv")
    assert found == [("10", '"Fog" is a word'), ("11", "a seal")]


def test_what_is_broken_in_a_corpus_is_noted_with_its_place(tmp_path):
    found, ledger = corpus_of(
        tmp_path, '{"_id": "d0", "text": "cut o', {"_id": "d1", "text": "a fox"}, {"body": 1}, "5", {"text": None}
    )
    assert found == [("d1", "a fox")]
    assert ledger.notes == {"corpus_invalid_json": 1, "corpus_unknown_form": 2, "corpus_wrong_type": 1}
    assert ledger.places["corpus/invalid_json"] == [f"{tmp_path / 'corpus.jsonl'}:1"]


def test_ids_that_are_null_or_repeated_and_titles_that_are_no_text_are_noted(tmp_path):
    found, ledger = corpus_of(
        tmp_path,
        '{"id": NaN, "title": NaN, "text": "a fox"}',
        {"id": None, "title": ["a", "list"], "text": "a seal"},
        {"id": "x", "title": 5, "text": "a gull"},
        {"id": "x", "title": "", "text": "an owl"},
        {"id": 3.0, "title": " ", "text": "an eel"},
    )
    assert [text for _, text in found] == ["a fox", "a seal", "a gull", "an owl", "an eel"]
    assert [key for key, _ in found[2:]] == ["x", "x", "3"]
    assert not {"None", "nan"} & {key for key, _ in found}
    assert ledger.notes == {"corpus_null_id": 2, "corpus_repeated_id": 1, "corpus_title_ignored": 2}


def test_ids_of_a_corpus_reach_the_output(things, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "\n".join(json.dumps({"docid": f"M{i}", "text": f"what about {t}"}) for i, t in enumerate(THINGS))
    )
    own(things, tmp_path / "out", MiningRule(num_negatives=4), ["tevatron"], corpus=corpus)
    lines = [json.loads(line) for line in (tmp_path / "out" / "tevatron.jsonl").read_text().splitlines()]
    corpus_ids = {f"what about {thing}": f"M{i}" for i, thing in enumerate(THINGS)}
    passages = [p for line in lines for side in ("positive", "negative") for p in line[f"{side}_passages"]]
    assert sum(p["text"] in corpus_ids for p in passages) > len(lines)  # more than the first of each row
    assert all(p["docid"] == corpus_ids.get(p["text"], text_id(p["text"])) for p in passages)


def test_titles_of_a_corpus_stand_apart_in_tevatron_and_in_front_elsewhere(things, tmp_path, monkeypatch):
    monkeypatch.setattr("medi_build.ingest.corpus.ROWS_PER_BATCH", 4)
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"M{i}", "title": f"On {t}", "text": f"where the {t} is"} for i, t in enumerate(THINGS)]
    rows.append({"_id": "M6", "title": "The tea", "text": "stands there"})  # together a positive of the pairs
    corpus.write_text("\n".join(map(json.dumps, rows)))
    things.write_text(things.read_text().replace('"the tea stands', '"The tea stands'))
    own(things, tmp_path / "out", MiningRule(num_negatives=5), ["tevatron", "flagembedding"], corpus=corpus)
    tevatron, flag = (
        [json.loads(line) for line in (tmp_path / "out" / f"{form}.jsonl").read_text().splitlines()]
        for form in ("tevatron", "flagembedding")
    )
    assert tevatron[0]["positive_passages"] == [{"docid": "M6", "title": "The tea", "text": "stands there"}]
    known = {row["_id"]: (row["title"], row["text"]) for row in rows}
    seen = set()
    for ours, theirs in zip(tevatron, flag, strict=True):
        passages = [*ours["positive_passages"], *ours["negative_passages"]]
        joined = [f"{p['title']} {p['text']}".strip() for p in passages]
        assert joined == [*theirs["pos"], *theirs["neg"]]
        for p in passages:
            assert known.get(p["docid"], ("", p["text"])) == (p["title"], p["text"])
        seen |= {p["docid"] for p in passages} & set(known)
    assert len(seen) > 4

"""The sample data that ships with the package: regular, varied, and exactly what its cards say."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from medi_build.content.cards import Card
from medi_build.ingest.adapt import ADAPTERS
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "sources" / "sample_data"
CARDS = [
    Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "sources" / "sample").glob("*.yaml"))
]
IDS = [card.name for card in CARDS]

# What the README of the sample data promises. A class of one is found when mining, not here.
DROPPED = {
    "super_ni/task9001_sample_note_mood": {"empty_text": 1},
    "super_ni/task9005_sample_report_tagging": {"duplicate_input": 1},
    "super_ni/task9008_sample_polite_rewriting": {"no_output": 1},
    "kilt/sample_nq": {"duplicate_id": 1},
    "kilt/sample_fever": {"no_provenance": 1},
    "medmcqa/sample_explanation": {"no_explanation": 103},
    "embedding_training_data/sample_paraphrases": {"positive_equals_query": 1},
    "embedding_training_data/sample_captions": {"set_too_small": 1},
    "embedding_training_data/sample_faq": {"invalid_json": 1},
    "embedding_training_data/sample_scored": {"used_as_negative": 39, "score_in_between": 10},
}
# Texts that repeat on purpose: (dataset, how often beyond the first).
REPEATED = {
    "super_ni/task9005_sample_report_tagging": 1,
    "kilt/sample_nq": 1,
    "embedding_training_data/sample_scored": 49,
}


def _files(folder: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"
    }


def _write_again(out: Path) -> dict[str, Path]:
    subprocess.run([sys.executable, ROOT / "tools" / "make_sample_data.py", "--out", out], check=True)
    return _files(out)


def _content(path: Path) -> Any:
    """What a file says, apart from how a version of zlib or pyarrow packs it."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    return pq.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_bytes()


@cache
def _adapted(name: str, scratch: Path) -> tuple[Ledger, list[dict[str, Any]]]:
    card = CARDS[IDS.index(name)]
    folder, ledger = DATA / card.source, Ledger(card.name)
    inputs = Inputs(
        tuple(folder / name for name in card.files["train"]),
        {role: tuple(folder / name for name in names) for role, names in card.extra_files.items()},
        scratch,
    )
    adapted = ADAPTERS[card.options.adapter](card, inputs, ledger)
    return ledger, [row for batch in adapted.examples for row in batch.to_pylist()]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_every_run_writes_the_files_that_are_here(tmp_path: Path) -> None:
    first, second, here = _write_again(tmp_path / "a"), _write_again(tmp_path / "b"), _files(DATA)
    assert sorted(first) == sorted(second) == sorted(here)
    assert [name for name in first if first[name].read_bytes() != second[name].read_bytes()] == []
    assert [name for name in first if _content(first[name]) != _content(here[name])] == []


def test_there_is_enough_of_it_and_not_too_much() -> None:
    rows = {card.files["train"]: int(card.expected_rows["train"]) for card in CARDS}  # two cards read MedMCQA's file
    assert len(CARDS) >= 14
    assert sum(rows.values()) >= 1700
    assert sum(path.stat().st_size for path in _files(DATA).values()) < 1_500_000
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"{len(CARDS)} datasets, {sum(rows.values()):,} raw rows and 63 pages" in readme


@pytest.mark.parametrize("card", CARDS, ids=IDS)
def test_rows_and_losses_are_those_the_card_states(card: Card, scratch: Path) -> None:
    ledger, examples = _adapted(card.name, scratch)
    assert ledger.read == card.expected_rows["train"]
    assert ledger.adapted == len(examples)
    assert ledger.to_dict()["dropped"].get("adapt", {}) == dict(sorted(DROPPED.get(card.name, {}).items()))
    assert ledger.dropped_in("adapt") <= card.max_loss * ledger.read
    assert card.collections == ("sample",)
    assert (card.licence.spdx, card.licence.commercial_use) == ("Apache-2.0", "allowed")


@pytest.mark.parametrize("card", CARDS, ids=IDS)
def test_texts_do_not_repeat_and_no_opening_dominates(card: Card, scratch: Path) -> None:
    _, examples = _adapted(card.name, scratch)
    queries = [example["query"] for example in examples]
    assert len(queries) - len(set(queries)) <= REPEATED.get(card.name, 0)
    for texts in (queries, [text for example in examples for text in example["positives"]]):
        openings = Counter(tuple(text.lower().split()[:5]) for text in texts)
        common = openings.most_common(1)
        assert not common or common[0][1] <= 0.15 * len(texts), common


def _kilt_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / "kilt" / name).read_text(encoding="utf-8").splitlines()]


def _cut(pages: dict[str, dict[str, Any]], provenance: dict[str, Any]) -> str:
    assert provenance["start_paragraph_id"] == provenance["end_paragraph_id"]
    paragraph = pages[provenance["wikipedia_id"]]["text"][provenance["start_paragraph_id"]]
    return str(paragraph[provenance["start_character"] : provenance["end_character"]])


def test_provenance_cuts_whole_sentences_or_the_answer() -> None:
    pages = {page["wikipedia_id"]: page for page in _kilt_lines("kilt_knowledgesource.json")}
    spans = 0
    for name in ("nq", "fever", "wow"):
        for row in _kilt_lines(f"sample_{name}-train-kilt.jsonl"):
            answers = [item["answer"] for item in row["output"] if "answer" in item]
            for provenance in (p for item in row["output"] for p in item.get("provenance", [])):
                spans += 1
                text = _cut(pages, provenance)
                page = pages[provenance["wikipedia_id"]]
                assert provenance["title"] == page["wikipedia_title"] == page["text"][0].strip()
                sentence = text[0].isupper() and text.endswith(".") and text == text.strip()
                assert text in answers or sentence, (row["id"], text)
                if name == "nq" and row["input"] != "name a wild plant of the isles that gives colour":
                    assert any(answer in text for answer in answers), (row["id"], text)
    assert spans > 300


def test_pages_have_the_parts_of_real_ones() -> None:
    pages = _kilt_lines("kilt_knowledgesource.json")
    text = [paragraph for page in pages for paragraph in page["text"]]
    assert all(paragraph.endswith("\n") for paragraph in text)
    assert any(paragraph.startswith("Section::::") for paragraph in text)
    assert any(paragraph.startswith("BULLET::::") for paragraph in text)
    anchors = [(page, anchor) for page in pages for anchor in page["anchors"]]
    assert anchors
    for page, anchor in anchors:
        assert page["text"][anchor["paragraph_id"]][anchor["start"] : anchor["end"]] == anchor["text"]
    assert not (DATA / "kilt" / "sample_nq-train-kilt.jsonl").read_bytes().endswith(b"\n")


def test_task_files_have_the_fourteen_keys() -> None:
    for path in (DATA / "super_ni" / "tasks").glob("*.json"):
        task = json.loads(path.read_text(encoding="utf-8"))
        assert len(task) == 14
        assert all(isinstance(value, list) for value in task.values())
        assert all(isinstance(instance["output"], list) for instance in task["Instances"])


def test_the_right_option_of_a_question_is_among_four_different_ones() -> None:
    lines = (DATA / "medmcqa" / "sample_train.json").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        assert len({row[option].lower() for option in ("opa", "opb", "opc", "opd")}) == 4
        assert row["cop"] in (1, 2, 3, 4)
        assert row["choice_type"] in ("single", "multi")

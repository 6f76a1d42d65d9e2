"""Every card, template and pipeline that we ship, file by file."""

import fnmatch
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from medi_build.content.cards import Card, MedMcqaOptions
from medi_build.content.instructions import Template, render
from medi_build.content.load import load_content
from medi_build.content.pipelines import Pipeline
from tools import instructions_page
from tools.datasets_table import page

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(p for p in (ROOT / "sources").glob("*/*.yaml") if p.parent.name != "sample_data")
TEMPLATES = sorted(set((ROOT / "templates").glob("*.yaml")) - {ROOT / "templates" / "evaluation.yaml"})
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))

PUBLISHED = {
    "kilt/nq": ("Wikipedia question for retrieving relevant documents", "Wikipedia document for retrieval"),
    "kilt/wow": ("Wikipedia sentence for retrieving relevant documents", "Wikipedia document for retrieval"),
    "medmcqa": ("Biomedical sentence for retrieving relevant documents", "Biomedical document for retrieval"),
    "embedding_training_data/AllNLI": ("sentence for retrieving duplicate sentences",) * 2,
    "embedding_training_data/coco_captions": ("image caption for retrieving duplicate captions",) * 2,
    "embedding_training_data/flickr30k_captions": ("sentence",) * 2,
    "embedding_training_data/amazon_review_2018": (
        "Amazon title for retrieving relevant reviews",
        "Amazon review for retrieval",
    ),
    "embedding_training_data/PAQ_pairs": ("question for retrieving relevant documents", "document for retrieval"),
    "embedding_training_data/wikihow": ("query for retrieving relevant documents", "document for retrieval"),
    "embedding_training_data/searchQA_top5_snippets": (
        "sentence for retrieving relevant documents",
        "document for retrieval",
    ),
    "embedding_training_data/S2ORC_title_abstract": (
        "Science sentence for retrieving relevant documents",
        "Science document for retrieval",
    ),
    **{
        f"embedding_training_data/{name}": (
            "News sentence for retrieving relevant documents",
            "News document for retrieval",
        )
        for name in ("agnews", "ccnews_title_text", "cnn_dailymail", "npr", "xsum")
    },
    "embedding_training_data/amazon-qa": (
        "Amazon question for retrieving relevant documents",
        "Amazon document for retrieval",
    ),
    "embedding_training_data/SimpleWiki": ("Wikipedia sentence for retrieval",) * 2,
    "embedding_training_data/altlex": ("Wikipedia sentence for retrieval",) * 2,
    "embedding_training_data/sentence-compression": ("News sentence for retrieval",) * 2,
    "embedding_training_data/gooaq_pairs": ("question", "answer"),
    "embedding_training_data/squad_pairs": ("question", "answer"),
    "embedding_training_data/WikiAnswers": ("Wikipedia question", "Wikipedia answer"),
    "embedding_training_data/yahoo_answers_title_answer": ("Yahoo question", "Yahoo answer"),
    "embedding_training_data/eli5_question_answer": ("Reddit question", "Reddit answer"),
    "embedding_training_data/codesearchnet": ("comment for retrieving relevant codes", "code for retrieval"),
}
"""Dataset -> what follows "Represent the " on either side, in the released MEDI rows or in MEDI2's configuration."""

WITH_PAIRS = {
    *(f"kilt/{name}" for name in ("nq", "hotpotqa", "triviaqa", "fever", "trex", "zsre", "wow")),
    "medmcqa/explanation",
    "pubmedqa",
    *(
        f"embedding_training_data/{name}"
        for name in [
            "msmarco-triplets",
            "squad_pairs",
            "gooaq_pairs",
            "eli5_question_answer",
            "PAQ_pairs",
            "WikiAnswers",
            "amazon-qa",
            "amazon_review_2018",
            "agnews",
            "ccnews_title_text",
            "npr",
            "xsum",
            "wikihow",
            "SimpleWiki",
            "codesearchnet",
            "S2ORC_title_abstract",
            "specter_train_triples",
            "AllNLI",
            "flickr30k_captions",
            "coco_captions",
            "stackexchange_duplicate_questions_title_title",
            "yahoo_answers_title_answer",
        ]
    ),
}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def _card(path: Path) -> Card:
    return Card.model_validate(_yaml(path))


@cache
def _template(name: str) -> Template:
    return Template.model_validate(_yaml(ROOT / "templates" / f"{name}.yaml"))


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CARDS, ids=_relative)
def test_card(path: Path) -> None:
    card = _card(path)
    assert path.stem == card.name.rsplit("/", 1)[-1]
    assert path.parent.name in (card.source, "devdata", "sample")
    found = {"text_type": "text"} if card.options.adapter == "super_ni" else {}  # which the task file tells
    assert len(render(_template(card.instruction.template), card.instruction.fields, found, ";")) >= 1
    assert set(card.expected_rows) == set(card.files)
    assert card.citation.strip() and card.description.strip()


@pytest.mark.parametrize("path", CARDS, ids=_relative)
def test_card_claims_only_what_is_confirmed(path: Path) -> None:
    card = _card(path)
    if card.licence.commercial_use == "allowed":
        assert card.licence.spdx != "unconfirmed"
    if card.download is not None:
        assert re.fullmatch("unconfirmed|[0-9a-f]{40}", card.download.revision)
        assert sum(map(bool, (card.download.hub, card.download.url, card.download.archive))) == 1
        patterns = [pattern for files in (*card.files.values(), *card.extra_files.values()) for pattern in files]
        for file in (*card.download.sha256, *card.download.paths, *card.download.size):
            assert any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns), file
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in card.download.sha256.values())


@pytest.mark.parametrize("path", TEMPLATES, ids=_relative)
def test_template(path: Path) -> None:
    template = _template(path.stem)
    assert template.name == path.stem
    assert 3 <= len(template.phrasings) <= 4
    rendered = render(template, dict.fromkeys(template.fields, "text"), {}, "")
    assert len(set(rendered)) == len(rendered)
    for side in (side for instructions in rendered for side in instructions):
        assert side[-1].isalnum(), f"{side!r} ends with punctuation; the separator is appended"


@pytest.mark.parametrize("path", TEMPLATES, ids=_relative)
def test_every_field_of_a_template_is_used(path: Path) -> None:
    template = _template(path.stem)
    phrasings = [*template.phrasings, *filter(None, [template.definition])]
    sources = " ".join(f"{phrasing.query} {phrasing.document or ''}" for phrasing in phrasings)
    assert set(template.fields) <= set(re.findall(r"\w+", sources))


@pytest.mark.parametrize("path", PIPELINES, ids=_relative)
def test_pipeline(path: Path) -> None:
    assert Pipeline.model_validate(_yaml(path)).name == path.stem


def test_pipelines_that_ship() -> None:
    assert {"quickstart", "devdata", "medi", "medi-large", "medi-instructor"} <= {path.stem for path in PIPELINES}


@pytest.mark.parametrize("path", [*CARDS, *TEMPLATES, *PIPELINES], ids=_relative)
def test_nothing_is_left_to_fill_in(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))


def test_names_are_unique() -> None:
    names = [_card(path).name for path in CARDS]
    assert len(set(names)) == len(names)


def test_no_two_cards_take_one_file() -> None:
    claims: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for path in CARDS:
        card = _card(path)
        # The two MedMCQA cards make different records of the same rows.
        record = card.options.record if isinstance(card.options, MedMcqaOptions) else ""
        for split, patterns in card.files.items():
            claims[card.source, split, record] += [(pattern, card.name) for pattern in patterns]
    for claimants in claims.values():
        for pattern, name in claimants:
            takers = {other for file, other in claimants if fnmatch.fnmatchcase(file, pattern)}
            assert takers == {name}, f"{pattern} is taken by {sorted(takers)}"


def test_the_papers_datasets_with_pairs() -> None:
    members = {_card(path).name for path in CARDS if "medi" in _card(path).collections}
    assert members == WITH_PAIRS
    assert all(_card(path).published for path in CARDS if _card(path).name in members)


def test_medi_is_of_the_published_size() -> None:
    medi = [card for card in load_content().cards.values() if "medi" in card.collections]
    rows = [min(int(raw) if raw != "unconfirmed" else card.cap, card.published.rows) for card in medi
            if (raw := card.expected_rows["train"]) and card.published]  # fmt: skip
    assert len(rows) == len(medi)
    assert abs(sum(rows) - 1_435_000) < 0.1 * 1_435_000


def test_docs_tell_what_the_cards_say() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert page(text) == text, "run: python tools/datasets_table.py"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_instruction(name: str) -> None:
    card = next(_card(path) for path in CARDS if _card(path).name == name)
    first = render(_template(card.instruction.template), card.instruction.fields, {}, ";")[0]
    assert (first.query, first.document) == tuple(f"Represent the {side};" for side in PUBLISHED[name])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text_type": "tweet"}, "Represent the tweet"),
        ({"text_type": "tweet", "objective": "classifying emotion"}, "Represent the tweet for classifying emotion"),
        ({"text_type": "review", "domain": "Amazon"}, "Represent the Amazon review"),
    ],
)
def test_super_ni_grammar(fields: dict[str, str], expected: str) -> None:
    instructions = render(_template("super_ni"), {}, fields, ":")[0]
    assert instructions == (expected + ":", expected + ":")


@pytest.mark.shared
def test_every_development_pair_file_has_one_card(shared_data: Path) -> None:
    folder = shared_data / "embedding_training_data"
    claims: dict[Path, list[str]] = {path: [] for path in folder.rglob("*") if path.is_file()}
    for path in CARDS:
        card = _card(path)
        if card.source == "embedding_training_data":
            for pattern in card.files.get("dev", ()):
                for file in folder.glob(pattern):
                    claims[file].append(card.name)
    assert {file.name: names for file, names in claims.items() if len(names) != 1} == {}


def test_the_page_of_instructions_tells_what_the_content_says() -> None:
    text = (ROOT / "docs" / "instructions.md").read_text(encoding="utf-8")
    assert instructions_page.page(text) == text, "run: python tools/instructions_page.py"
    last = [verdict for _, verdict, _ in instructions_page.readings().values()]
    assert last.count("good") == 298 and len(last) == 300

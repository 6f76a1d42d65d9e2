"""Golden records: one small fixture per adapter and form, through adapt, mine, render and assemble.

A stand-in for the encoder that is a pure function of the text keeps the file free of any model, library version or
processor. After a change that is meant to change records, make the file anew and read the difference:

    python tests/test_golden.py
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xxhash

from medi_build.content.cards import Card, InstructionSpec, PairsOptions, SuperNiOptions
from medi_build.content.instructions import render
from medi_build.content.load import Content, load_content
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.assemble import assemble
from medi_build.embedding import Embedded, Side
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = Path(__file__).parent / "golden" / "records.jsonl"
SEED = 42
DIMENSIONS = 512
PAIRS: dict[str, dict[str, Any]] = {
    "ferry_pairs.jsonl": {},
    "lighthouse_triplets.jsonl": {},
    "harbour_sets.jsonl": {"symmetric": True},
    "baker_query_pos_neg.jsonl": {},
    "kitchen_flag.jsonl": {},
    "garden_instruct.jsonl": {},
    "market_labelled.jsonl": {
        "query": "premise",
        "positive": "hypothesis",
        "label": "label",
        "positive_labels": ["entailment"],
        "negative_labels": ["contradiction"],
    },
    "weather_scored.jsonl": {
        "query": "sentence1",
        "positive": "sentence2",
        "score": "score",
        "positive_min": 4.0,
        "negative_max": 1.0,
    },
}
"""Every form of the pair files, with the options of its card."""
SHOWN = ("task_name", "id", "query", "pos_id", "pos", "neg_id", "neg", "hard_negatives",
         "possible_false_negative_ids", "miner", "labels", "groups")  # fmt: skip


def trigrams(texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
    """Each text as its character trigrams, hashed to counts and normalised: whole numbers, so the same everywhere."""
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()} "
        for start in range(len(padded) - 2):
            vectors[row, xxhash.xxh64_intdigest(padded[start : start + 3].encode()) % DIMENSIONS] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(vectors.astype(np.float16), 0)


class Case(NamedTuple):
    """A dataset of fixtures: a card of ours, changed where it has to be, and its files."""

    card: Card
    rows: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]
    rule: MiningRule


def cases(content: Content) -> Iterator[Case]:
    paper = MiningRule(preset="paper", num_negatives=2)
    task = content.cards["super_ni/task9001_sample_note_mood"]
    for name in ("task9001_ferry_mood_classification", "task9002_lantern_story_titles"):
        yield Case(task.model_copy(update={"name": f"super_ni/{name}"}), (f"super_ni/{name}.json",), {}, paper)
    choices = task.model_copy(
        update={
            "name": "super_ni/task9004_harbour_choices",
            "options": SuperNiOptions(adapter="super_ni", outputs="option"),
        }
    )
    yield Case(choices, ("super_ni/task9004_harbour_choices.json",), {}, paper)
    pages = ("kilt/pages.jsonl",)
    for task_name, file in (
        ("nq", "nq-dev-kilt.jsonl"),
        ("fever", "fever-dev-kilt.jsonl"),
        ("wow", "wow-dev-kilt.jsonl"),
    ):
        yield Case(content.cards[f"kilt/{task_name}"], (f"kilt/{file}",), {"pages": pages}, paper)
    for name in ("medmcqa", "medmcqa/explanation"):
        yield Case(content.cards[name], ("medmcqa/dev.json",), {}, paper)
    for file, options in PAIRS.items():
        card = content.cards["embedding_training_data/sample_search"].model_copy(
            update={
                "name": f"fixtures/{Path(file).stem}",
                "options": PairsOptions.model_validate({"adapter": "pairs", **options}),
                "instruction": InstructionSpec(template="retrieval", fields={"query_type": "text"}),
            }
        )
        yield Case(card, (f"pairs/{file}",), {}, paper)


def records(case: Case, content: Content, folder: Path) -> list[dict[str, Any]]:
    """The records of one case, as they would stand in the shards, less the scores."""
    inputs = Inputs(
        rows=tuple(FIXTURES / name for name in case.rows),
        extra={role: tuple(FIXTURES / name for name in names) for role, names in case.extra.items()},
        cache=folder / "indexes",
    )
    card = case.card
    adapted = adapt(AdaptJob(card, inputs, 0, SEED, folder))
    ledger = Ledger.from_dict(adapted.ledger)
    mined = mine(
        adapted.examples(),
        adapted.documents(),
        kind=adapted.kind,
        encoders=Encoders(trigrams),
        run=Run(case.rule, SEED, ledger),
        symmetric=card.options.adapter == "pairs" and card.options.symmetric,
    )
    template = content.templates[card.instruction.template]
    phrasings = render(template, card.instruction.fields, adapted.fields, ";")[:1]
    tables = assemble(adapted.examples(), mined.tables(), phrasings, SEED, 1, card.name)
    rows = list(chain.from_iterable(table.to_pylist() for table in tables))
    ledger.written = len(rows)
    ledger.check()
    return [{name: row[name] for name in SHOWN} for row in rows]


def all_records() -> list[dict[str, Any]]:
    content = load_content()
    with tempfile.TemporaryDirectory() as folder:
        return list(chain.from_iterable(records(case, content, Path(folder)) for case in cases(content)))


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return all_records()


def test_records_are_those_of_the_golden_file(made: list[dict[str, Any]]) -> None:
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in made] == [row["id"] for row in golden]
    for row, expected in zip(made, golden, strict=True):
        assert row == expected


def test_every_fixture_gives_records_that_keep_the_rules(made: list[dict[str, Any]]) -> None:
    assert {row["task_name"] for row in made} == {case.card.name for case in cases(load_content())}
    for row in made:
        query, pos, neg = (row[side][1] for side in ("query", "pos", "neg"))
        assert len({query, pos, neg, *row["hard_negatives"]}) == 3 + len(row["hard_negatives"])
        assert all(row[side][0].startswith("Represent ") for side in ("query", "pos", "neg"))


if __name__ == "__main__":
    lines = (json.dumps(row, ensure_ascii=False) for row in all_records())
    GOLDEN.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

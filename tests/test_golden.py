"""Golden records: one small fixture per adapter and form, through adapt, mine, render and assemble.

A stand-in for the encoder that is a pure function of the text keeps the file free of any model, library version or
processor. After a change that is meant to change records, raise the version of the stage that makes them
(`STAGE_VERSIONS` in medi_build/pipeline/fingerprint.py), make the file anew and read the difference:

    python -m tests.test_golden

It refuses to where records have changed and no version was raised (`golden_stamp.py`).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from medi_build.files import plain_digest
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run
from medi_build.pipeline.fingerprint import STAGE_VERSIONS, file_digests
from tests.golden_stamp import RAISE, REWRITE, Stamp, stamped, unannounced

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = Path(__file__).parent / "golden"
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
FILTERED = MiningRule(
    num_negatives=3,
    relative_margin=0.05,
    max_false_negative_probability=0.4,
    min_score_quantile=0.5,
    near_duplicate=0.9,
    relax=True,
)
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
    """A dataset of fixtures: a card of ours, changed where it has to be, and its files.

    Attributes:
        card: what the dataset is.
        rows: its files.
        extra: files by role.
        rule: of mining.
        cap: most examples kept; 0 keeps all.
        phrasings: how many of the template's phrasings the records choose among.
    """

    card: Card
    rows: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]
    rule: MiningRule
    cap: int = 0
    phrasings: int = 1

    def inputs(self, folder: Path) -> Inputs:
        return Inputs(
            rows=tuple(FIXTURES / name for name in self.rows),
            extra={role: tuple(FIXTURES / name for name in names) for role, names in self.extra.items()},
            cache=folder / "indexes",
        )

    def digest(self, content: Content, folder: Path) -> str:
        """Of everything that decides the records but the code."""
        card, files = self.card, self.inputs(folder)
        return plain_digest(
            {
                "card": card.model_dump(mode="json", include={"name", "options", "instruction", "verified_negatives"}),
                "template": content.templates[card.instruction.template].model_dump(mode="json"),
                "rule": self.rule.model_dump(mode="json", exclude_defaults=True),
                "numbers": [self.cap, self.phrasings, SEED],
                "files": file_digests([*files.rows, *chain.from_iterable(files.extra.values())], folder),
            }
        )


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
    search = content.cards["embedding_training_data/sample_search"]
    sample = str(content.sample_data / "embedding_training_data" / "sample_search.jsonl")
    yield Case(search, (sample,), {}, FILTERED, cap=60, phrasings=3)


def records(case: Case, content: Content, folder: Path) -> list[dict[str, Any]]:
    """The records of one case, as they would stand in the shards, less the scores."""
    card = case.card
    adapted = adapt(AdaptJob(card, case.inputs(folder), case.cap, SEED, folder))
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
    phrasings = render(template, card.instruction.fields, adapted.fields, ";")[: case.phrasings]
    tables = assemble(adapted.examples(), mined.tables(), phrasings, SEED, 1, card.name)
    rows = list(chain.from_iterable(table.to_pylist() for table in tables))
    ledger.written = len(rows)
    ledger.check()
    return [{name: row[name] for name in SHOWN} for row in rows]


class Made(NamedTuple):
    """All records, and the digest of each case's inputs."""

    records: list[dict[str, Any]]
    inputs: dict[str, str]


def all_records() -> Made:
    content = load_content()
    with tempfile.TemporaryDirectory() as folder:
        every = list(cases(content))
        inputs = {case.card.name: case.digest(content, Path(folder)) for case in every}
        return Made(list(chain.from_iterable(records(case, content, Path(folder)) for case in every)), inputs)


def stored_stamp(folder: Path) -> Stamp:
    return Stamp(**json.loads((folder / "stamp.json").read_text(encoding="utf-8")))


def write(folder: Path, made: Made, stages: Mapping[str, int]) -> None:
    """Write records and stamp. Raises `SystemExit` where records have changed and no stage's version was raised."""
    stamp = stamped(stages, made.inputs, made.records)
    if changed := unannounced(stored_stamp(folder), stamp):
        raise SystemExit(f"the records of {', '.join(changed)} have changed; {RAISE}")
    lines = (json.dumps(row, ensure_ascii=False) for row in made.records)
    (folder / "records.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "stamp.json").write_text(json.dumps(stamp._asdict(), indent=1) + "\n", encoding="utf-8")


def check(folder: Path, made: Made, stages: Mapping[str, int]) -> None:
    """Raise `AssertionError` unless records and stamp are those of the golden files, and say what to do."""
    stamp = stamped(stages, made.inputs, made.records)
    assert not (changed := unannounced(stored_stamp(folder), stamp)), f"{changed}: records have changed; {RAISE}"
    assert stored_stamp(folder) == stamp, REWRITE
    golden = [json.loads(line) for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in made.records] == [row["id"] for row in golden], REWRITE
    for row, expected in zip(made.records, golden, strict=True):
        assert row == expected, REWRITE


@pytest.fixture(scope="module")
def made() -> Made:
    return all_records()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden files."""
    for name in ("records.jsonl", "stamp.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    return tmp_path


def test_records_are_those_of_the_golden_file(made: Made) -> None:
    check(GOLDEN, made, STAGE_VERSIONS)


def planted(made: Made) -> Made:
    """The same with one record in which the mined negative and the one after it have changed places."""
    at = next(i for i, row in enumerate(made.records) if row["hard_negatives"] and row["miner"] == "dense")
    row = made.records[at]
    instruction, first = row["neg"]
    other = row | {
        "neg": [instruction, row["hard_negatives"][0]],
        "hard_negatives": [first, *row["hard_negatives"][1:]],
    }
    return made._replace(records=[*made.records[:at], other, *made.records[at + 1 :]])


def test_records_that_change_under_the_same_versions_are_noticed_and_not_written(made: Made, folder: Path) -> None:
    changed = planted(made)
    (name,) = {new["task_name"] for new, old in zip(changed.records, made.records, strict=True) if new != old}
    with pytest.raises(AssertionError, match=f"{name}.*raise the version of the stage"):
        check(folder, changed, STAGE_VERSIONS)
    for stages in (STAGE_VERSIONS, STAGE_VERSIONS | {"mine": 0}, STAGE_VERSIONS | {"mine": 0, "write": 99}):
        with pytest.raises(SystemExit, match=f"{name} have changed; raise the version of the stage"):
            write(folder, changed, stages)
    check(folder, made, STAGE_VERSIONS)  # nothing was written


def test_a_raised_version_is_written_and_holds_from_then_on(made: Made, folder: Path) -> None:
    changed, raised = planted(made), STAGE_VERSIONS | {"mine": STAGE_VERSIONS["mine"] + 1}
    with pytest.raises(AssertionError, match=r"run `python -m tests\.test_golden`"):
        check(folder, made, raised)  # else the next change would pass under the version that was raised here
    write(folder, changed, raised)
    check(folder, changed, raised)
    with pytest.raises(SystemExit, match="raise the version"):
        write(folder, made, raised)


def test_records_edited_by_hand_are_noticed(made: Made, folder: Path) -> None:
    changed = planted(made)
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in changed.records))
    with pytest.raises(AssertionError, match="raise the version"):
        check(folder, changed, STAGE_VERSIONS)
    with pytest.raises(AssertionError, match="run `python"):
        check(folder, made, STAGE_VERSIONS)


def test_other_inputs_need_no_other_version(made: Made, folder: Path) -> None:
    """A case that is new, gone or of other fixtures says nothing about the stages."""
    first, *rest = made.inputs
    fewer = Made([row for row in made.records if row["task_name"] != first], {name: made.inputs[name] for name in rest})
    write(folder, fewer, STAGE_VERSIONS)
    check(folder, fewer, STAGE_VERSIONS)
    write(folder, made, STAGE_VERSIONS)
    changed = planted(made)._replace(inputs=dict.fromkeys(made.inputs, "other files"))
    write(folder, changed, STAGE_VERSIONS)
    check(folder, changed, STAGE_VERSIONS)


def test_every_fixture_gives_records_that_keep_the_rules(made: Made) -> None:
    assert {row["task_name"] for row in made.records} == made.inputs.keys()
    for row in made.records:
        query, pos, neg = (row[side][1] for side in ("query", "pos", "neg"))
        assert len({query, pos, neg, *row["hard_negatives"]}) == 3 + len(row["hard_negatives"])
        assert all(row[side][0].startswith("Represent ") for side in ("query", "pos", "neg"))


if __name__ == "__main__":
    write(GOLDEN, all_records(), STAGE_VERSIONS)

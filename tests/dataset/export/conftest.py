"""A build that every format has something to do with: several negatives, several phrasings, none, two licences."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from medi_build.dataset.reader import BuiltDataset, Manifest, open_dataset
from medi_build.dataset.schema import MANIFEST
from tests.dataset.built import write_built

QUESTION, ANSWER = "Represent the question;", "Represent the answer;"
SEVERAL = [("Represent it;", "Represent the other;"), ("Encode it;", "Encode the other;")]


def record(number: int, task: int, sides: tuple[str, str], further: int = 0, name: str = "") -> dict[str, Any]:
    query, document = sides
    return {
        "query": [query, f"question {number}?"],
        "pos": [document, f'answer "{number}"\n'],
        "neg": [document, f"wrong {number}"],
        "hard_negatives": [f"wrong {number} {place}" for place in range(further)],
        "hard_negative_scores": [0.25] * further,
        "hard_negative_ranks": list(range(further)),
        "task_id": task,
        "task_name": name,
        "id": f"toy/{task}/{number}",
    }


NAMES = {1: "kilt/nq", 2: "plain/texts", 3: "own/several", 4: "kilt/wow"}
RECORDS = [
    *(record(number, 1, (QUESTION, ANSWER), 1 + number % 2) for number in range(8)),
    *(record(number, 2, ("", "")) for number in range(8)),
    *(record(number, 3, SEVERAL[number % 2], 1) for number in range(8)),
    *(record(number, 4, (QUESTION, "")) for number in range(4)),
]


def rewrite(folder: Path, **changes: Any) -> None:
    """The manifest with other values; ``datasets`` are changes of each dataset, in their order."""
    manifest = open_dataset(folder).manifest
    datasets = [
        one.model_copy(update=change) for one, change in zip(manifest.datasets, changes.pop("datasets"), strict=True)
    ]
    new: Manifest = manifest.model_copy(update=changes | {"datasets": datasets})
    (folder / MANIFEST).write_bytes(orjson.dumps(new.model_dump(mode="json")))


@pytest.fixture
def toy(tmp_path: Path) -> BuiltDataset:
    folder = write_built(tmp_path / "build", RECORDS)
    instructions = {1: [(QUESTION, ANSWER)], 2: [("", "")], 3: SEVERAL, 4: [(QUESTION, "")]}
    terms = {4: {"licence": "CC-BY-NC-4.0", "commercial_use": "not-allowed"}}
    rewrite(
        folder,
        datasets=[{"name": NAMES[task], "instructions": instructions[task], **terms.get(task, {})} for task in NAMES],
    )
    return open_dataset(folder)

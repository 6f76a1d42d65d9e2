"""A tiny encoder, a tiny dataset with something to learn, and a run on it that nothing breaks."""

import json
from pathlib import Path
from typing import Any

import pytest

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.train.export import save_model
from medi_build.train.model_card import Trained
from tests.train.runs import eight_steps, run

GOLDEN = Path(__file__).parent.parent / "golden"
TOPICS = ["copper roofs", "bread dough", "the harbour", "night trains", "yeast and sugar", "the lighthouse"]


def toy_records(rows: int = 60) -> list[dict[str, Any]]:
    """Two tasks: questions about a topic, and sentences of a class."""
    records = []
    for i in range(rows):
        topic, other = TOPICS[i % len(TOPICS)], TOPICS[(i + 2) % len(TOPICS)]
        records.append(
            {
                "query": ["Represent the question for retrieving relevant documents;", f"why {topic} number {i}?"],
                "pos": [
                    "Represent the document for retrieval;",
                    f"{topic} number {i} is so because of the air and {i}",
                ],
                "neg": ["Represent the document for retrieval;", f"{other} in {i + 1000} years"],
                "task_id": 1 + i * 2 // rows,
            }
        )
    return records


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(load_model(find_model(str(GOLDEN / "tiny_instructor"))), folder)
    return folder


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "medi-data.json"
    path.write_text(json.dumps(toy_records()))
    return path


@pytest.fixture(scope="session")
def unbroken(toy_data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(eight_steps(toy_data, tiny_model, tmp_path_factory.mktemp("run") / "unbroken", export="instructor"))

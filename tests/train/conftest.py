"""A tiny encoder, and a tiny dataset with something to learn."""

import json
from pathlib import Path
from typing import Any

import pytest

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.train.export import save_model

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

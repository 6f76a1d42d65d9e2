"""Small datasets for tests of versions."""

from pathlib import Path
from typing import Any

from tests.dataset.built import write_built


def records(task: int, count: int, word: str = "plain") -> list[dict[str, Any]]:
    """``count`` records of one task; another ``word`` makes them others."""
    return [
        {
            "query": ["Represent the query: ", f"{word} query {task}-{number}"],
            "pos": ["Represent the document: ", f"{word} answer {task}-{number}"],
            "neg": ["Represent the document: ", f"{word} other {task}-{number}"],
            "task_id": task,
            "task_name": f"toy/{task}",
            "id": f"toy/{task}/{number}",
            "pos_id": f"toy/{task}/{number}#p",
            "neg_id": f"toy/{task}/{number}#n",
            "hard_negatives": [f"{word} further {task}-{number}"],
            "hard_negative_scores": [0.25],
            "hard_negative_ranks": [3],
        }
        for number in range(count)
    ]


def dataset(folder: Path, *tasks: list[dict[str, Any]]) -> Path:
    """A built folder with these tasks."""
    return write_built(folder, [record for task in tasks for record in task])

"""Records and folders for tests that compare two builds."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from medi_build.dataset.schema import MANIFEST
from tests.dataset.built import write_built

Record = dict[str, Any]


def record(name: str, task: int = 1, **given: Any) -> Record:
    """A record with something in every column that a diff looks at."""
    sides = {side: ["Represent it;", f"{side} of {name}"] for side in ("query", "pos", "neg")}
    return {
        **sides,
        "task_id": task,
        "task_name": f"toy/{task}",
        "id": f"toy/{task}/{name}",
        "pos_id": f"{name}/p",
        "neg_id": f"{name}/n",
        "pos_score": 0.75,
        "neg_score": 0.5,
        "neg_rank": 3,
        "miner": "dense",
        "hard_negatives": [f"another of {name}"],
        "hard_negative_scores": [0.25],
        "hard_negative_ranks": [7],
        "possible_false_negative_ids": [],
        "labels": [],
        "groups": [f"page of {name}"],
        "source_file": "rows.jsonl",
        "source_row": 1,
        **given,
    }


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the manifest of a folder."""
    path = folder / MANIFEST
    manifest = orjson.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(orjson.dumps(manifest))
    return folder


def two(folder: Path, old: list[Record], new: list[Record], shards: tuple[int, int] = (1, 1)) -> tuple[Path, Path]:
    """Two folders with these records."""
    return write_built(folder / "old", old, shards[0]), write_built(folder / "new", new, shards[1])


def alike(one: float, other: float) -> bool:
    """Whether two scores are the same within 0.001; two that are none are."""
    return math.isnan(one) == math.isnan(other) and (math.isnan(one) or abs(one - other) < 0.001)

"""What a run is, and its line in a file."""

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        objective: "instructor" (other rows' positives are not in the denominator) or "with-positives" (they are).
        temperature: divides the cosines.
        batch: rows.
        steps: optimiser steps.
        learning_rate: peak; a tenth of the steps up, then linearly to 0.
        seed: of the batches.
        start: "fresh" (as it comes) or "own" (the model that mines, which has trained on in-batch negatives).
    """

    objective: str = "with-positives"
    temperature: float = 0.05
    batch: int = 16
    steps: int = 200
    learning_rate: float = 1e-4
    seed: int = 0
    start: str = "fresh"


@dataclass(frozen=True)
class Run:
    """What is set; ``negatives`` is "random", "oracle FIRST-LAST POOL ENCODER" or "MINER ENCODER"."""

    domain: str
    encoder: str
    negatives: str
    count: int
    training: Training

    def key(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def list_of(run: Run) -> str:
    """What of a run its list of negatives depends on; the encoder's name says whose "own" is."""
    return json.dumps([run.encoder, run.negatives, run.count, run.training.seed])


def pack(found: np.ndarray) -> str:
    """Each query's nDCG, in 1/10,000, as text."""
    return base64.b85encode(zlib.compress(np.round(1e4 * found).astype("<u2").tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype="<u2") / 1e4


def read(path: Path) -> dict[str, dict[str, object]]:
    """Lines by the key of their run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for line in lines:
        line["training"] = asdict(Training(**line["training"]))
    names = ("domain", "encoder", "negatives", "count", "training")
    return {json.dumps({name: line[name] for name in names}, sort_keys=True): line for line in lines}


def rows_of_steps(rows: int, how: Training) -> Iterator[np.ndarray]:
    """Rows of each step: pass after pass over all, each in an order of its own."""
    generator = np.random.default_rng(how.seed)
    order = np.empty(0, dtype=np.int64)
    for _ in range(how.steps):
        while len(order) < how.batch:
            order = np.concatenate([order, generator.permutation(rows)])
        yield order[: how.batch]
        order = order[how.batch :]

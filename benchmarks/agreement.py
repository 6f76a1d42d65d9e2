"""How far medi's top-10 lists agree with exact fp32 search over sentence-transformers' fp32 vectors.

    python benchmarks/agreement.py --data ../shared/data [--jobs nfcorpus quora] [--dtypes bfloat16 float32] [--limit N]

For each place of each list: is it the same document? Two documents of almost the same score may change places without
harm, so the places that differ are split by how far apart the two documents are in the reference's own scores; and the
overlap of the lists as sets is given. Documents of equal text are one. "Search and fp16 alone" compares our lists
with exact fp32 search over our own vectors before they are stored in fp16.
"""

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch
from mining_job import JOBS, MODEL
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.model_files import find_model
from medi_build.search.dense import topk

K = 10
CLOSE = 1e-3


def exact(queries: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores [q, n] and the ids [q, K] of the best, ties by id."""
    scores = queries.astype(np.float32) @ documents.astype(np.float32).T
    return scores, np.argsort(-scores, axis=1, kind="stable")[:, :K]


def line(name: str, ids: np.ndarray, scores: np.ndarray, best: np.ndarray) -> str:
    """Agreement of ids [q, K] with the reference's list ``best`` [q, K], whose scores of everything are [q, n]."""
    same = ids == best
    overlap = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(ids, best, strict=True)])
    apart = np.abs(np.take_along_axis(scores, ids, axis=1) - np.take_along_axis(scores, best, axis=1))[~same]
    close = np.count_nonzero(apart < CLOSE)
    return (
        f"{name:44} {100 * same.mean():7.2f} % {100 * overlap:7.2f} % {100 * same[:, 0].mean():7.2f} % "
        f"{len(apart):8,} {close:8,} {100 * (1 - (len(apart) - close) / same.size):8.2f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--jobs", nargs="+", choices=["nfcorpus", "quora"], default=["nfcorpus", "quora"])
    parser.add_argument("--dtypes", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16", "float32"])
    parser.add_argument("--limit", type=int, help="no more queries and no more documents than this")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {MODEL}, top {K}")
    reference = SentenceTransformer(str(find_model(MODEL).folder), device="cpu")
    for name in arguments.jobs:
        (part,) = JOBS[name](arguments.data, 0)
        sides = (part.queries[: arguments.limit], part.documents[: arguments.limit])
        scores, best = exact(*(reference.encode(side, normalize_embeddings=True) for side in sides))
        print(f"\n{name}: {len(sides[0]):,} queries, {len(sides[1]):,} documents")
        print(
            f"{'':44} {'places':>9} {'as sets':>9} {'first':>9} {'differ':>8} {'< 1e-3':>8} {'the same or < 1e-3':>10}"
        )
        for dtype in arguments.dtypes:
            encoder = Encoder(EncoderSpec(model=MODEL, dtype=dtype), "cpu")
            begin = time.perf_counter()
            vectors = [encoder.encode(side).vectors for side in sides]
            seconds = time.perf_counter() - begin
            ids = topk(*(side.astype(np.float16) for side in vectors), K).ids
            print(line(f"medi, {dtype} ({seconds:.0f} s of encoding)", ids, scores, best))
            print(line("  search and fp16 alone", ids, *exact(*vectors)), flush=True)


if __name__ == "__main__":
    main()

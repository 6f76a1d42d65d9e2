"""The exact search of mining against FAISS's inverted file: seconds, and how much of the exact lists is found.

    OMP_NUM_THREADS=1 python benchmarks/approximate_search.py --documents 300000 --queries 20000

One thread each, and seconds of the processor, which other work on the machine hardly changes. The index is built once,
with little training; the exact search starts with the first query. So the seconds of the index come back after as many
queries as are told, if they come back at all. Vectors are made to suit an index: texts in topics of unequal size, 32
directions that matter, queries near one text each. Needs ``faiss-cpu``.
"""

import argparse
import time

import faiss
import numpy as np
import torch

from medi_build.arrays import Vectors
from medi_build.search.dense import topk

TOPICS, LATENT, DIMENSIONS = 4000, 32, 384
TRAINING_ROWS_PER_LIST, ROUNDS = 40, 10
BLOCK = 16384


def vectors(documents: int, queries: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    """float16 [queries, d] and [documents, d], of norm one."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, TOPICS + 1) ** 0.5
    topic = rng.choice(TOPICS, documents, p=share / share.sum())
    latent = rng.standard_normal((TOPICS, LATENT))[topic] + 0.7 * rng.standard_normal((documents, LATENT))
    asked = latent[rng.choice(documents, queries)] + 0.4 * rng.standard_normal((queries, LATENT))
    turn = rng.standard_normal((LATENT, DIMENSIONS), dtype=np.float32)

    def wide(rows: np.ndarray) -> Vectors:
        full = np.empty((len(rows), DIMENSIONS), np.float16)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK].astype(np.float32) @ turn
            part += 1.5 * rng.standard_normal(part.shape, dtype=np.float32)
            full[start : start + BLOCK] = part / np.linalg.norm(part, axis=1, keepdims=True)
        return full

    return wide(asked), wide(latent)


def built(corpus: Vectors) -> "faiss.Index":
    """FAISS's inverted file over float16 codes, 4 lists per square root of the texts."""
    lists = int(4 * len(corpus) ** 0.5)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(DIMENSIONS), DIMENSIONS, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = ROUNDS
    sample = np.random.default_rng(0).choice(
        len(corpus), min(len(corpus), TRAINING_ROWS_PER_LIST * lists), replace=False
    )
    index.train(corpus[np.sort(sample)].astype(np.float32))
    for start in range(0, len(corpus), 4 * BLOCK):
        index.add(corpus[start : start + 4 * BLOCK].astype(np.float32))
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32, 64, 128])
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    queries, corpus = vectors(arguments.documents, arguments.queries)
    topk(queries[:64], corpus[:100], 5)  # what is loaded on first use
    start = time.process_time()
    exact = np.concatenate(
        [topk(queries[first : first + BLOCK], corpus, arguments.k).ids for first in range(0, len(queries), BLOCK)]
    )
    exact_seconds = time.process_time() - start
    print(f"exact, top {arguments.k} of {len(queries)} queries among {len(corpus)}: {exact_seconds:.1f} s", flush=True)
    start = time.process_time()
    index = built(corpus)
    build_seconds = time.process_time() - start
    print(f"index: {build_seconds:.1f} s", flush=True)
    for probes in arguments.probes:
        index.nprobe = probes
        start = time.process_time()
        found = np.concatenate(
            [
                index.search(queries[first : first + BLOCK].astype(np.float32), arguments.k)[1]
                for first in range(0, len(queries), BLOCK)
            ]
        )
        seconds = time.process_time() - start
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact[:1000], found[:1000], strict=True)])
        saved = (exact_seconds - seconds) / len(queries)
        pays = f"pays from {build_seconds / saved:,.0f} queries on" if saved > 0 else "never pays"
        print(f"{probes} probes: {seconds:.1f} s, recall {recall:.3f}, {pays}", flush=True)


if __name__ == "__main__":
    main()

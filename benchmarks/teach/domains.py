"""Domains in which an encoder is trained and judged: queries, a corpus, and what is relevant to what."""

import ast
import csv
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import judged
import numpy as np
import pyarrow.parquet as pq
import xxhash
from judged import Collection, gathered, json_rows

PACKAGES = ("numpy", "scipy", "sklearn", "networkx", "sympy", "matplotlib")
"""Installed packages whose functions are the code to search."""


@dataclass(frozen=True)
class Domain(Collection):
    """A collection, some of whose queries are trained on and some judged.

    Attributes:
        known: int64 [q], the one relevant document of each query that training and the miners are told.
        train: int64, queries that are trained on.
        test: int64, queries that are judged; no other is in both.
        window: tokens to which a document is cut.
    """

    known: np.ndarray
    train: np.ndarray
    test: np.ndarray
    window: int


def split(whole: Collection, *, train: int, window: int) -> Domain:
    """By a hash of its text, a query is trained on or judged: at most ``train`` of them, and 1,500."""
    keys = [key(query) for query in whole.queries]
    order = np.argsort(np.array(keys, dtype=np.uint64))
    trained = min(train, 2 * len(order) // 3)
    return Domain(
        **vars(whole),
        known=np.array([found[own % len(found)] for own, found in zip(keys, whole.relevant, strict=True)]),
        train=order[:trained],
        test=order[trained : trained + 1500],
        window=window,
    )


def key(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode())


def quora(data: Path) -> Domain:
    """Questions and their duplicates among 15,000 questions, many of which were judged to be none."""
    folder = data / "embedding_training_data" / "hub" / "quora-duplicates" / "pair-class"
    rows = pq.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
    alike = [(row["sentence1"], row["sentence2"]) for row in rows if row["label"] == 1]
    first = {query for query, _ in alike}
    texts = (text for row in rows for text in (row["sentence1"], row["sentence2"]) if text not in first)
    return split(gathered(alike, texts), train=2000, window=48)


def flickr(data: Path) -> Domain:
    """A caption and two others of the same picture, of 4,000 pictures."""
    rows = json_rows(data / "embedding_training_data" / "flickr8k_captions.jsonl.gz")[:4000]
    return split(gathered((row["set"][0], text) for row in rows for text in row["set"][1:3]), train=2500, window=48)


def code(_: Path) -> Domain:
    """The first line of a function's description and its code, of the packages that are installed."""
    root = Path(sysconfig.get_paths()["purelib"])
    found = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        for described, body in functions(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(described, body)
    chosen = sorted(found, key=key)[:6000]
    once = {found[text]: text for text in chosen}
    return split(gathered(((text, body) for body, text in once.items())), train=3000, window=64)


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


def hotpotqa(data: Path) -> Domain:
    """Questions over two pages each, whose other pages were chosen to mislead."""
    files = (data / "kilt").glob("knowledge_pages.hotpot_*.jsonl")
    pages = {row["wikipedia_title"]: " ".join(row["text"]) for path in sorted(files) for row in json_rows(path)}
    relations = [
        (row["input"], pages[place["title"]])
        for row in json_rows(data / "kilt" / "hotpotqa-dev-kilt.jsonl")
        for output in row["output"]
        for place in output.get("provenance", [])
        if place["title"] in pages
    ]
    return split(gathered(relations, pages.values()), train=200, window=64)


def medmcqa(data: Path) -> Domain:
    """Exam questions with their right answer, and the explanation that was written for each."""
    rows = [row for row in json_rows(data / "medmcqa" / "dev.json") if row["exp"] and len(row["exp"]) > 60]
    relations = ((f"{row['question']} {row['op' + 'abcd'[row['cop'] - 1]]}", row["exp"]) for row in rows)
    return split(gathered(relations), train=1200, window=64)


def banking77(data: Path) -> Domain:
    """Customers' messages; relevant are those of the same intent, of which there are 77."""
    with (data / "eval" / "classification" / "banking77" / "train.csv").open(newline="") as file:
        intent = {row["text"].strip(): row["category"] for row in csv.DictReader(file)}
    texts = sorted(intent, key=key)
    documents = defaultdict(list)
    for text in texts[1::2]:
        documents[intent[text]].append(text)
    relations = ((query, text) for query in texts[::2] for text in documents[intent[query]])
    return split(gathered(relations, texts[1::2]), train=2500, window=48)


def nli(data: Path) -> Domain:
    """A picture's caption is looked for by a sentence that follows from it."""
    rows = json_rows(data / "embedding_training_data" / "AllNLI_snli_dev_test.pairs.jsonl.gz")
    return split(gathered((follows.strip(), caption.strip()) for caption, follows in rows), train=3000, window=48)


DOMAINS: dict[str, Callable[[Path], Domain]] = {
    "quora": quora,
    "flickr8k": flickr,
    "code": code,
    "nfcorpus": lambda data: split(judged.nfcorpus(data, "train", "dev", "test"), train=2000, window=64),
    "hotpotqa": hotpotqa,
    "medmcqa": medmcqa,
    "trecqa": lambda data: split(judged.trecqa(data), train=120, window=48),
    "banking77": banking77,
    "nli": nli,
}

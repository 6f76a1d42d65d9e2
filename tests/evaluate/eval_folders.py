"""Small evaluation folders in each form, with texts of our own."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TOPICS = {
    "garden": [
        "roses need pruning in spring",
        "compost feeds the soil",
        "water the beans at dawn",
        "slugs eat lettuce",
    ],
    "harbour": [
        "the ferry leaves at noon",
        "gulls follow the trawler",
        "the crane unloads crates",
        "fog delays the pilot",
    ],
    "kitchen": ["let the dough rest", "salt the water for pasta", "sharpen the bread knife", "roast the chestnuts"],
}


def lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def beir(folder: Path, qrels: Mapping[str, str] | None = None) -> Path:
    """Twelve documents, three queries; the qrels of test, unless others are given, are those of topics."""
    documents = [
        {"_id": f"{topic}-{n}", "title": topic if n % 2 else "", "text": sentence}
        for topic, sentences in TOPICS.items()
        for n, sentence in enumerate(sentences)
    ]
    lines(folder / "corpus.jsonl", documents)
    lines(folder / "queries.jsonl", [{"_id": f"q-{topic}", "text": f"work in the {topic}"} for topic in TOPICS])
    own = "query-id\tcorpus-id\tscore\n" + "".join(f"q-{t}\t{t}-{n}\t{1 + n % 2}\n" for t in TOPICS for n in range(4))
    for split, table in (qrels or {"test": own}).items():
        text(folder / "qrels" / f"{split}.tsv", table)
    return folder


PAIRS = [
    ("the ferry leaves at noon", "at noon the ferry departs", 5.0),
    ("let the dough rest", "the dough has to rest", 4.5),
    ("slugs eat lettuce", "a snail ate the salad", 3.0),
    ("gulls follow the trawler", "roast the chestnuts", 0.2),
    ("water the beans at dawn", 'she said "sharpen the knife"', 0.0),
]


def sts(folder: Path) -> Path:
    rows = "".join(f"{a}\t{b}\t{score}\n" for a, b, score in PAIRS)
    text(folder / "test.tsv", "sentence1\tsentence2\tscore\n" + rows)
    return folder


def classification(folder: Path) -> Path:
    train = [(sentence, topic) for topic, sentences in TOPICS.items() for sentence in sentences]
    test = [(f"about the {topic}: {sentences[0]}", topic) for topic, sentences in TOPICS.items()]
    for name, rows in (("train", train), ("test", test)):
        text(folder / f"{name}.csv", "text,category\n" + "".join(f'"{a}",{b}\n' for a, b in rows))
    return folder


def clustering(folder: Path) -> Path:
    rows = [(sentence, topic) for topic, sentences in TOPICS.items() for sentence in sentences]
    text(folder / "title_topics.txt", "".join(f"{a}\n" for a, _ in rows))
    text(folder / "label_topics.txt", "".join(f"{b}\n" for _, b in rows))
    return folder


def all_forms(folder: Path) -> list[Path]:
    return [
        beir(folder / "search"),
        sts(folder / "pairs"),
        classification(folder / "topics"),
        clustering(folder / "clusters"),
    ]

"""Domains and the embedded encoder as arrays in one folder: all that a machine with numpy and torch needs."""

import json
import lzma
from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

WINDOW = 128
"""Positions, and tokens of a text that are kept in domains asked for with long texts; half of it in others."""
CHARACTERS = 5
"""A token, of a document's text that are kept for miners that read it, unless it is the same as another's by then."""


@dataclass(frozen=True)
class Texts:
    """Token ids uint16 of all texts, one after the other, and how many each has, int64 [n]: queries, then documents."""

    flat: np.ndarray
    lengths: np.ndarray

    def padded(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [n, window], 0 behind a text's end, and lengths int64 [n]; the closing token is kept."""
        ends = np.cumsum(self.lengths)
        lengths = np.minimum(self.lengths, window)
        ids = np.zeros((len(lengths), window), dtype=np.int64)
        for i, (end, whole, length) in enumerate(zip(ends, self.lengths, lengths, strict=True)):
            ids[i, :length] = self.flat[end - whole : end - whole + length]
            ids[i, length - 1] = self.flat[end - 1]
        return ids, lengths


@dataclass(frozen=True)
class PreparedDomain:
    """A domain without its texts.

    Attributes:
        texts: of queries and documents.
        documents: how many there are.
        known: int64 [q], the document that training is told.
        train: int64, queries trained on.
        test: int64, queries judged.
        relevant: of each query, documents by number.
    """

    texts: Texts
    documents: int
    known: np.ndarray
    train: np.ndarray
    test: np.ndarray
    relevant: list[np.ndarray]


@dataclass(frozen=True)
class TextDomain:
    """A domain for miners: training queries by number, documents, and the rest as in `PreparedDomain`."""

    queries: dict[int, str]
    documents: list[str]
    known: np.ndarray
    train: np.ndarray
    relevant: list[np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """The folder that `save` wrote."""

    folder: Path

    @cached_property
    def heads(self) -> int:
        return int(json.loads((self.folder / "about.json").read_text())["heads"])

    @cached_property
    def domains(self) -> dict[str, PreparedDomain]:
        names = json.loads((self.folder / "about.json").read_text())["domains"]
        return {name: _domain(np.load(self.folder / f"{name}.npz")) for name in names}

    @cached_property
    def _weights(self) -> dict[str, np.ndarray]:
        stored = np.load(self.folder / "weights.npz")
        names = [name for name in stored.files if not name.startswith("scale ")]
        scale = {name: stored[f"scale {name}"] if f"scale {name}" in stored else np.float32(1) for name in names}
        return {name: stored[name].astype(np.float32) * scale[name] for name in names}

    def with_texts(self, name: str) -> "TextDomain":
        """A domain for miners that read texts."""
        one = self.domains[name]
        asked, documents = json.loads(lzma.decompress((self.folder / f"{name}.texts.xz").read_bytes()))
        return TextDomain(
            dict(zip(one.train.tolist(), asked, strict=True)), documents, one.known, one.train, one.relevant
        )

    def embeddings(self) -> dict[str, np.ndarray]:
        """words [vocabulary, d], positions [window, d], norm.weight, norm.bias [d]."""
        return {name: self._weights[name] for name in ("words", "positions", "norm.weight", "norm.bias")}

    def layers(self, count: int) -> dict[str, np.ndarray]:
        """Matrices [in, out] and vectors [1, n] of the first layers, by "LAYER.NAME"."""
        return {
            name: value
            for name, value in self._weights.items()
            if name.partition(".")[0].isdigit() and int(name.partition(".")[0]) < count
        }


def _domain(stored: Any) -> PreparedDomain:
    ends = np.cumsum(stored["relevant lengths"])
    return PreparedDomain(
        Texts(stored["tokens"], stored["lengths"].astype(np.int64)),
        int(stored["documents"]),
        *(stored[name].astype(np.int64) for name in ("known", "train", "test")),
        np.split(stored["relevant"].astype(np.int64), ends[:-1]),
    )


def save(folder: Path, domains: dict[str, Any], tokenizer: Any, bert: Any, long: Container[str] = ()) -> None:
    """Write `teach.domains.Domain`s by name, tokens numbered anew by those that occur, and a BERT.

    Matrices and word vectors are int8 with a scale for each row of theirs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    window = {name: WINDOW if name in long else WINDOW // 2 for name in domains}
    tokens = {name: _tokens(domain, tokenizer, window[name]) for name, domain in domains.items()}
    used = np.unique(np.concatenate([[0], *[np.concatenate(texts) for texts in tokens.values()]]))
    for name, domain in domains.items():
        np.savez_compressed(
            folder / f"{name}.npz",
            tokens=np.searchsorted(used, np.concatenate(tokens[name])).astype(np.uint16),
            lengths=np.array([len(text) for text in tokens[name]], dtype=np.uint8),
            documents=len(domain.documents),
            known=domain.known.astype(np.uint16),
            train=domain.train.astype(np.uint16),
            test=domain.test.astype(np.uint16),
            relevant=np.concatenate([np.asarray(found, dtype=np.uint16) for found in domain.relevant]),
            **{"relevant lengths": np.array([len(found) for found in domain.relevant], dtype=np.uint16)},
        )
        texts = [[domain.queries[i] for i in domain.train], _shortened(domain.documents, CHARACTERS * window[name])]
        (folder / f"{name}.texts.xz").write_bytes(lzma.compress(json.dumps(texts).encode()))
    np.savez_compressed(folder / "weights.npz", **_stored(_named(bert, used)))
    about = {"domains": list(domains), "heads": bert.config.num_attention_heads}
    (folder / "about.json").write_text(json.dumps(about))


def _shortened(documents: list[str], size: int) -> list[str]:
    taken, kept = set(documents), []
    for text in documents:
        short = text[:size]
        kept.append(text if short in taken else short)
        taken.add(short)
    return kept


def _tokens(domain: Any, tokenizer: Any, window: int) -> list[np.ndarray]:
    """Only queries that are trained on or judged have theirs; the others have one."""
    wanted = set(domain.train.tolist()) | set(domain.test.tolist())
    texts = [text if i in wanted else "" for i, text in enumerate(domain.queries)] + domain.documents
    return [np.array(ids) for ids in tokenizer(texts, truncation=True, max_length=window)["input_ids"]]


def _named(bert: Any, used: np.ndarray) -> dict[str, np.ndarray]:
    """As `Prepared` has them, float32."""
    state = {name: value.detach().float().numpy() for name, value in bert.state_dict().items()}
    kinds = state["embeddings.token_type_embeddings.weight"][0]
    found = {
        "words": state["embeddings.word_embeddings.weight"][used],
        "positions": state["embeddings.position_embeddings.weight"][:WINDOW] + kinds,
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    for i in range(bert.config.num_hidden_layers):
        at = f"encoder.layer.{i}"
        parts = {
            "qkv": [f"attention.self.{name}" for name in ("query", "key", "value")],
            "out": ["attention.output.dense"],
            "norm1": ["attention.output.LayerNorm"],
            "up": ["intermediate.dense"],
            "down": ["output.dense"],
            "norm2": ["output.LayerNorm"],
        }
        for name, sources in parts.items():
            matrix = np.concatenate([state[f"{at}.{source}.weight"] for source in sources])
            found[f"{i}.{name}"] = matrix.T.copy() if matrix.ndim == 2 else matrix[None]
            found[f"{i}.{name}.bias"] = np.concatenate([state[f"{at}.{source}.bias"] for source in sources])[None]
    return found


def _stored(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stored = {}
    for name, value in weights.items():
        if value.ndim == 1 or len(value) == 1:
            stored[name] = value.astype(np.float32)
            continue
        axis = 1 if name in ("words", "positions") else 0
        scale = np.maximum(np.abs(value).max(axis=axis, keepdims=True), 1e-12) / 127
        stored[name] = np.round(value / scale).astype(np.int8)
        stored[f"scale {name}"] = scale.astype(np.float32)
    return stored

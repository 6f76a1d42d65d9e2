"""Lists of negatives for the plan, mined from the vectors that the GPU brought back, and what they are like."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from medi_build.mine.false_negatives import SignInputs, fit
from medi_build.search.bm25 import BM25, tokenize
from teach.domains import Domain
from teach.miners import Vectors, mined
from teach.negatives import at_random, false_share, oracle
from teach.plans import everything
from teach.runs import list_of

NEAREST = 20
CURRICULUM = ("60-200", "10-60", "0-10")
"""After random ones, from easy to hard."""


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Vectors float32 by "ENCODER DOMAIN SIDE"."""
    found = {}
    for path in sorted(folder.glob("vectors-*.npz")):
        file = np.load(path)
        for name in file.files:
            if not name.startswith("scale "):
                rows = file[name] * file[f"scale {name}"].astype(np.float32)
                found[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class Mining:
    """A domain as one encoder sees it."""

    domain: Domain
    queries: np.ndarray
    documents: np.ndarray

    @cached_property
    def scores(self) -> np.ndarray:
        return self.queries @ self.documents.T

    @cached_property
    def _mined(self) -> dict[Any, np.ndarray]:
        return {}

    def negatives(self, kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents int64 [stages, train, count], -1 where there is none; weights float32 [train, count]."""
        name, *rest = kind.split()
        ones = np.ones((len(self.domain.train), count), dtype=np.float32)
        if name == "oracle":
            return self._window(rest[0], count, seed, positives=rest[1] == "positives")[None], ones
        if name == "curriculum":
            easy = at_random(self.domain, count, 1000 + seed)
            return np.stack([easy, *(self._window(window, count, seed) for window in CURRICULUM)]), ones
        if name == "mixed":
            hard, easy = self._window(rest[0], count, seed), at_random(self.domain, count, 1000 + seed)
            drawn = np.random.default_rng(seed).random(hard.shape) < 0.5 if count == 1 else np.arange(count) == 0
            return np.where(drawn, hard, easy)[None], ones
        if name in ("drawn", "weighted"):
            found, probability = self._near(count, seed)
            return found[None], (1 - probability).astype(np.float32) if name == "weighted" else ones
        key = (name, count, seed if name in ("flag-embedding",) else 0)
        if key not in self._mined:
            vectors = Vectors.of(self.domain, self.queries, self.documents)
            self._mined[key] = mined(name, self.domain, vectors, count, key[-1])
        return self._mined[key][None], ones

    def _window(self, ranks: str, count: int, seed: int, *, positives: bool = False) -> np.ndarray:
        first, last = map(int, ranks.split("-"))
        return oracle(self.domain, self.scores, (first, last), count, seed, positives=positives)

    @cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """The nearest but the known one, and the probability that our rule's model gives each to be false."""
        rows, known = np.arange(len(self.domain.train)), self.domain.known[self.domain.train]
        queries, corpus = self.queries.astype(np.float16), self.documents.astype(np.float16)
        texts = [self.domain.queries[i] for i in self.domain.train]
        excluded = sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, known)), (len(rows), len(corpus)))
        inputs = SignInputs(
            queries,
            corpus,
            len(corpus),
            excluded,
            BM25.build(tokenize(pl.Series(self.domain.documents))),
            tokenize(pl.Series(texts)),
            known,
            self.scores[rows, known],
        )
        model = fit(inputs, 100, 0)
        assert model is not None
        ranking, probability = model.ranked(rows)
        return ranking.ids[:, :NEAREST], probability[:, :NEAREST]

    def _near(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        ids, probability = self._ranked
        at = np.random.default_rng(seed).random(ids.shape).argsort(axis=1)[:, :count]
        return np.take_along_axis(ids, at, axis=1), np.take_along_axis(probability, at, axis=1)


def mine_all(folder: Path, domains: dict[str, Domain], vectors: dict[str, np.ndarray]) -> None:
    """Writes lists-DOMAIN.npz, each with the lists of all runs of the plan, and lists.json, which describes them."""
    about = {}
    for name, domain in domains.items():
        wanted = list(dict.fromkeys(list_of(run) for run in everything() if run.domain == name))
        views: dict[str, Mining] = {}
        arrays = {}
        for key in wanted:
            encoder, kind, count, seed = json.loads(key)
            trained = f"{encoder} {name} queries" in vectors and not kind.endswith(" full")
            by = encoder if trained else "full"
            if by not in views:
                views[by] = Mining(domain, vectors[f"{by} {name} queries"], vectors[f"{by} {name} documents"])
            arrays[key], weight, about[f"{name} {key}"] = _described(views[by], kind, count, seed)
            if not (weight == 1).all():
                arrays[f"weight {key}"] = weight.astype(np.float16)
            print(name, key, about[f"{name} {key}"], flush=True)
        np.savez_compressed(folder / f"lists-{name}.npz", **arrays)
        (folder / "lists.json").write_text(json.dumps(about, indent=1))


def _described(view: Mining, kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Lists uint16 with random ones where the rule found none, weights, and what they are like at the end."""
    random = at_random(view.domain, count, 1000 + seed)
    found, weight = (random[None], np.ones(random.shape)) if kind == "random" else view.negatives(kind, count, seed)
    hard = np.where(found < 0, random, found)
    rows = np.arange(len(random))[:, None]
    return (
        hard.astype(np.uint16),
        weight,
        {
            "served": round(float((found[-1] >= 0).any(axis=1).mean()), 4),
            "relevant": round(false_share(view.domain, hard[-1]), 4),
            "score": round(float(view.scores[rows, hard[-1]].mean()), 4),
        },
    )

"""Lists of negatives, made by one process a domain beside the GPU: numpy for who knows the truth, else the miners.

Vectors come in as files ``vectors ENCODER DOMAIN.npz``, lists go out as a file each, as soon as they are there.
"""

import hashlib
import json
import time
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from teach.negatives import at_random, false_share
from teach.plans import everything
from teach.prepared import Prepared, TextDomain
from teach.runs import list_of

RANKED = 200
NEAREST = 20
CURRICULUM = ("60-200", "10-60", "0-10")
"""After random ones, from easy to hard."""
PATIENCE = 0.2
"""Seconds between looks for a file."""


@dataclass(frozen=True)
class List:
    """Documents int64 [stages, train, k], weights [train, k] against their own queries, what they are like."""

    hard: np.ndarray
    weight: np.ndarray
    about: dict[str, float]


def path_of(folder: Path, domain: str, key: str) -> Path:
    return folder / f"list {domain} {hashlib.sha1(key.encode()).hexdigest()[:16]}.npz"


def read(folder: Path, domain: str, key: str) -> List | None:
    """The list, None while it is not there.

    Raises:
        RuntimeError: it could not be made.
    """
    path = path_of(folder, domain, key)
    if path.with_suffix(".failed").exists():
        raise RuntimeError(f"{domain} {key}: {path.with_suffix('.failed').read_text()}")
    if not path.exists():
        return None
    stored = np.load(path)
    return List(stored["hard"].astype(np.int64), stored["weight"], json.loads(str(stored["about"])))


@dataclass(frozen=True)
class Mining:
    """A domain as one encoder sees it."""

    domain: TextDomain
    queries: np.ndarray
    documents: np.ndarray

    @cached_property
    def scores(self) -> np.ndarray:
        return self.queries @ self.documents.T

    @cached_property
    def _right(self) -> np.ndarray:
        """Bool [train, documents], what is relevant in truth."""
        found = np.zeros(self.scores.shape, dtype=bool)
        for place, query in enumerate(self.domain.train):
            found[place, self.domain.relevant[query]] = True
        return found

    def _best(self, allowed: np.ndarray) -> np.ndarray:
        """Documents int64 [train, at most RANKED], best first: as many as every query has."""
        count = min(RANKED, int(allowed.sum(axis=1).min()))
        scores = np.where(allowed, self.scores, -np.inf)
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    @cached_property
    def _wrong(self) -> np.ndarray:
        return self._best(~self._right)

    @cached_property
    def _wrong_positives(self) -> np.ndarray:
        taught = np.isin(np.arange(self.scores.shape[1]), self.domain.known[self.domain.train])
        return self._best(~self._right & taught)

    def window(self, ranks: str, count: int, seed: int, *, positives: bool = False) -> np.ndarray:
        """Draws [train, count] from a window of ranks that holds nothing relevant."""
        first, last = map(int, ranks.split("-"))
        within = (self._wrong_positives if positives else self._wrong)[:, first:last]
        at = np.random.default_rng(seed).random(within.shape).argsort(axis=1)[:, :count]
        return np.take_along_axis(within, at, axis=1)

    def negatives(self, kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents int64 [stages, train, count], -1 where there is none; weights float [train, count]."""
        name, *rest = kind.split()
        ones = np.ones((len(self.domain.train), count))
        easy = at_random(self.domain, count, 1000 + seed)
        if name == "random":
            return easy[None], ones
        if name == "oracle":
            return self.window(rest[0], count, seed, positives=rest[1] == "positives")[None], ones
        if name == "curriculum":
            return np.stack([easy, *(self.window(ranks, count, seed) for ranks in CURRICULUM)]), ones
        if name == "mixed":
            drawn = np.random.default_rng(seed).random(easy.shape) < 0.5 if count == 1 else np.arange(count) == 0
            return np.where(drawn, self.window(rest[0], count, seed), easy)[None], ones
        if name in ("drawn", "weighted"):
            found, probability = self._near(count, seed)
            return found[None], 1 - probability if name == "weighted" else ones
        from teach.miners import Vectors, mined

        return mined(name, self.domain, Vectors.of(self.domain, self.queries, self.documents), count, seed)[None], ones

    @cached_property
    def _probable(self) -> tuple[np.ndarray, np.ndarray]:
        """The nearest but the known one, and the probability that our rule's model gives each to be false."""
        import polars as pl
        from scipy import sparse

        from medi_build.mine.false_negatives import SignInputs, fit
        from medi_build.mine.likeness import Likeness
        from medi_build.search.bm25 import BM25, tokenize

        rows, known = np.arange(len(self.domain.train)), self.domain.known[self.domain.train]
        shape = (len(rows), len(self.documents))
        corpus = self.documents.astype(np.float16)
        inputs = SignInputs(
            self.queries.astype(np.float16),
            corpus,
            len(self.documents),
            sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, known)), shape),
            BM25.build(tokenize(pl.Series(self.domain.documents))),
            tokenize(pl.Series([self.domain.queries[i] for i in self.domain.train])),
            known,
            self.scores[rows, known],
            Likeness(corpus, np.unique(known)),
        )
        model = fit(inputs, 100, 0)
        assert model is not None
        ranking, probability = model.ranked(rows)
        return ranking.ids[:, :NEAREST], probability[:, :NEAREST]

    def _near(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        ids, probability = self._probable
        at = np.random.default_rng(seed).random(ids.shape).argsort(axis=1)[:, :count]
        return np.take_along_axis(ids, at, axis=1), np.take_along_axis(probability, at, axis=1)


def described(view: Mining, kind: str, count: int, seed: int) -> List:
    """With random ones where the rule found none; what is told is of the last stage."""
    found, weight = view.negatives(kind, count, seed)
    hard = np.where(found < 0, at_random(view.domain, count, 1000 + seed), found)
    rows = np.arange(hard.shape[1])[:, None]
    about = {
        "served": (found[-1] >= 0).any(axis=1).mean(),
        "relevant": false_share(view.domain, hard[-1]),
        "score": view.scores[rows, hard[-1]].mean(),
    }
    return List(hard, weight, {name: round(float(value), 4) for name, value in about.items()})


def mine(folder: Path, work: Path, name: str) -> None:
    """Makes all lists of a domain, in the plan's order; one that fails leaves word of it, and the next is made."""
    domain = Prepared(folder).with_texts(name)
    wanted = list(dict.fromkeys((run.encoder, list_of(run)) for run in everything() if run.domain == name))
    try:
        import teach.miners  # noqa: F401 - it takes seconds, and the first vectors are not there yet
    except Exception:
        traceback.print_exc()
    views: dict[str, Mining] = {}
    for encoder, key in wanted:
        _, kind, count, seed = json.loads(key)
        path = path_of(work, name, key)
        try:
            by = "full" if kind.endswith(" full") or encoder == "6x128" else encoder
            if by not in views:
                views[by] = Mining(domain, *_awaited(work / f"vectors {by} {name}.npz"))
            begun = time.monotonic()
            made = described(views[by], kind, count, seed)
            _write(path, made)
            print(f"{name} {key} {made.about} {time.monotonic() - begun:.1f} s", flush=True)
        except Exception:
            traceback.print_exc()
            path.with_suffix(".failed").write_text(traceback.format_exc())


def _write(path: Path, made: List) -> None:
    partial = path.with_suffix(".partial.npz")
    hard = made.hard.astype(np.uint16)
    np.savez(partial, hard=hard, weight=made.weight.astype(np.float32), about=json.dumps(made.about))
    partial.rename(path)


def give(work: Path, encoder: str, name: str, sides: tuple[np.ndarray, np.ndarray]) -> None:
    """Hand vectors of queries and of documents to the process that waits for them."""
    partial = work / f"{encoder} {name}.partial.npz"
    np.savez(partial, queries=sides[0], documents=sides[1])
    partial.rename(work / f"vectors {encoder} {name}.npz")


def _awaited(path: Path) -> tuple[np.ndarray, np.ndarray]:
    while not path.exists():
        time.sleep(PATIENCE)
    stored = np.load(path)
    return stored["queries"], stored["documents"]

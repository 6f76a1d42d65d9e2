"""The nearest queries of a dataset, by the vectors that its build has stored."""

import threading
from pathlib import Path

import numpy as np

from medi_build.arrays import Vectors
from medi_build.dataset.reader import BuiltDataset, DatasetEntry, shard_batches
from medi_build.embedding import Side
from medi_build.encode.store import VectorStore, keys_of
from medi_build.errors import StoreError

MOST_ROWS = 100_000
"""Records of a dataset whose queries are compared; of a larger one too many vectors would have to be held."""
ROWS_AT_ONCE = 16_384
LEAST_KNOWN = 0.9
"""Share of the queries whose vectors have to be stored; with fewer the nearest may be missing."""
_SIDE: Side = "query"


class StoredQueries:
    """Vectors of queries, those of the dataset that was asked for last."""

    def __init__(self, built: BuiltDataset, store: Path) -> None:
        self._built, self._store = built, store
        self._lock = threading.Lock()
        self._held: tuple[str, Vectors | None] = ("", None)

    def nearest(self, entry: DatasetEntry, place: int, count: int) -> list[tuple[int, float]] | None:
        """Places of records in the dataset and their cosines, the nearest first; None where vectors are not stored.

        Raises:
            DatasetError: a shard cannot be read.
        """
        with self._lock:
            if self._held[0] != entry.name:
                self._held = (entry.name, self._vectors(entry))
            vectors = self._held[1]
        if vectors is None or not vectors[place].any():
            return None
        own = vectors[place].astype(np.float32)
        blocks = range(0, len(vectors), ROWS_AT_ONCE)
        scores = np.concatenate([vectors[start : start + ROWS_AT_ONCE].astype(np.float32) @ own for start in blocks])
        scores[place] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(count, len(scores) - 1)]
        return list(zip(best.tolist(), scores[best].tolist(), strict=True))

    def _vectors(self, entry: DatasetEntry) -> Vectors | None:
        """Those of all queries, zeros where one is not stored; None where too few are."""
        if entry.rows > MOST_ROWS or not self._store.is_dir():
            return None
        batches = (batch for path in self._built.shards_of(entry) for batch in shard_batches(path, ["query"]))
        queries = [query[1] for batch in batches for query in batch["query"].to_pylist()]
        manifest = self._built.manifest
        prompts = manifest.prompts.get(manifest.pipeline["encoder"]["model"])
        saved = prompts.query if prompts is not None else None
        instruction = entry.instructions[0][0] if saved is None else saved
        for told in (instruction, f"{_SIDE}\0{instruction}"):  # the second for models that have several routes
            try:
                found = VectorStore(self._store).get(manifest.encoder, keys_of(manifest.encoder, told, queries))
            except StoreError:
                return None
            if found.mask.mean() >= LEAST_KNOWN:
                return found.vectors
        return None

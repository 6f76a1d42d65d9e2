"""Runs one dataset's adapter and keeps what the cap allows, as Arrow files that later stages memory-map."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from medi_build.content.cards import Card, Licence
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES, Kind
from medi_build.errors import OutputError
from medi_build.ingest.adapters import kilt, medmcqa, pairs, super_ni
from medi_build.ingest.adapters.base import Adapter, Inputs, number_repeats
from medi_build.ledger import Ledger

ADAPTERS: dict[str, Adapter] = {
    "super_ni": super_ni.adapt,
    "kilt": kilt.adapt,
    "medmcqa": medmcqa.adapt,
    "pairs": pairs.adapt,
}
"""By the name that cards use."""


@dataclass(frozen=True)
class AdaptJob:
    """What one run of an adapter needs; picklable.

    Attributes:
        card: the dataset.
        inputs: its verified files.
        cap: most examples to keep; 0 keeps all.
        seed: of the choice.
        folder: where the Arrow files go.
    """

    card: Card
    inputs: Inputs
    cap: int
    seed: int
    folder: Path


@dataclass(frozen=True)
class AdaptResult:
    """What a run of an adapter left behind; picklable.

    Attributes:
        kind: pair rule.
        fields: instruction fields found in the data.
        ledger: counts up to and including sampling.
        examples_path: Arrow file of schema ``EXAMPLES``.
        documents_path: Arrow file of schema ``DOCUMENTS``.
        licence: of the rows: what the data states, else what the card does.
    """

    kind: Kind
    fields: dict[str, str]
    ledger: dict[str, Any]
    examples_path: Path
    documents_path: Path
    licence: Licence

    def examples(self) -> pa.Table:
        """The kept examples, memory-mapped."""
        return _mapped(self.examples_path)

    def documents(self) -> pa.Table:
        """The additional candidate negatives, memory-mapped; possibly no rows."""
        return _mapped(self.documents_path)

    def discard(self) -> None:
        """Delete the files; tables mapped from them stay readable."""
        self.examples_path.unlink()
        self.documents_path.unlink()


def adapt(job: AdaptJob) -> AdaptResult:
    """Run the adapter of ``job.card`` and write what it gives.

    Raises:
        InputError: the raw files cannot be used.
        OutputError: the Arrow files cannot be written.
    """
    ledger = Ledger(job.card.name)
    stem = job.card.name.replace("/", "--")
    examples_path = job.folder / f"{stem}.examples.arrow"
    documents_path = job.folder / f"{stem}.documents.arrow"
    with _no_garbage_collection():
        adapted = ADAPTERS[job.card.options.adapter](job.card, job.inputs, ledger)
        kept = keep_whole_queries(adapted.examples, job.cap, job.seed, ledger)
        rows = _write(examples_path, EXAMPLES, number_repeats(kept))
        _write(documents_path, DOCUMENTS, adapted.documents if rows else ())  # nobody is there to choose among them
    licence = adapted.licence or job.card.licence
    return AdaptResult(adapted.kind, dict(adapted.fields), ledger.to_dict(), examples_path, documents_path, licence)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows make no circles, but so many objects that the collector would look at all of them again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def keep_whole_queries(
    batches: Iterable[pa.RecordBatch], cap: int, seed: int, ledger: Ledger
) -> Iterator[pa.RecordBatch]:
    """Keep at most ``cap`` examples: those of the queries with the smallest seeded hashes, in their old order.

    All rows of a query stay or go together: a positive that was left out could otherwise come back as a
    "negative" of the same query. At most about twice ``cap`` rows are held at any time.

    Args:
        batches: of schema ``EXAMPLES``.
        cap: most rows to keep; 0 keeps all, in one pass.
        seed: of the hash.
        ledger: rows left out are counted as ``over_cap`` in stage "sample".
    """
    if cap == 0:
        yield from batches
        return
    held = _Held()
    for batch in batches:
        held.add(batch, _hashes(batch, seed))
        if held.rows > 2 * cap + batch.num_rows:
            # The cap-th smallest hash so far bounds what can still be chosen; later rows pass the same test.
            held.prune(int(np.partition(held.hashes(), cap)[cap]))
    total = held.seen
    if held.rows > cap:
        hashes = held.hashes()
        held.keep(_whole_queries(hashes, cap))
    ledger.drop("sample", "over_cap", total - held.rows)
    yield from held.batches


def _whole_queries(hashes: npt.NDArray[np.uint64], cap: int) -> npt.NDArray[np.bool_]:
    """Mask over rows: the most whole queries that fit in ``cap`` rows; of one query too big for it, a part."""
    first_out = np.partition(hashes, cap)[cap]
    mask: npt.NDArray[np.bool_] = hashes < first_out
    if not mask.any():
        mask = np.cumsum(hashes == first_out) <= cap
        mask &= hashes == first_out
    return mask


@dataclass
class _Held:
    """Rows that may still be chosen, with the hash of their query."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    parts: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    bound: int | None = None
    seen: int = 0
    rows: int = 0

    def add(self, batch: pa.RecordBatch, hashes: npt.NDArray[np.uint64]) -> None:
        self.seen += batch.num_rows
        if self.bound is not None:
            mask = hashes <= self.bound
            batch, hashes = batch.filter(pa.array(mask)), hashes[mask]
        self.batches.append(batch)
        self.parts.append(hashes)
        self.rows += batch.num_rows

    def hashes(self) -> npt.NDArray[np.uint64]:
        return np.concatenate(self.parts)

    def prune(self, bound: int) -> None:
        self.bound = bound
        self.keep(self.hashes() <= bound)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        pieces = np.split(mask, np.cumsum([len(part) for part in self.parts])[:-1])
        self.batches = [b.filter(pa.array(m)) for b, m in zip(self.batches, pieces, strict=True)]
        self.parts = [part[m] for part, m in zip(self.parts, pieces, strict=True)]
        self.rows = int(mask.sum())


def _hashes(batch: pa.RecordBatch, seed: int) -> npt.NDArray[np.uint64]:
    queries = batch.column("query").cast(pa.binary()).to_pylist()
    return np.fromiter((xxhash.xxh64_intdigest(q, seed) for q in queries), np.uint64, len(queries))


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write an Arrow file and tell how many rows it has."""
    rows = 0
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); make room or choose another --out") from error
    return rows


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

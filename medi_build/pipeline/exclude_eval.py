"""``exclude_eval``: no text of these evaluations goes into mining, so that none comes out of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Bools, Ints
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.reader import ExcludedSet
from medi_build.dataset.receipt import Receipt
from medi_build.errors import OptionError
from medi_build.evaluate.contamination.against import MTEB, ReadSet, batches, open_against
from medi_build.evaluate.contamination.index import EvaluationIndex, open_index, write_index
from medi_build.evaluate.contamination.match import VERSION
from medi_build.evaluate.contamination.scan import check
from medi_build.ledger import Ledger
from medi_build.progress import Silent

REASON = "evaluation_text"
"""Under which examples are dropped, with a colon and the name of the evaluation set behind it."""
_ROWS = 1024


@dataclass(frozen=True)
class Excluded:
    """Evaluation texts that a build leaves out; picklable.

    Attributes:
        index: folder of their index.
        sets: what was read.
    """

    index: Path
    sets: tuple[ReadSet, ...]

    @property
    def identity(self) -> list[str]:
        """What decides which texts are left out."""
        return [str(VERSION), *(f"{one.name} {one.digest}" for one in self.sets)]


def read_excluded(given: Sequence[str], index: Path, offline: bool, progress: Callable[[int], None]) -> Excluded | None:
    """Read evaluation sets and index them; None where none are given.

    Args:
        given: as for `medi_build.evaluate.contamination.against.open_against`.
        index: a folder that is not there yet.
        offline: nothing may be fetched.
        progress: called with the number of texts done.

    Raises:
        EvaluationError: there is no such set, or one has no text.
        InputError: a file cannot be read.
        OptionError: offline, and a set comes from the hub.
    """
    if not given:
        return None
    from huggingface_hub.constants import HF_HUB_OFFLINE

    remote = [one for one in given if one.startswith(MTEB)]
    if offline and remote and not HF_HUB_OFFLINE:
        raise OptionError(
            f"exclude_eval {remote[0]}: comes from the hub, and nothing may be fetched (offline); give a folder or "
            "file, or set HF_HUB_OFFLINE=1 to take it from the hub's cache"
        )
    read: list[ReadSet] = []
    write_index(batches(open_against(given), read), index, progress)
    return Excluded(index, tuple(read))


@contextmanager
def opened_excluded(pipeline: Pipeline, work: Path, progress: Silent) -> Iterator[Excluded | None]:
    """The evaluation texts that stay out of a build, indexed below ``work`` for as long. Raises as `read_excluded`."""
    given = pipeline.exclude_eval
    if given:
        progress.stage(", ".join(given), "evaluation texts")
    try:
        yield read_excluded(given, work / "evaluation", pipeline.offline, lambda done: progress.advance(done, None))
    finally:
        close_index()


def without_evaluation_texts(
    examples: pa.Table, documents: pa.Table, excluded: Excluded, ledger: Ledger
) -> tuple[pa.Table, pa.Table]:
    """Examples (schema ``EXAMPLES``) and documents (``DOCUMENTS``) that hold no text of these evaluations.

    An example whose query or one of whose positives does is dropped under the first set that it is found in. Of given
    negatives and of documents only the texts themselves go: the example gets other negatives.
    """
    index = _opened(excluded.index)
    kept = [
        _clean_examples(batch, sets, excluded, ledger)
        for batch, sets in _sets(index, examples, ("query", "positives", "negatives"))
    ]
    others = []
    for batch, sets in _sets(index, documents, ("text",)):
        others.append(batch.filter(pa.array(sets < 0)))
        ledger.note("evaluation_text_documents", int((sets >= 0).sum()))
    return pa.Table.from_batches(kept, examples.schema), pa.Table.from_batches(others, documents.schema)


@cache
def _opened(folder: Path) -> EvaluationIndex:
    """An index that the units built in this process share."""
    return open_index(folder)


def close_index() -> None:
    """Let go of the index, before its files are removed."""
    _opened.cache_clear()


def _sets(index: EvaluationIndex, table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, Ints]]:
    """Batches of a table, and for each text of their columns, one column after another, the first set that it is in.

    -1 stands for none.
    """

    def texts() -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        for batch in table.to_batches(max_chunksize=_ROWS):
            flat = [_flat(batch[column]).cast(pa.large_string()) for column in columns]
            yield batch, pa.concat_arrays(flat)

    for checked in check(index, texts()):
        hits = checked.hits
        first = (min((hit.set for hit in hits.get(key, ())), default=-1) for key in checked.keys)
        yield checked.value, np.fromiter(first, np.int64, len(checked.keys))


def _flat(column: pa.Array) -> pa.Array:
    return pc.list_flatten(column) if pa.types.is_list(column.type) else column


def _clean_examples(batch: pa.RecordBatch, sets: Ints, excluded: Excluded, ledger: Ledger) -> pa.RecordBatch:
    """A batch without the examples and negatives that hold evaluation text; ``sets`` of all its texts."""
    count, positives = batch.num_rows, pc.list_parent_indices(batch["positives"]).to_numpy()
    none = len(excluded.sets)
    first = np.where(sets[:count] < 0, none, sets[:count])
    own = sets[count : count + len(positives)]
    np.minimum.at(first, positives, np.where(own < 0, none, own))
    for number, one in enumerate(excluded.sets):
        ledger.drop("sample", f"{REASON}:{one.name}", int((first == number).sum()))
    negative = sets[count + len(positives) :] < 0
    ledger.note("evaluation_text_negatives", int((~negative).sum()))
    place = batch.schema.get_field_index("negatives")
    cleaned = batch.set_column(place, batch.schema.field(place), _without(batch["negatives"], negative))
    return cleaned.filter(pa.array(first == none))


def _without(lists: pa.Array, kept: Bools) -> pa.Array:
    """Lists with those of their values that are kept."""
    total = np.r_[0, np.cumsum(kept)]
    ends = np.r_[0, np.cumsum(pc.list_value_length(lists).to_numpy())]
    values = pc.list_flatten(lists).filter(pa.array(kept))
    return pa.ListArray.from_arrays(pa.array(total[ends], pa.int32()), values, type=lists.type)


def excluded_sets(excluded: Excluded | None, receipts: Sequence[Receipt]) -> list[ExcludedSet]:
    """What the manifest tells: each set, and the examples that were dropped under its name."""
    if excluded is None:
        return []
    dropped: list[Mapping[str, int]] = [
        Ledger.from_dict(receipt.ledger).dropped.get("sample", {}) for receipt in receipts
    ]
    return [
        ExcludedSet(
            name=one.name,
            texts=one.texts,
            sha256=one.digest,
            dropped=sum(reasons.get(f"{REASON}:{one.name}", 0) for reasons in dropped),
        )
        for one in excluded.sets
    ]

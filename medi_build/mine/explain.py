"""Writes down what mining looked at, block by block, for `medi_build.dataset.explanations`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.arrays import Bools, Floats32, Floats64, Ints
from medi_build.dataset.explanations import (
    EXPLANATIONS,
    LIFTED,
    LONGEST_TEXT,
    MARKED,
    SCORES,
    SKIPPED,
    SPARE,
    TAKEN,
    TEXTS,
)
from medi_build.files import FileEntry, HashingFile, atomic_file, entry
from medi_build.mine.select import GIVEN, GIVEN_NAME, RANDOM_NAME, UNRANKED, Candidates, Verdicts
from medi_build.mine.texts import UniqueTexts
from medi_build.search.ranking import NOTHING, Ranking

ROWS_AT_ONCE = 4096
TEXTS_AT_ONCE = 8192


class Looked(NamedTuple):
    """What was looked at for some rows.

    Attributes:
        ids: [r] of the rows.
        candidates: [r, c].
        verdicts: of each.
        found_by: number in ``names`` of what found each, int16 [r, c].
        names: what finds candidates.
        scores: further scores by name, [r, c] each.
    """

    ids: pl.Series
    candidates: Candidates
    verdicts: Verdicts
    found_by: npt.NDArray[np.int16]
    names: Sequence[str]
    scores: Mapping[str, Floats32 | Floats64]


class Explainer:
    """Takes what was looked at and writes it; texts that were candidates are kept in mind by their numbers."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._texts: UniqueTexts | None = None
        self._seen = np.zeros(0, dtype=bool)
        self.rows = 0

    def add(self, looked: Looked, texts: UniqueTexts) -> None:
        """Write down some rows; ``texts`` are the same for all rows of a dataset."""
        if self._texts is None:
            self._texts, self._seen = texts, np.zeros(len(texts), dtype=bool)
        for start in range(0, len(looked.ids), ROWS_AT_ONCE):
            table = _table(looked, slice(start, start + ROWS_AT_ONCE))
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            self.rows += table.num_rows
        ids = looked.candidates.ids
        self._seen[ids[ids != NOTHING]] = True

    def texts(self) -> Iterator[pa.Table]:
        """All texts that were a candidate, by their numbers."""
        numbers = np.flatnonzero(self._seen)
        for start in range(0, len(numbers), TEXTS_AT_ONCE):
            some = numbers[start : start + TEXTS_AT_ONCE]
            assert self._texts is not None
            beginnings = self._texts.text(some).str.slice(0, LONGEST_TEXT)
            strings = (one.to_arrow().cast(pa.string()) for one in (self._texts.id(some), beginnings))
            yield pa.table([pa.array(some), *strings], schema=TEXTS)


class Explained:
    """The files of `explaining`, once it is done."""

    files: Sequence[FileEntry] = ()


@contextmanager
def explaining(paths: tuple[Path, Path], out: Path) -> Iterator[tuple[Explainer, Explained]]:
    """Write the explanations of one dataset; both files are there when the block ends without an error.

    Args:
        paths: of the explanations and of their texts.
        out: the output folder.

    Raises:
        OutputError: they cannot be written.
    """
    done = Explained()
    with atomic_file(paths[0]) as file, _writer(file, EXPLANATIONS) as writer:
        explainer = Explainer(writer)
        yield explainer, done
    with atomic_file(paths[1]) as texts_file, _writer(texts_file, TEXTS) as writer:
        count = 0
        for table in explainer.texts():
            writer.write_table(table, row_group_size=table.num_rows)
            count += table.num_rows
    done.files = (entry(paths[0], out, file, explainer.rows), entry(paths[1], out, texts_file, count))


def _writer(file: HashingFile, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(pa.PythonFile(file, "w"), schema, version="2.6", compression="zstd", compression_level=3)


# --- what is said of the candidates -----------------------------------------------------------------------------------


def tell_picked(verdicts: Verdicts, ids: Ints, allowed: Bools, picked: Ints) -> None:
    """Say which of the candidates [r, c] that were left over by the filters are among the picked [r, n]."""
    rejected = verdicts.codes != 0
    taken = allowed & found_in(picked, ids)
    verdicts.say(allowed & ~taken & ~rejected, SPARE)
    verdicts.say(taken & ~rejected, TAKEN)
    verdicts.say(taken & rejected, LIFTED)


def looked_at(
    ids: pl.Series,
    candidates: Candidates,
    verdicts: Verdicts,
    skipped: Ranking,
    marked: Ranking,
    rankings: Mapping[str, Ranking],
    scores: Mapping[str, Floats32 | Floats64],
) -> Looked:
    """All that was looked at for some rows, and what never was a candidate.

    Args:
        ids: [r] of the rows.
        candidates: [r, c].
        verdicts: of these.
        skipped: what is ranked before them.
        marked: texts that somebody marked.
        rankings: by the names of what made them.
        scores: further ones of the candidates, by name, [r, c].
    """
    own, before = candidates.ids.shape[1], skipped.ids.shape[1]
    all_ids, end = np.concatenate([candidates.ids, skipped.ids, marked.ids], axis=1), own + before
    ranks = np.full(all_ids.shape, UNRANKED, dtype=np.int32)
    ranks[:, :own], ranks[:, own:end] = candidates.ranks, np.arange(before)
    every = Verdicts(all_ids.shape)
    every.names, every.codes[:, :own] = list(verdicts.names), verdicts.codes
    column, there = np.arange(all_ids.shape[1]), all_ids != NOTHING
    every.say(there & (column >= own) & (column < end), SKIPPED)
    every.say(there & (column >= end), MARKED)
    bits = _bits(list(rankings.values()), all_ids)
    names = [GIVEN_NAME, *("+".join(_of(list(rankings), bit)) for bit in range(1, 2 ** len(rankings)))]
    bits[ranks == GIVEN], bits[ranks == UNRANKED], bits[:, end:] = 0, len(names), len(names) + 1
    further = {name: np.full(all_ids.shape, np.nan, dtype=np.float32) for name in scores}
    for name, known in scores.items():
        further[name][:, :own] = known
    cosines = np.concatenate([candidates.scores, skipped.scores, marked.scores], axis=1)
    return Looked(
        ids=ids,
        candidates=Candidates(all_ids, cosines, ranks),
        verdicts=every,
        found_by=bits,
        names=[*names, RANDOM_NAME, MARKED],
        scores=further,
    )


def found_in(lists: Ints, ids: Ints) -> Bools:
    """Which candidates [r, c] stand in their row's list [r, k]; -1 stands in none."""
    width = int(max(ids.max(initial=0), lists.max(initial=0))) + 1
    rows = np.arange(len(ids), dtype=np.int64)[:, None] * width
    there: Bools = np.isin(rows + ids, (rows + lists)[lists != NOTHING]) & (ids != NOTHING)
    return there


def _bits(rankings: Sequence[Ranking], ids: Ints) -> npt.NDArray[np.int16]:
    """Which of some rankings have each candidate [r, c], as a sum of powers of two."""
    found = np.zeros(ids.shape, dtype=np.int16)
    for bit, ranking in enumerate(rankings):
        found |= found_in(ranking.ids, ids).astype(np.int16) << bit
    return found


def _of(names: Sequence[str], bits: int) -> list[str]:
    return [name for bit, name in enumerate(names) if bits >> bit & 1]


def _table(looked: Looked, rows: slice) -> pa.Table:
    """Some rows with schema ``EXPLANATIONS``."""
    candidates = looked.candidates.rows(rows)
    there = candidates.ids != NOTHING
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))

    def lists(name: str, values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values, type=EXPLANATIONS.field(name).type)

    def named(codes: npt.NDArray[np.int8] | npt.NDArray[np.int16], names: Sequence[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes[rows][there].astype(np.int16)), pa.array(names))

    scores = {"score": looked.candidates.scores, **looked.scores}
    missing = np.full(there.sum(), np.nan, dtype=np.float32)
    columns = {
        "id": looked.ids[rows].to_arrow().cast(pa.string()),
        "candidate": lists("candidate", pa.array(candidates.ids[there])),
        "rank": lists("rank", pa.array(candidates.ranks[there].astype(np.int32))),
        "found_by": lists("found_by", named(looked.found_by, looked.names)),
        "verdict": lists("verdict", named(looked.verdicts.codes, looked.verdicts.names)),
        **{
            name: lists(name, pa.array(scores[name][rows][there].astype(np.float32) if name in scores else missing))
            for name in SCORES
        },
    }
    return pa.table(columns, schema=EXPLANATIONS)

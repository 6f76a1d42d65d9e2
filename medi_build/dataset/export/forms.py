"""Records of one dataset as ``TUPLES``, the table that all of other libraries' forms are made from."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.dataset.formats import TUPLES

InText = Literal["nothing", "documents", "all"]
"""The sides whose instructions stand in front of their texts: where a form has no other place for them."""

_TEXTS, _SCORES = TUPLES.field("negatives").type, TUPLES.field("negative_scores").type


class Tuples(NamedTuple):
    """A table of schema ``TUPLES``, and how many of its rows had fewer negatives than they have now."""

    table: pa.Table
    filled: int


def to_tuples(records: pa.Table, in_text: InText, negatives: int | None = None) -> Tuples:
    """``TUPLES`` of records.

    Args:
        records: schema ``RECORDS``.
        in_text: where an instruction stands in a text, it is ``instruction + text`` to the letter, as
            sentence-transformers puts a prompt there; ``instruction`` of the result is that of the query even then.
        negatives: how many each row shall have: rows with fewer repeat theirs in turn. None leaves them as they are.
    """
    query, pos, neg = (_sides(records[name]) for name in ("query", "pos", "neg"))
    further = records["hard_negatives"].combine_chunks()
    scores = records["hard_negative_scores"].combine_chunks()
    lengths = pc.list_value_length(further).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    taken, offsets = _plan(lengths, negatives)
    texts = pa.concat_arrays([neg.text, pc.list_flatten(further)]).take(taken)
    values = pa.concat_arrays([records["neg_score"].combine_chunks(), pc.list_flatten(scores)]).take(taken)
    join = _join_to(in_text)
    if in_text != "nothing":
        row = pa.array(np.repeat(np.arange(len(lengths)), np.diff(offsets)))
        texts = join("documents", neg.instruction.take(row), texts)
    starts = pa.array(offsets.astype(np.int32))
    nothing = pa.array(np.zeros(len(lengths) + 1, np.int32))
    columns = {
        "id": records["id"],
        "instruction": query.instruction,
        "query": join("query", query.instruction, query.text),
        "pos": join("documents", pos.instruction, pos.text),
        "pos_score": records["pos_score"],
        "further_positives": pa.ListArray.from_arrays(nothing, pa.array([], pa.string()), type=_TEXTS),
        "further_scores": pa.ListArray.from_arrays(nothing, pa.array([], pa.float32()), type=_SCORES),
        "negatives": pa.ListArray.from_arrays(starts, texts, type=_TEXTS),
        "negative_scores": pa.ListArray.from_arrays(starts, values, type=_SCORES),
    }
    return Tuples(pa.table(columns, schema=TUPLES), int((lengths < (negatives or 0)).sum()))


class Side(NamedTuple):
    """Instructions [n] and texts [n] of one side of the records."""

    instruction: pa.Array
    text: pa.Array


def _sides(column: pa.ChunkedArray) -> Side:
    pairs = column.combine_chunks()
    return Side(pc.list_element(pairs, 0), pc.list_element(pairs, 1))


def instructions_of(records: pa.Table) -> set[tuple[str, str]]:
    """The different ``(query side, document side)`` in the records. Schema ``RECORDS``."""
    sides = [_sides(records[name]).instruction for name in ("query", "pos", "neg")]
    found = pa.table(sides, names=["query", "pos", "neg"]).group_by(["query", "pos", "neg"]).aggregate([])
    return {(row["query"], row[side]) for row in found.to_pylist() for side in ("pos", "neg")}


def most_negatives(records: pa.Table) -> int:
    """Negatives of the record that has most; the column ``hard_negative_ranks`` is enough."""
    return int(pc.max(pc.list_value_length(records["hard_negative_ranks"])).as_py() or 0) + 1


def _join_to(in_text: InText) -> Callable[[str, pa.Array, pa.Array], pa.Array]:
    def join(side: str, instruction: pa.Array, text: pa.Array) -> pa.Array:
        stands = in_text in ("all", side)
        return pc.binary_join_element_wise(instruction, text, "") if stands else text

    return join


def _plan(lengths: np.ndarray[Any, Any], negatives: int | None) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Where each negative stands among the n first ones and, behind them, all further ones; int64 offsets [n + 1]."""
    rows = len(lengths)
    wanted = lengths if negatives is None else np.full(rows, negatives, np.int64)
    offsets = np.concatenate([[0], np.cumsum(wanted)])
    row = np.repeat(np.arange(rows), wanted)
    place = (np.arange(offsets[-1]) - offsets[row]) % lengths[row]
    further = rows + np.concatenate([[0], np.cumsum(lengths - 1)])[row] + place - 1
    return pa.array(np.where(place == 0, row, further)), offsets

"""Puts examples, mined pairs and instructions together into ``RECORDS``, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medi_build.arrays import take_rows
from medi_build.content.instructions import Instructions
from medi_build.dataset.schema import RECORDS


def assemble(
    examples: pa.Table,
    mined: Iterable[pa.Table],
    phrasings: Sequence[Instructions],
    seed: int,
    task_id: int,
    task_name: str,
) -> Iterator[pa.Table]:
    """Yield a table of schema ``RECORDS`` for each table of ``mined``, in their order.

    Args:
        examples: schema ``EXAMPLES``; may be memory-mapped, only the rows of the step are touched.
        mined: of schema ``MINED``, streamed; ``row`` ascends.
        phrasings: one entry: every record gets it; several: each record gets one by a seeded hash of its id,
            the same on both sides.
        seed: of that choice.
        task_id: id of the dataset.
        task_name: name of the dataset.
    """
    for step in mined:
        rows = take_rows(examples, step["row"].to_numpy()).combine_chunks()
        chosen = _phrasing_of(rows["id"], len(phrasings), seed)
        query = _instruction_column([p.query for p in phrasings], chosen)
        document = _instruction_column([p.document for p in phrasings], chosen)
        size = step.num_rows
        columns = {
            "query": _pair(query, rows["query"]),
            "pos": _pair(document, step["pos"]),
            "neg": _pair(document, step["neg"]),
            "task_id": pa.repeat(pa.scalar(task_id, pa.int32()), size),
            "task_name": pa.repeat(pa.scalar(task_name), size),
            "id": rows["id"],
            "labels": rows["labels"],
            "groups": rows["groups"],
            "source_file": rows["source_file"],
            "source_row": rows["source_row"],
        }
        copied = {name: step[name] for name in RECORDS.names if name not in columns}
        yield pa.table([columns.get(name, copied.get(name)) for name in RECORDS.names], schema=RECORDS)


def _phrasing_of(ids: pa.ChunkedArray, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Index of each record's phrasing, int64 [n]."""
    if count == 1:
        return np.zeros(len(ids), np.int64)
    hashes = (xxhash.xxh64_intdigest(text, seed) for text in ids.cast(pa.binary()).to_pylist())
    return np.fromiter((value % count for value in hashes), np.int64, len(ids))


def _instruction_column(texts: list[str], chosen: npt.NDArray[np.int64]) -> pa.Array:
    return pc.take(pa.array(texts, pa.string()), pa.array(chosen))


def _pair(instruction: pa.Array, text: pa.ChunkedArray) -> pa.Array:
    """Lists ``[instruction, text]`` from two columns of n strings."""
    count = len(instruction)
    values = pa.concat_arrays([instruction, *text.chunks])
    order = np.arange(2 * count).reshape(2, count).T.reshape(-1)
    return pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * count + 1, 2), pa.int32()),
        values.take(pa.array(order)),
        type=RECORDS.field("query").type,
    )

"""Mined pairs in the forms that other training libraries read.

All forms are made from one table, ``TUPLES``: a query, its positive and its negatives. sentence-transformers' forms
are Parquet files that ``datasets.load_dataset`` reads; FlagEmbedding's and Tevatron's are JSON lines.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medi_build.arrays import take_rows
from medi_build.dataset.passages import Passages
from medi_build.dataset.schema import MINED
from medi_build.errors import OutputError, did_you_mean
from medi_build.files import atomic_file, remove_left_behind

Format = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list", "flagembedding", "tevatron"]
FILES: dict[Format, str] = {
    "triplet": "triplet.parquet",
    "n-tuple": "n-tuple.parquet",
    "labeled-pair": "labeled-pair.parquet",
    "labeled-list": "labeled-list.parquet",
    "flagembedding": "flagembedding.jsonl",
    "tevatron": "tevatron.jsonl",
}
"""Name of the file of each form."""
ROWS_AT_ONCE = 1024
"""Of JSON lines, made as Python values."""

_ToLines = Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]
"""Rows of ``TUPLES`` -> lines."""
Score = Callable[[list[str], list[str]], np.ndarray[Any, Any]]
"""Scores [n] of queries [n] and texts [n]."""

_TEXTS, _SCORES = MINED.field("hard_negatives").type, MINED.field("hard_negative_scores").type
TUPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),  # of the query side, empty where there is none
        pa.field("query", pa.string(), nullable=False),
        pa.field("pos", pa.string(), nullable=False),
        pa.field("pos_score", pa.float32(), nullable=False),
        pa.field("further_positives", _TEXTS, nullable=False),  # those of the row that are not `pos`
        pa.field("further_scores", _SCORES, nullable=False),  # of those, NaN where nothing was scored
        pa.field("negatives", _TEXTS, nullable=False),  # hardest first
        pa.field("negative_scores", _SCORES, nullable=False),
    ]
)


def from_mined(examples: pa.Table, mined: pa.Table, instruction: str = "", score: Score | None = None) -> pa.Table:
    """``TUPLES`` of mined rows (schema ``MINED``) and the examples they were mined from.

    Args:
        examples: schema ``EXAMPLES``.
        mined: schema ``MINED``, a block of it (`medi_build.mine.result.Mined.tables`).
        instruction: of the query side.
        score: scores the positives of a row that mining did not choose; None leaves them NaN.
    """
    rows = take_rows(examples.select(["id", "query", "positives"]), mined["row"].to_numpy()).combine_chunks()
    others = _others(rows["positives"], mined["pos"])
    queries = rows["query"].to_pylist() if len(others.values) else []
    asked = [queries[row] for row in pc.list_parent_indices(others).to_pylist()]
    scores = np.full(len(asked), np.nan) if score is None else score(asked, pc.list_flatten(others).to_pylist())
    further = pc.list_value_length(mined["hard_negatives"]).to_numpy().astype(np.int64)
    columns = {
        "id": rows["id"],
        "instruction": pa.repeat(pa.scalar(instruction), mined.num_rows),
        "query": rows["query"],
        "pos": mined["pos"],
        "pos_score": mined["pos_score"],
        "further_positives": others,
        "further_scores": pa.ListArray.from_arrays(others.offsets, pa.array(scores, pa.float32()), type=_SCORES),
        "negatives": _prepend(mined["neg"], pc.list_flatten(mined["hard_negatives"]), further, _TEXTS),
        "negative_scores": _prepend(
            mined["neg_score"], pc.list_flatten(mined["hard_negative_scores"]), further, _SCORES
        ),
    }
    return pa.table(columns, schema=TUPLES)


def _others(lists: pa.ChunkedArray, chosen: pa.ChunkedArray) -> pa.Array:
    """Each list without the text that was chosen of it; those of one text, as most are, cost no Python."""
    several = np.flatnonzero(pc.list_value_length(lists).to_numpy() > 1)
    others: list[list[str]] = [[]] * len(lists)
    rows = pa.array(several)
    for row, texts, text in zip(several, lists.take(rows).to_pylist(), chosen.take(rows).to_pylist(), strict=True):
        others[row] = [other for other in texts if other != text]
    return pa.array(others, _TEXTS)


def write_formats(
    tables: Iterable[pa.Table],
    forms: Sequence[Format],
    folder: Path,
    *,
    negatives: int,
    scores: bool = False,
    passages: Passages | None = None,
) -> dict[Format, int]:
    """Write tables of schema ``TUPLES``, each form to its file (`FILES`); a file appears whole or not at all.

    Args:
        tables: the data, in parts that are read once; no more than one of them is held.
        forms: the forms. ``triplet`` has a row per negative; ``n-tuple`` a row per query with ``negatives`` negative
            columns, queries with fewer are left out; ``labeled-pair`` a row per text and ``labeled-list`` a row per
            query, labels 1 and 0.
        folder: made if it is not there. What a killed process left half-written under a temporary name is removed.
        negatives: most negatives of any query.
        scores: with the scores of query and text, named as sentence-transformers' ``output_scores`` names them:
            ``scores`` (the positive's, then each negative's) beside ``triplet`` and ``n-tuple`` and in place of the
            ``labels`` of ``labeled-list``, ``score`` in place of the ``label`` of ``labeled-pair``.
            ``flagembedding`` has them always (null where nothing was scored), ``tevatron`` has no place for them.
        passages: ids and titles of texts, which ``tevatron`` has; None where no text has its own.

    Returns:
        How many rows each form has.

    Raises:
        OutputError: an unknown form, or a file cannot be written.
    """
    for form in forms:
        if form not in FILES:
            raise OutputError(f"unknown format {form!r}{did_you_mean(form, FILES)}; known: {', '.join(FILES)}")
    rows: Counter[Format] = Counter(dict.fromkeys(forms, 0))
    with ExitStack() as files:
        write: dict[Format, Callable[[pa.Table], int]] = {}
        for form in rows:
            path = folder / FILES[form]
            remove_left_behind(folder, FILES[form])
            opened = form_file(path, form, negatives=negatives, scores=scores, passages=passages)
            write[form] = files.enter_context(opened)
        for table in tables:
            for form, add in write.items():
                rows[form] += add(table)
    return dict(rows)


def form_file(
    path: Path,
    form: Format,
    *,
    negatives: int,
    scores: bool = False,
    passages: Passages | None = None,
    prompts: bool = False,
) -> AbstractContextManager[Callable[[pa.Table], int]]:
    """One file of one form; gives what adds a table of schema ``TUPLES`` to it and returns how many rows that made.

    Arguments as of `write_formats`; with ``prompts`` a line of ``flagembedding`` has a ``prompt`` even where it is
    empty, for files that are read together: a line without one would read "None" there.
    """
    if form in _TABLES:
        return _parquet_file(path, partial(_TABLES[form], scores=scores, negatives=negatives))
    to_lines = partial(_flagembedding, prompts=prompts) if form == "flagembedding" else (passages or Passages()).lines
    return _line_file(path, to_lines)


def _prepend(heads: Any, tails: Any, lengths: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    """Lists of a head and the next so many of the tails, without a Python loop."""
    if not len(lengths):
        return pa.array([], type=kind)
    ends = np.cumsum(lengths + 1)
    flat = pa.concat_arrays([*_chunks(heads), *_chunks(tails)])
    order = np.empty(int(ends[-1]), dtype=np.int64)
    starts = ends - lengths - 1
    order[starts] = np.arange(len(lengths))
    rest = np.ones(len(order), dtype=bool)
    rest[starts] = False
    order[rest] = len(lengths) + np.arange(int(lengths.sum()))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, flat.take(pa.array(order)), type=kind)


def _chunks(column: Any) -> list[pa.Array]:
    return cast(list[pa.Array], column.chunks if isinstance(column, pa.ChunkedArray) else [column])


def _lengths(table: pa.Table) -> np.ndarray[Any, Any]:
    return cast(np.ndarray[Any, Any], pc.list_value_length(table["negatives"]).to_numpy().astype(np.int64))


def _scores(table: pa.Table) -> pa.Array:
    """For each query the positive's score, then each negative's."""
    return _prepend(table["pos_score"], pc.list_flatten(table["negative_scores"]), _lengths(table), _SCORES)


def _triplets(table: pa.Table, *, scores: bool, negatives: int) -> pa.Table:
    row = pc.list_parent_indices(table["negatives"])
    columns = {
        "anchor": table["query"].take(row),
        "positive": table["pos"].take(row),
        "negative": pc.list_flatten(table["negatives"]),
    }
    if scores:
        one = np.ones(len(row), dtype=np.int64)
        columns["scores"] = _prepend(
            table["pos_score"].take(row), pc.list_flatten(table["negative_scores"]), one, _SCORES
        )
    return pa.table(columns)


def _n_tuples(table: pa.Table, *, scores: bool, negatives: int) -> pa.Table:
    full = table.filter(pc.greater_equal(pc.list_value_length(table["negatives"]), negatives))
    columns = {"anchor": full["query"], "positive": full["pos"]}
    for place in range(negatives):
        columns[f"negative_{place + 1}"] = pc.list_element(full["negatives"], place)
    if scores:
        columns["scores"] = pc.list_slice(_scores(full), 0, negatives + 1)
    return pa.table(columns)


def _labeled_lists(table: pa.Table, *, scores: bool, negatives: int) -> pa.Table:
    lengths = _lengths(table)
    documents = _prepend(table["pos"], pc.list_flatten(table["negatives"]), lengths, _TEXTS)
    marks = {"scores": _scores(table)} if scores else {"labels": _labels(lengths)}
    return pa.table({"anchor": table["query"], "documents": documents, **marks})


def _labeled_pairs(table: pa.Table, *, scores: bool, negatives: int) -> pa.Table:
    lists = _labeled_lists(table, scores=scores, negatives=negatives)
    row = pc.list_parent_indices(lists["documents"])
    mark = "score" if scores else "label"
    return pa.table(
        {
            "anchor": lists["anchor"].take(row),
            "document": pc.list_flatten(lists["documents"]),
            mark: pc.list_flatten(lists[f"{mark}s"]),
        }
    )


def _labels(lengths: np.ndarray[Any, Any]) -> pa.Array:
    """For each query a 1, then as many 0 as it has negatives."""
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    labels = np.zeros(int(offsets[-1]), dtype=np.int32)
    labels[offsets[:-1]] = 1
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(labels))


def _flagembedding(rows: list[dict[str, Any]], *, prompts: bool) -> Iterator[dict[str, Any]]:
    """An empty ``prompt`` takes the place of the instruction that the trainer is given: only if asked."""
    for row in rows:
        prompt = {"prompt": row["instruction"]} if row["instruction"] or prompts else {}
        yield {
            "query": row["query"],
            "pos": [row["pos"], *row["further_positives"]],
            "neg": row["negatives"],
            "pos_scores": [row["pos_score"], *row["further_scores"]],
            "neg_scores": row["negative_scores"],
            **prompt,
        }


_TABLES: dict[str, Callable[..., pa.Table]] = {
    "triplet": _triplets,
    "n-tuple": _n_tuples,
    "labeled-pair": _labeled_pairs,
    "labeled-list": _labeled_lists,
}


@contextmanager
def _line_file(path: Path, to_lines: _ToLines) -> Iterator[Callable[[pa.Table], int]]:
    """A file of JSON lines; what adds a table to it."""
    with atomic_file(path) as file:

        def add(table: pa.Table) -> int:
            for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
                file.write(b"".join(orjson.dumps(line) + b"\n" for line in to_lines(batch.to_pylist())))
            return int(table.num_rows)

        yield add


@contextmanager
def _parquet_file(path: Path, to_form: Callable[[pa.Table], pa.Table]) -> Iterator[Callable[[pa.Table], int]]:
    """A Parquet file; what adds a table to it, as a row group."""
    schema = to_form(TUPLES.empty_table()).schema
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def add(table: pa.Table) -> int:
            rows = to_form(table)
            if rows.num_rows:
                writer.write_table(rows)
            return int(rows.num_rows)

        yield add

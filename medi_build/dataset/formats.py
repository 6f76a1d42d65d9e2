"""Mined pairs in the forms that other training libraries read.

All forms are made from one table, ``TUPLES``: a query, its positive and its negatives. sentence-transformers' forms
are Parquet files that ``datasets.load_dataset`` reads; FlagEmbedding's and Tevatron's are JSON lines.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from medi_build.dataset.schema import MINED
from medi_build.errors import OutputError, did_you_mean
from medi_build.files import HashingFile, atomic_file

Format = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list", "flagembedding", "tevatron"]

Score = Callable[[list[str], list[str]], np.ndarray[Any, Any]]
"""Scores [n] of queries [n] and texts [n]."""

_TEXTS, _SCORES = MINED.field("hard_negatives").type, MINED.field("hard_negative_scores").type
TUPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),  # of the query side, empty where there is none
        pa.field("query", pa.string(), nullable=False),
        pa.field("pos", pa.string(), nullable=False),
        pa.field("pos_id", pa.string(), nullable=False),
        pa.field("pos_score", pa.float32(), nullable=False),
        pa.field("further_positives", _TEXTS, nullable=False),  # those of the row that are not `pos`
        pa.field("further_scores", _SCORES, nullable=False),  # of those, NaN where nothing was scored
        pa.field("negatives", _TEXTS, nullable=False),  # hardest first
        pa.field("negative_scores", _SCORES, nullable=False),
        pa.field("neg_id", pa.string(), nullable=False),  # of the first negative
    ]
)


def from_mined(examples: pa.Table, mined: pa.Table, instruction: str = "", score: Score | None = None) -> pa.Table:
    """``TUPLES`` of mined rows (schema ``MINED``) and the examples they were mined from.

    Args:
        examples: schema ``EXAMPLES``.
        mined: schema ``MINED``.
        instruction: of the query side.
        score: scores the positives of a row that mining did not choose; None leaves them NaN.
    """
    rows = mined["row"]
    others = _others(examples["positives"].take(rows), mined["pos"])
    asked, texts = examples["query"].take(rows).take(pc.list_parent_indices(others)), pc.list_flatten(others)
    scores = np.full(len(texts), np.nan) if score is None else score(asked.to_pylist(), texts.to_pylist())
    further = pc.list_value_length(mined["hard_negatives"]).to_numpy().astype(np.int64)
    columns = {
        "id": examples["id"].take(rows),
        "instruction": pa.repeat(pa.scalar(instruction), mined.num_rows),
        "query": examples["query"].take(rows),
        "pos": mined["pos"],
        "pos_id": mined["pos_id"],
        "pos_score": mined["pos_score"],
        "further_positives": others,
        "further_scores": pa.ListArray.from_arrays(others.offsets, pa.array(scores, pa.float32()), type=_SCORES),
        "negatives": _prepend(mined["neg"], pc.list_flatten(mined["hard_negatives"]), further, _TEXTS),
        "negative_scores": _prepend(
            mined["neg_score"], pc.list_flatten(mined["hard_negative_scores"]), further, _SCORES
        ),
        "neg_id": mined["neg_id"],
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


def write_format(tables: Iterable[pa.Table], form: Format, path: Path, *, scores: bool = False) -> int:
    """Write tables of schema ``TUPLES``; the file appears whole or not at all.

    Args:
        tables: the data, in parts.
        form: the form. ``triplet`` has a row per negative; ``n-tuple`` a row per query with as many negative columns
            as the first table's longest row, queries with fewer are left out; ``labeled-pair`` a row per text and
            ``labeled-list`` a row per query, labels 1 and 0.
        path: the file.
        scores: with the scores of query and text, named as sentence-transformers' ``output_scores`` names them:
            ``scores`` (the positive's, then each negative's) beside ``triplet`` and ``n-tuple`` and in place of the
            ``labels`` of ``labeled-list``, ``score`` in place of the ``label`` of ``labeled-pair``.
            ``flagembedding`` has them always (null where nothing was scored), ``tevatron`` has no place for them.

    Returns:
        How many rows were written.

    Raises:
        OutputError: an unknown form, nothing to write, or the file cannot be written.
    """
    if form not in get_args(Format):
        raise OutputError(
            f"unknown format {form!r}{did_you_mean(form, get_args(Format))}; known: {', '.join(get_args(Format))}"
        )
    if form in _LINES:
        with atomic_file(path) as file:
            return sum(_write_lines(table, _LINES[form], file) for table in tables)
    return _write_parquet(_TABLES[form](tables, scores), path)


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


def _triplets(tables: Iterable[pa.Table], scores: bool) -> Iterator[pa.Table]:
    for table in tables:
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
        yield pa.table(columns)


def _n_tuples(tables: Iterable[pa.Table], scores: bool) -> Iterator[pa.Table]:
    count = 0
    for table in tables:
        lengths = pc.list_value_length(table["negatives"])
        count = count or pc.max(lengths).as_py() or 0
        full = table.filter(pc.greater_equal(lengths, count)) if count else table
        columns = {"anchor": full["query"], "positive": full["pos"]}
        for place in range(count):
            columns[f"negative_{place + 1}"] = pc.list_element(full["negatives"], place)
        if scores:
            columns["scores"] = pc.list_slice(_scores(full), 0, count + 1)
        yield pa.table(columns)


def _labeled_lists(tables: Iterable[pa.Table], scores: bool) -> Iterator[pa.Table]:
    for table in tables:
        lengths = _lengths(table)
        documents = _prepend(table["pos"], pc.list_flatten(table["negatives"]), lengths, _TEXTS)
        marks = {"scores": _scores(table)} if scores else {"labels": _labels(lengths)}
        yield pa.table({"anchor": table["query"], "documents": documents, **marks})


def _labels(lengths: np.ndarray[Any, Any]) -> pa.Array:
    """For each query a 1, then as many 0 as it has negatives."""
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    labels = np.zeros(int(offsets[-1]), dtype=np.int32)
    labels[offsets[:-1]] = 1
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(labels))


def _labeled_pairs(tables: Iterable[pa.Table], scores: bool) -> Iterator[pa.Table]:
    for lists in _labeled_lists(tables, scores):
        row = pc.list_parent_indices(lists["documents"])
        mark = "score" if scores else "label"
        yield pa.table(
            {
                "anchor": lists["anchor"].take(row),
                "document": pc.list_flatten(lists["documents"]),
                mark: pc.list_flatten(lists[f"{mark}s"]),
            }
        )


def _flagembedding(row: dict[str, Any]) -> dict[str, Any]:
    """An empty ``prompt`` would take the place of the instruction that the trainer is given, so there is none then."""
    prompt = {"prompt": row["instruction"]} if row["instruction"] else {}
    return {
        "query": row["query"],
        "pos": [row["pos"], *row["further_positives"]],
        "neg": row["negatives"],
        "pos_scores": [row["pos_score"], *row["further_scores"]],
        "neg_scores": row["negative_scores"],
        **prompt,
    }


def _tevatron(row: dict[str, Any]) -> dict[str, Any]:
    """Negatives after the first have no id of their own: they are numbered below the query's; positives are hashed."""
    ids = [row["neg_id"], *(f"{row['id']}#negative-{place}" for place in range(1, len(row["negatives"])))]
    return {
        "query_id": row["id"],
        "query": row["query"],
        "positive_passages": [
            {"docid": row["pos_id"], "title": "", "text": row["pos"]},
            *(
                {"docid": xxhash.xxh3_64_hexdigest(text.encode()), "title": "", "text": text}
                for text in row["further_positives"]
            ),
        ],
        "negative_passages": [
            {"docid": key, "title": "", "text": text} for key, text in zip(ids, row["negatives"], strict=True)
        ],
    }


_TABLES: dict[str, Callable[[Iterable[pa.Table], bool], Iterator[pa.Table]]] = {
    "triplet": _triplets,
    "n-tuple": _n_tuples,
    "labeled-pair": _labeled_pairs,
    "labeled-list": _labeled_lists,
}
_LINES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
}


def _write_lines(table: pa.Table, to_line: Callable[[dict[str, Any]], dict[str, Any]], file: HashingFile) -> int:
    for batch in table.to_batches(max_chunksize=1024):
        file.write(b"".join(orjson.dumps(to_line(row)) + b"\n" for row in batch.to_pylist()))
    return int(table.num_rows)


def _write_parquet(parts: Iterable[pa.Table], path: Path) -> int:
    rows, writer = 0, None
    with atomic_file(path) as file:
        for part in parts:
            writer = writer or pq.ParquetWriter(file, part.schema, compression="zstd")
            writer.write_table(part)
            rows += part.num_rows
        if writer is None:
            raise OutputError(f"{path}: there is nothing to write; give at least one table")
        writer.close()
    return rows

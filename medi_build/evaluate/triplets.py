"""Triplets of a built dataset, or of a file of records: is the positive nearer to the query than the negative?"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from medi_build.arrays import Floats32
from medi_build.embedding import Side
from medi_build.errors import EvaluationError
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.results import Result, items_table, save_result
from medi_build.ingest.triplets import TRIPLETS, open_source, read_triplets

SUITE = "triplets"
TASK_TYPE = "Triplets"
ROWS_PER_STEP = 20_000
RECORDS_OWN = "the records' own"
"""How results tell the instructions of a dataset, which are many."""
_SIDES: tuple[tuple[str, Side], ...] = (("query", "query"), ("pos", "document"), ("neg", "document"))


class Margins(NamedTuple):
    """What is known of the triplets.

    Attributes:
        where: file and row of each.
        task: of each.
        margins: cos(query, positive) - cos(query, negative), float32 [n].
        digest: of all texts and instructions, in order.
        skipped: rows without a text on some side.
    """

    where: list[str]
    task: list[str]
    margins: Floats32
    digest: str
    skipped: int


def evaluate_triplets(model: EvaluatedModel, source: Path, out: Path) -> Result:
    """Evaluate a model on the triplets (query, positive, negative) of a source, streaming.

    Instructions are the records' own where the model's are the templates, for that is what the records were rendered
    with; else those of the model. A tie counts as wrong.

    Args:
        model: the model and its instructions.
        source: a folder of `medi build` or `medi mine`, a Parquet file of one, or a medi-data.json.
        out: folder of results.

    Returns:
        The result, which is on disk: ``accuracy`` over all triplets, ``accuracy_mean_of_tasks``, ``mean_margin``, and
        ``accuracy_task_ID`` of each task.

    Raises:
        DatasetError: the folder is not whole.
        InputError: a row is no record, or a file cannot be read.
        EvaluationError: there is no triplet.
    """
    start = time.perf_counter()
    found = triplet_margins(model, source)
    if not len(found.margins):
        raise EvaluationError(f"{source}: has no record with a text on each side ({found.skipped:,} without)")
    right = (found.margins > 0).astype(np.float64)
    tasks = np.array(found.task)
    by_task = {task: float(right[tasks == task].mean()) for task in dict.fromkeys(found.task)}
    own = model.instructions.source == "templates"
    result = Result(
        suite=SUITE,
        task=source.stem if source.is_file() else source.resolve().name,
        task_type=TASK_TYPE,
        model=dict(model.about),
        instructions={
            "source": model.instructions.source,
            **{side: RECORDS_OWN if own else model.told(TASK_TYPE, side) for _, side in _SIDES},
        },
        main_metric="accuracy",
        metrics={
            "accuracy": float(right.mean()),
            "accuracy_mean_of_tasks": float(np.mean(list(by_task.values()))),
            "mean_margin": float(found.margins.mean(dtype=np.float64)),
            **{f"accuracy_task_{task}": value for task, value in by_task.items()},
        },
        statistic="mean",
        counts={"triplets": len(right), "tasks": len(by_task), "without_text": found.skipped},
        settings={"data": str(source), "digest": found.digest},
        seconds=time.perf_counter() - start,
    )
    save_result(out, result, items_table(found.where, right.tolist()))
    return result


def triplet_margins(model: EvaluatedModel, source: Path) -> Margins:
    """The margins of all triplets of a source; see `evaluate_triplets`."""
    parts: list[Floats32] = []
    where: list[str] = []
    task: list[str] = []
    digest, skipped = xxhash.xxh3_128(), 0
    for table in _steps(read_triplets(open_source(source).files)):
        texts = {name: table[f"{name}_text"].to_pylist() for name, _ in _SIDES}
        instructions = {name: table[f"{name}_instruction"].to_pylist() for name, _ in _SIDES}
        whole = [i for i in range(len(table)) if all((texts[name][i] or "").strip() for name, _ in _SIDES)]
        skipped += len(table) - len(whole)
        vectors = []
        for name, side in _SIDES:
            kept, own = [texts[name][i] for i in whole], [instructions[name][i] or "" for i in whole]
            digest.update(repr((name, own, kept)).encode(errors="surrogatepass"))
            vectors.append(_vectors(model, kept, own, side))
        query, pos, neg = vectors
        parts.append((query * (pos - neg)).sum(axis=-1, dtype=np.float32))
        names, ids = table["where"].to_pylist(), table["task"].to_pylist()
        where += [names[i] for i in whole]
        task += [ids[i] for i in whole]
    margins = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return Margins(where, task, margins, digest.hexdigest(), skipped)


def _steps(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The records, a step's worth at a time."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROWS_PER_STEP:
            yield pa.Table.from_batches(held, TRIPLETS)
            held = []
    if held:
        yield pa.Table.from_batches(held, TRIPLETS)


def _vectors(model: EvaluatedModel, texts: Sequence[str], own: Sequence[str], side: Side) -> Any:
    """Vectors, float32 [n, d], of texts under instructions of their own or under the model's."""
    if model.instructions.source != "templates":
        return model.vectors(texts, TASK_TYPE, side)
    groups: dict[str, list[int]] = {}
    for row, instruction in enumerate(own):
        groups.setdefault(instruction, []).append(row)
    found: Any = None
    for instruction, rows in groups.items():
        part = model.embed([texts[row] for row in rows], instruction, side).vectors.astype(np.float32)
        if found is None:
            found = np.empty((len(texts), part.shape[1]), np.float32)
        found[rows] = part
    return np.empty((0, 1), np.float32) if found is None else found

"""Results of several models side by side, with intervals by the paired bootstrap."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from medi_build.arrays import Floats64
from medi_build.errors import EvaluationError
from medi_build.evaluate.bootstrap import interval, resample
from medi_build.evaluate.results import load_items, load_result

SAMPLES = 2000
OVERALL = "all"

Task = tuple[str, str]
"""Suite and name."""


class Difference(NamedTuple):
    """A model's score less that of the first one.

    Attributes:
        value: the difference.
        low, high: bounds of its 95 % interval; None where the results have no items, or not the same ones.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Row(NamedTuple):
    """One task, or an average over tasks.

    Attributes:
        suite: of the task or tasks; `OVERALL` for those of all suites.
        task: its name, or how many tasks the average is over.
        metric: the main metric; empty for an average.
        scores: of each model; None where it has no such result.
        differences: of each model to the first; None for the first, and where a score is missing.
        bounds: of the 95 % interval of each model's own score; None where a score or the items are missing.
    """

    suite: str
    task: str
    metric: str
    scores: tuple[float | None, ...]
    differences: tuple[Difference | None, ...]
    bounds: tuple[tuple[float, float] | None, ...]


class Comparison(NamedTuple):
    """Models side by side.

    Attributes:
        labels: of the models, the first one being what the others are compared to.
        tasks: a row for each task that any model has.
        averages: a row for each suite, and one over all if there are several, over the tasks that every model has.
        notes: what a reader has to know: tasks that only some have, intervals that are missing and why.
    """

    labels: tuple[str, ...]
    tasks: tuple[Row, ...]
    averages: tuple[Row, ...]
    notes: tuple[str, ...]


def read_results(paths: Iterable[Path]) -> dict[str, dict[Task, Path]]:
    """The results below folders, by model.

    Args:
        paths: folders that `medi eval` wrote to, folders in them, or single results.

    Returns:
        By label of the model, in the order given: where the result of each task lies. Models of one label and
        different files are told apart by the beginning of their digest.

    Raises:
        EvaluationError: a path has no result, a file is none, or a model has two results for one task.
    """
    found: dict[tuple[str, str], dict[Task, Path]] = {}
    for path in paths:
        files = [path] if path.is_file() else results_below(path)
        if not files:
            raise EvaluationError(f"{path}: holds no result; name a folder that `medi eval` wrote to (--out)")
        for file in files:
            result = load_result(file)
            if result.suite == "robustness":  # itself a comparison, of one model under many instructions
                continue
            mine = found.setdefault((result.label, str(result.model["digest"])), {})
            other = mine.setdefault((result.suite, result.task), file)
            if other.resolve() != file.resolve():
                raise EvaluationError(
                    f"{other} and {file}: are results of one model ({result.label}) for one task; name one of them"
                )
    labels = [label for label, _ in found]
    return {
        label if labels.count(label) == 1 else f"{label} [{digest[:8]}]": tasks
        for (label, digest), tasks in found.items()
    }


def results_below(folder: Path) -> list[Path]:
    """Files in ``MODEL/SUITE/TASK.json`` of a results folder, or of one in it."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such file or folder; name a folder that `medi eval` wrote to (--out)")
    below = (path for depth in ("*.json", "*/*.json", "*/*/*.json") for path in sorted(folder.glob(depth)))
    return [path for path in below if _is_result(path)]


def _is_result(path: Path) -> bool:
    """Whether a JSON file says of itself that it is a result; other files of the suites lie beside them."""
    with path.open("rb") as file:
        beginning = file.read(200)
    return b'"schema_version"' in beginning and b'"suite"' in beginning


def compare(models: Mapping[str, Mapping[Task, Path]], *, samples: int = SAMPLES, seed: int = 42) -> Comparison:
    """Compare models with the first of them.

    The interval of a difference is that of the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13): items
    (queries, pairs, texts) are drawn with replacement, the same for both models, and the metric is computed again.
    That of an average takes the tasks as given and draws the items of each.

    Args:
        models: results by model, as `read_results` finds them.
        samples: draws.
        seed: of the draws.

    Raises:
        EvaluationError: there are fewer than two models, they have no task in common, or one task is measured by
            different metrics.
    """
    labels = tuple(models)
    if len(labels) < 2:
        raise EvaluationError(
            f"there are results of {len(labels)} model ({', '.join(labels)}); name the results of two at least"
        )
    if not any(all(task in found for found in models.values()) for task in next(iter(models.values()))):
        raise EvaluationError(f"{', '.join(labels)}: have no task in common; evaluate them on the same tasks")
    return put_together(models, samples=samples, seed=seed)


def put_together(models: Mapping[str, Mapping[Task, Path]], *, samples: int = SAMPLES, seed: int = 42) -> Comparison:
    """As `compare`, of any number of models, which need not have a task in common: there are no averages then."""
    tasks = sorted({task for found in models.values() for task in found})
    common = [task for task in tasks if all(task in found for found in models.values())]
    notes = []
    if absent := [name for suite, name in tasks if (suite, name) not in common]:
        notes.append(f"only some of the models have {', '.join(absent)}: not in the averages")
    compared = {}
    for task in tasks:
        compared[task] = _compare_task(task, [found.get(task) for found in models.values()], samples, seed)
        notes += [f"{task[1]}: no interval, {why}" for why in [compared[task].unpaired] if why]
    parts = {suite: [task for task in common if task[0] == suite] for suite, _ in common}
    if len(parts) > 1:
        parts[OVERALL] = common
    averages = [_average(suite, [compared[task] for task in part]) for suite, part in parts.items()]
    return Comparison(tuple(models), tuple(one.row for one in compared.values()), tuple(averages), tuple(notes))


class _Compared(NamedTuple):
    """A row, the scores of each model on each draw [models, samples], and why they do not vary, if they do not."""

    row: Row
    drawn: Floats64
    unpaired: str


def _compare_task(task: Task, paths: Sequence[Path | None], samples: int, seed: int) -> _Compared:
    there = [path for path in paths if path]
    results = [load_result(path) for path in there]
    first = results[0]
    for result, path in zip(results, there, strict=True):
        if (result.main_metric, result.statistic) != (first.main_metric, first.statistic):
            raise EvaluationError(
                f"{path}: its main metric is {result.main_metric} ({result.statistic}), that of {there[0]} is "
                f"{first.main_metric} ({first.statistic}); evaluate again with one version of medi and mteb"
            )
    fixed = np.repeat([[result.main_score] for result in results], samples, axis=1)
    items = [load_items(path) for path in there] if first.statistic else []
    unpaired = _unpaired(items)
    if first.statistic and not unpaired:
        fixed = resample(items, first.statistic, samples, xxhash.xxh3_64_intdigest(f"{seed} {task}".encode()))
    scores: list[float | None] = [None] * len(paths)
    drawn = np.full((len(paths), samples), np.nan)
    for place, result, one in zip([i for i, path in enumerate(paths) if path], results, fixed, strict=True):
        scores[place], drawn[place] = result.main_score, one
    varies = bool(first.statistic) and not unpaired
    bounds = tuple(
        interval(one) if varies and score is not None else None for score, one in zip(scores, drawn, strict=True)
    )
    row = Row(*task, first.main_metric, tuple(scores), _differences(scores, drawn, known=not unpaired), bounds)
    return _Compared(row, drawn, unpaired)


def _unpaired(items: Sequence[pa.Table]) -> str:
    """Why the items of some models cannot be drawn together; empty where they can."""
    if not items:
        return "as the results have none item by item"
    ids = [table["id"] for table in items]
    return "" if all(one.equals(ids[0]) for one in ids) else "as the results are over other items"


def _differences(scores: Sequence[float | None], drawn: Floats64, *, known: bool) -> tuple[Difference | None, ...]:
    """Each model's difference to the first; with an interval where the draws are ``known``."""
    found: list[Difference | None] = [None]
    for place, score in enumerate(scores[1:], 1):
        if score is None or scores[0] is None:
            found.append(None)
        elif known:
            found.append(Difference(score - scores[0], *interval(drawn[place] - drawn[0])))
        else:
            found.append(Difference(score - scores[0]))
    return tuple(found)


def _average(suite: str, compared: Sequence[_Compared]) -> Row:
    """The mean over tasks that all models have; tasks without items count with their score in every draw."""
    scores = np.mean(np.array([one.row.scores for one in compared], np.float64), axis=0).tolist()
    drawn = np.mean([one.drawn for one in compared], axis=0)
    known = any(not one.unpaired for one in compared)
    return Row(
        suite,
        f"{len(compared)} task{'s' * (len(compared) > 1)}",
        "",
        tuple(scores),
        _differences(scores, drawn, known=known),
        tuple(interval(one) if known else None for one in drawn),
    )

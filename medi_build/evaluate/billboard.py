"""Billboard: how well similarity to references agrees with what people say of generated texts (arXiv 2112.04139)."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medi_build.arrays import Floats32, Floats64, Ints
from medi_build.errors import EvaluationError, did_you_mean
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.results import Result, items_table

TASK_TYPE = "Billboard"
FOLDERS = {"mscoco": "mscoco", "cnndm": "cnndm", "mt": "wmt20-zh-en"}
"""Task -> folder of its two files, as in INSTRUCTOR's repository."""
QUALITIES = ("coherence", "consistency", "fluency", "relevance")


class Judged(NamedTuple):
    """Generated texts with people's scores, and the references of their segments.

    Attributes:
        task: name of the task.
        ids: segment and system of each hypothesis; all different.
        hypotheses: the generated texts.
        human: float64 [n], people's score of each.
        segments: int64 [n], the segment of each.
        references: the references of all segments, one segment after the other.
        starts: int64 [segments + 1], where the references of each segment begin, and the end of the last.
    """

    task: str
    ids: list[str]
    hypotheses: list[str]
    human: Floats64
    segments: Ints
    references: list[str]
    starts: Ints


def files_of(folder: Path, task: str) -> tuple[Path, Path]:
    """Where a task's hypotheses and its references have to lie; ``folder`` may also be the task's own.

    Raises:
        EvaluationError: there is no such task.
    """
    if task not in FOLDERS:
        raise EvaluationError(
            f"--task {task}: is no Billboard task{did_you_mean(task, FOLDERS)}; they are {', '.join(FOLDERS)}"
        )
    name = FOLDERS[task]
    at = folder if (folder / f"{name}_references.jsonl").is_file() else folder / name
    return at / f"{name}_THumB-1.0.jsonl", at / f"{name}_references.jsonl"


def lacking(folder: Path) -> dict[str, list[Path]]:
    """The tasks that lack a file, with what they lack."""
    missing = {task: [path for path in files_of(folder, task) if not path.is_file()] for task in FOLDERS}
    return {task: paths for task, paths in missing.items() if paths}


def tasks_there(folder: Path) -> list[str]:
    """The tasks whose files are all there, at least one.

    Raises:
        EvaluationError: there are none.
    """
    found = [task for task in FOLDERS if task not in lacking(folder)]
    if not found:
        raise EvaluationError(
            f"--data {folder}: holds the files of no Billboard task; name the folder that holds "
            f"{', '.join(FOLDERS.values())}, which is evaluation/text_evaluation/data in INSTRUCTOR's repository"
        )
    return found


def read_task(folder: Path, task: str) -> Judged:
    """Read the files of one task.

    Raises:
        EvaluationError: no such task, a file is missing or not in its form, a hypothesis has no reference, or all
            hypotheses have the same human score.
    """
    judged, listed = files_of(folder, task)
    if missing := lacking(folder).get(task):
        told = ["the hypotheses with their human scores", "the references"]
        raise EvaluationError(
            f"--task {task}: {' and '.join(map(str, missing))} is missing: "
            f"{told[(judged, listed).index(missing[0])]}; get it from evaluation/text_evaluation/data of "
            "https://github.com/xlang-ai/instructor-embedding, or leave the task out"
        )
    references: dict[str, list[str]] = {}
    for place, line in _lines(listed):
        refs = line.get("refs")
        if not isinstance(refs, list) or not all(isinstance(text, str) for text in refs):
            raise EvaluationError(f"{place}: `refs` is {str(refs)[:80]!r}; it has to be a list of texts")
        references.setdefault(_segment(place, line), []).extend(refs)
    ids, hypotheses, human, keys = [], [], [], []
    for place, line in _lines(judged):
        text, key = line.get("hyp"), _segment(place, line)
        if not isinstance(text, str):
            raise EvaluationError(f"{place}: `hyp` is {str(text)[:80]!r}; it has to be the generated text")
        if not references.get(key):
            raise EvaluationError(
                f"{place}: segment {key!r} has no reference in {listed}; add one or take the line out"
            )
        ids.append(f"{key}/{line.get('SYS', '')}")
        hypotheses.append(text)
        human.append(human_score(place, line))
        keys.append(key)
    if len(set(human)) < 2:
        raise EvaluationError(
            f"{judged}: {len(human)} hypotheses with {len(set(human))} different human scores; a correlation needs two"
        )
    used = list(dict.fromkeys(keys))
    number = {key: i for i, key in enumerate(used)}
    return Judged(
        task,
        _all_different(ids),
        hypotheses,
        np.array(human, np.float64),
        np.array([number[key] for key in keys], np.int64),
        [text for key in used for text in references[key]],
        np.cumsum([0, *(len(references[key]) for key in used)]),
    )


def human_score(place: str, line: dict[str, Any]) -> float:
    """People's score of a hypothesis: ``human_score``, which the public script correlates with.

    The CNN/DM file has experts' annotations, too. Its ``human_score`` is their mean, over the experts and then over
    coherence, consistency, fluency and relevance: that holds for each of its 1,800 lines to the last digit of float64,
    though no public code says so. So where a line has annotations alone, their mean is taken.

    Raises:
        EvaluationError: there is neither, or it is no number.
    """
    score = line.get("human_score")
    if score is None and line.get("expert_annotations"):
        try:
            score = float(np.mean([[one[name] for one in line["expert_annotations"]] for name in QUALITIES]))
        except (TypeError, KeyError, ValueError) as error:
            raise EvaluationError(
                f"{place}: `expert_annotations` lacks one of {', '.join(QUALITIES)} as a number; mend the line"
            ) from error
    if isinstance(score, bool) or not isinstance(score, int | float) or not np.isfinite(score):
        raise EvaluationError(f"{place}: `human_score` is {score!r}; it has to be a number")
    return float(score)


def similarities(hypotheses: Floats32, references: Floats32, judged: Judged) -> Floats64:
    """Cosine of each hypothesis with the nearest reference of its segment, float64 [n].

    Args:
        hypotheses: [n, d], not zero.
        references: [r, d], not zero.
        judged: which reference belongs to which hypothesis.
    """
    left, right = _unit(hypotheses), _unit(references)
    best = np.empty(len(left))
    for row, segment in enumerate(judged.segments):
        start, end = judged.starts[segment : segment + 2]
        best[row] = (right[start:end] @ left[row]).max()
    return best


def evaluate(model: EvaluatedModel, judged: Judged) -> tuple[Result, pa.Table]:
    """What a model reaches on one task: all texts under one instruction; and what it says of each hypothesis.

    Raises:
        EncoderError: the model cannot be loaded, or gives unusable vectors.
        EvaluationError: the model finds all hypotheses equally similar, so that nothing correlates.
    """
    from scipy.stats import pearsonr, spearmanr

    start = time.perf_counter()
    vectors = model.vectors([*judged.hypotheses, *judged.references], TASK_TYPE, task=judged.task)
    count = len(judged.hypotheses)
    found = similarities(vectors[:count], vectors[count:], judged)
    if np.ptp(found) == 0:
        raise EvaluationError(
            f"{judged.task}: all {count} hypotheses have the cosine {found[0]:.4f}, so there is no correlation; "
            f"{model.about['model']} does not tell texts apart"
        )
    result = Result(
        suite="billboard",
        task=judged.task,
        task_type=TASK_TYPE,
        model=dict(model.about),
        instructions={
            "source": model.instructions.source,
            "query": model.told(TASK_TYPE, task=judged.task),
        },
        main_metric="pearson",
        metrics={
            "pearson": float(pearsonr(judged.human, found).statistic),
            "spearman": float(spearmanr(judged.human, found).statistic),
        },
        statistic="pearson",
        counts={
            "hypotheses": count,
            "segments": len(judged.starts) - 1,
            "references": len(judged.references),
        },
        seconds=time.perf_counter() - start,
    )
    return result, items_table(judged.ids, found.tolist(), judged.human.tolist())


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place, as messages name it."""
    found = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            parsed = json.loads(line)  # not orjson: a line of the CNN/DM file holds NaN
            if not isinstance(parsed, dict):
                raise EvaluationError(f"{place}: is {str(parsed)[:80]!r}; each line has to be a JSON object")
            found.append((place, parsed))
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); get it again") from error
    except json.JSONDecodeError as error:
        raise EvaluationError(f"{place}: is no JSON ({error}); get the file again") from error
    return found


def _segment(place: str, line: dict[str, Any]) -> str:
    """What hypotheses and references of one segment have in common."""
    key = line.get("seg_id", line.get("set_id"))
    if key is None:
        raise EvaluationError(f"{place}: has neither `seg_id` nor `set_id`, so its segment is not known")
    return str(key)


def _all_different(ids: Sequence[str]) -> list[str]:
    """The same, with a counter behind those that came before."""
    seen: dict[str, int] = {}
    found = []
    for one in ids:
        seen[one] = seen.get(one, 0) + 1
        found.append(one if seen[one] == 1 else f"{one}/{seen[one]}")
    return found


def _unit(vectors: Floats32) -> Floats64:
    """Rows of length 1: those of a store are rounded to float16."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))

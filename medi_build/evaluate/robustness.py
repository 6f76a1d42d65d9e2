"""Does a model follow its instruction, and how much does the wording matter? As in Su et al. 2023, section 4.3."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from medi_build.arrays import Floats64
from medi_build.content.evaluation import EvaluationInstructions, Sides, shipped_instructions
from medi_build.errors import EvaluationError
from medi_build.evaluate.bootstrap import interval, resample
from medi_build.evaluate.compare import SAMPLES, Difference
from medi_build.evaluate.instructions import Instructions
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.mteb_run import evaluate_jobs
from medi_build.evaluate.mteb_tasks import Job
from medi_build.evaluate.results import Result, load_items, result_path, save_result
from medi_build.progress import Silent

SUITE = "robustness"
PARAPHRASE = "paraphrase"
BASELINES = ("none", "wrong", "random")
WORDS = 8
"""Of a random instruction."""


class Robustness(NamedTuple):
    """What came of the instructions of one task.

    Attributes:
        result: ``mean``, ``worst``, ``best`` and ``spread`` (standard deviation) of the main metric under the
            paraphrases, and the metric under ``none``, ``wrong`` and ``random``.
        differences: the mean under the paraphrases less each of those three.
    """

    result: Result
    differences: Mapping[str, Difference]


def variants(task_type: str, seed: int) -> dict[str, Instructions]:
    """The instructions of a kind of task: ten that say the same, none, a wrong and a random one, by name.

    Args:
        task_type: kind of the task.
        seed: of the random words.

    Raises:
        EvaluationError: there are no paraphrases for this kind.
    """
    shipped = shipped_instructions()
    if task_type not in shipped.paraphrases:
        known = ", ".join(sorted(shipped.paraphrases))
        raise EvaluationError(f"there are no paraphrases of an instruction for {task_type}; there are for {known}")
    assert shipped.wrong is not None  # ours has one
    sides = {f"{PARAPHRASE}-{number}": one for number, one in enumerate(shipped.paraphrases[task_type], 1)}
    sides |= {"none": Sides(query=""), "wrong": shipped.wrong, "random": _random_words(shipped, seed)}
    return {name: Instructions(name, EvaluationInstructions(other=one)) for name, one in sides.items()}


def _random_words(shipped: EvaluationInstructions, seed: int) -> Sides:
    """Words of all paraphrases, drawn and in no order; the same number for each side."""
    words = sorted({word for many in shipped.paraphrases.values() for one in many for word in _words(one)})
    draw = random.Random(seed)
    query, document = (" ".join(draw.sample(words, WORDS)) + ";" for _ in range(2))
    return Sides(query=query, document=document)


def _words(sides: Sides) -> Iterator[str]:
    for text in (sides.query, sides.document):
        yield from (text or "").strip(";").split()


def evaluate_robustness(
    model: EvaluatedModel, job: Job, out: Path, *, seed: int = 42, progress: Silent | None = None
) -> Robustness:
    """Evaluate a model on one task under each of the `variants`, and put the scores together.

    Each variant is a result of its own below ``out/robustness``, and is not computed again where it is there.

    Args:
        model: the model; its own instructions do not matter.
        job: of `mteb_tasks.choose_jobs`.
        out: folder of results.
        seed: of the random instruction, of what mteb draws and of the bootstrap.
        progress: is told of each variant.

    Raises:
        EvaluationError: the kind of task has no paraphrases, or its data cannot be loaded.
    """
    start = time.perf_counter()
    results: dict[str, Result] = {}
    for name, instructions in variants(job.task.metadata.type, seed).items():
        one = model._replace(instructions=instructions)
        made, faults = evaluate_jobs(one, [job], out / SUITE, seed=seed, progress=progress)
        if faults:
            raise EvaluationError(f"{job.name}: {faults[job.name]}")
        results[name] = made[0]
    first = next(iter(results.values()))
    scores = {name: result.main_score for name, result in results.items()}
    under = np.array([score for name, score in scores.items() if name.startswith(PARAPHRASE)])
    result = Result(
        suite=SUITE,
        task=job.name,
        task_type=first.task_type,
        model=first.model,
        instructions={
            "source": "variants",
            **{name: {k: v for k, v in one.instructions.items() if k != "source"} for name, one in results.items()},
        },
        main_metric="mean",
        metrics={
            "mean": float(under.mean()),
            "worst": float(under.min()),
            "best": float(under.max()),
            "spread": float(under.std()),
            **scores,
        },
        counts=first.counts,
        settings={**first.settings, "metric": first.main_metric},
        seconds=time.perf_counter() - start,
    )
    save_result(out, result)
    return Robustness(result, _differences(scores, _drawn(results, out, job.name, seed)))


def _drawn(results: Mapping[str, Result], out: Path, task: str, seed: int) -> dict[str, Floats64] | None:
    """The main metric of each variant on each draw of the items; None where the results have no items."""
    first = next(iter(results.values()))
    if first.statistic is None:
        return None
    paths = [result_path(out / SUITE, one.suite, task, one.model, name) for name, one in results.items()]
    found = resample([load_items(path) for path in paths], first.statistic, SAMPLES, _seed(seed, task))
    return dict(zip(results, found, strict=True))


def _seed(seed: int, task: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed} {task}".encode())


def _differences(scores: Mapping[str, float], drawn: Mapping[str, Floats64] | None) -> dict[str, Difference]:
    """The mean under the paraphrases less the metric under each other instruction."""
    names = [name for name in scores if name.startswith(PARAPHRASE)]
    mean = _mean([scores[name] for name in names])
    if drawn is None:
        return {other: Difference(mean - scores[other]) for other in BASELINES}
    means = np.mean([drawn[name] for name in names], axis=0)
    return {other: Difference(mean - scores[other], *interval(means - drawn[other])) for other in BASELINES}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))

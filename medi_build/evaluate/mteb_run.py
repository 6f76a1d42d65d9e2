"""Evaluation on mteb's tasks and on local sets, through mteb's own evaluators."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medi_build.errors import EvaluationError
from medi_build.evaluate.local_data import LocalSet
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.mteb_model import TEXTS_PER_BATCH, MtebModel, TaskVectors, bare_meta, meta_of, need_mteb
from medi_build.evaluate.mteb_scores import items_of, metrics_of
from medi_build.evaluate.mteb_tasks import SEED, Job, keeping_seeds, local_task, reseed
from medi_build.evaluate.results import Result, items_path, load_result, result_path, save_result
from medi_build.progress import Silent

SUITE = "mteb"
CACHE = ".mteb_cache"
"""Folder, below that of the results, of results in mteb's own format; a shell's ``*`` leaves it out."""
ENCODE = {"batch_size": TEXTS_PER_BATCH, "show_progress_bar": False}


def local_scores(vectors: TaskVectors, data: LocalSet, seed: int = SEED) -> dict[str, float]:
    """Metrics of a local set, for a model that is not (yet) on disk; nothing is written, and no generator is touched.

    Args:
        vectors: texts to unit vectors, as `EvaluatedModel.vectors`.
        data: the set.
        seed: of what mteb draws.

    Returns:
        Metrics by name; that of `mteb_tasks.MAIN_METRICS` is the main one.

    Raises:
        EvaluationError: mteb is not installed.
    """
    need_mteb()
    task = local_task(data, seed)
    with keeping_seeds():
        scores = task.evaluate(
            MtebModel(vectors, bare_meta("local/model", "none")), data.split, encode_kwargs=dict(ENCODE)
        )
    part = scores["default"]
    return metrics_of({data.split: [part]}, task.metadata.main_score, float(part["main_score"]))


def evaluate_jobs(
    model: EvaluatedModel,
    jobs: Sequence[Job],
    out: Path,
    *,
    seed: int = SEED,
    overwrite: bool = False,
    progress: Silent | None = None,
) -> tuple[list[Result], dict[str, str]]:
    """Evaluate a model on tasks, one after the other; each result is on disk before the next task begins.

    Args:
        model: the model and its instructions.
        jobs: of `choose_jobs`.
        out: folder of results; mteb's own are below it in `CACHE`.
        seed: of what mteb draws (which texts train a classifier, which are clustered).
        overwrite: whether a result that is there and was made in the same way is made again.
        progress: is told of each task.

    Returns:
        Results in the order of the jobs, and why tasks have none, by name: their data could not be loaded.

    Raises:
        EncoderError: the model gives unusable vectors.
        OutputError: ``out`` cannot be written.
    """
    progress, meta = progress or Silent(), meta_of(model)
    results, faults, no_network = [], {}, None
    for job in jobs:
        progress.stage(job.name, "evaluate")
        result = None if overwrite else _there(model, job, out, seed)
        if result is not None:
            progress.done(f"{told(result)}, was there")
        elif error := (no_network if job.data is None else None) or _load(job):
            no_network = error if _is_network(error) else None
            faults[job.name] = _cannot_load(job, error)
            progress.done(f"{job.name}: no result, its data cannot be loaded")
            continue
        else:
            result = _evaluate(model, meta, job, out, seed)
            progress.done(f"{told(result)}, {result.seconds:.1f} s")
        results.append(result)
    return results, faults


def append_scores(path: Path, model: str, results: Sequence[Result]) -> None:
    """Append ``TASK: MODEL: SCORE`` lines, as INSTRUCTOR's script does.

    Args:
        path: a file that ends in .txt, or a folder that gets ``TASK.txt`` for each task.
        model: as it was named.
        results: what to write.

    Raises:
        OSError: nothing can be written there.
    """
    folder = path.suffix != ".txt" or path.is_dir()
    (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
    for result in results:
        file = path / result_path(path, SUITE, result.task, result.model, "saved").with_suffix(".txt").name
        with (file if folder else path).open("a", encoding="utf-8") as lines:
            lines.write(f"{result.task}: {model}: {result.main_score}\n")


def told(result: Result) -> str:
    """A result in a line."""
    return f"{result.task}: {result.main_metric} {result.main_score:.4f}"


def _evaluate(model: EvaluatedModel, meta: Any, job: Job, out: Path, seed: int) -> Result:
    import mteb

    encoder, main = MtebModel(model.vectors, meta), job.task.metadata.main_score
    start = time.perf_counter()
    with TemporaryDirectory() as folder, keeping_seeds():
        for task in _parts(job):
            reseed(task, seed)
        done = mteb.evaluate(
            encoder,
            job.task,
            cache=mteb.ResultCache(out / CACHE),
            overwrite_strategy="always",
            prediction_folder=folder,
            encode_kwargs=dict(ENCODE),
            show_progress_bar=False,
            co2_tracker=False,
        )
        found = done.task_results[0]
        items = items_of(job, found.scores, Path(folder), main)
    seconds = time.perf_counter() - start
    result = Result(
        suite=SUITE,
        task=job.name,
        task_type=job.task.metadata.type,
        model=dict(model.about),
        instructions={
            "source": model.instructions.source,
            **_instructions(model, job.task.metadata.name, encoder.asked),
        },
        main_metric=main,
        metrics=metrics_of(found.scores, main, items.value if items else float(found.get_score())),
        statistic=items.statistic if items else None,
        counts={**_sizes(job), **(job.data.notes if job.data else {})},
        settings=_settings(job, seed),
        seconds=seconds,
    )
    save_result(out, result, items.table if items else None)
    if job.data is None:
        for task in _parts(job):
            task.unload_data()
    return result


def _instructions(model: EvaluatedModel, name: str, asked: set[tuple[str, Any, str]]) -> dict[str, str]:
    """What stood in front of the texts, by role: query, document, or text where there are no sides.

    Of a task that is made of others the roles are ``TASK/ROLE``.
    """
    return {
        (side or "text") if task == name else f"{task}/{side or 'text'}": model.told(kind, side, task)
        for kind, side, task in sorted(asked, key=str)
    }


def _settings(job: Job, seed: int) -> dict[str, Any]:
    """What decides a result beside model and instructions."""
    data = job.task.metadata.dataset
    return {
        "seed": seed,
        "splits": list(job.task.eval_splits),
        "subsets": list(job.task.hf_subsets),
        "data": f"{data['path']}@{data['revision']}",
    }


def _there(model: EvaluatedModel, job: Job, out: Path, seed: int) -> Result | None:
    """The result of an earlier run that was made in the same way, if it is there and whole."""
    path = result_path(out, SUITE, job.name, model.about, model.instructions.source)
    try:
        result = load_result(path)
    except EvaluationError:
        return None
    kind, name = job.task.metadata.type, job.task.metadata.name
    same = (
        result.model == dict(model.about)
        and result.instructions["source"] == model.instructions.source
        and all(
            text == model.told(kind, _side(role), task or name)
            for task, _, role, text in ((*key.rpartition("/"), text) for key, text in result.instructions.items())
            if role != "source"
        )
        and result.settings == _settings(job, seed)
        and result.versions.get("mteb") == version("mteb")
        and (result.statistic is None or items_path(path).is_file())
    )
    return result if same else None


def _side(role: str) -> Any:
    return None if role == "text" else role


def _load(job: Job) -> Exception | None:
    """Load a task's data; what was raised if that fails."""
    try:
        for task in _parts(job):
            task.load_data()  # nothing, where it is there
    except Exception as error:  # of the hub's and the data sets' libraries: there is no root to name
        return error
    return None


def _is_network(error: Exception) -> bool:
    """Whether the hub was asked and cannot be reached, so that it is not asked for each task again."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return isinstance(error, ConnectionError) and not HF_HUB_OFFLINE


def _cannot_load(job: Job, error: Exception) -> str:
    data: Mapping[str, Any] = job.task.metadata.dataset
    return (
        f"its data, {data['path']} at {data['revision']}, cannot be loaded ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:200]}); without a network, evaluate folders on disk with --data DIR, or what "
        "is in the hub's cache with HF_HUB_OFFLINE=1"
    )


def _parts(job: Job) -> list[Any]:
    """The tasks with data of their own: those that the task is made of, or itself."""
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    return list(job.task.metadata.tasks) if isinstance(job.task, AbsTaskAggregate) else [job.task]


def _sizes(job: Job) -> dict[str, int]:
    """Sizes of a task's data, summed over its splits and subsets."""
    counts = dict[str, int]()
    for task in _parts(job):
        for subset in task.hf_subsets:
            found = task.dataset.get(subset, task.dataset)
            for split in task.eval_splits:
                part = found.get(split, ())
                names = {"queries": "queries", "corpus": "documents"} if isinstance(part, dict) else {}
                for key, name in names.items():
                    counts[name] = counts.get(name, 0) + len(part[key])
                if not names:
                    counts["items"] = counts.get("items", 0) + len(part)
    return counts

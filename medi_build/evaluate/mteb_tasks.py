"""Tasks for mteb's evaluators: its own by name, and local sets as tasks of the same classes."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from medi_build.embedding import Side
from medi_build.errors import EvaluationError, did_you_mean
from medi_build.evaluate.local_data import (
    ClassificationSet,
    ClusteringSet,
    LabelledTexts,
    LocalSet,
    RetrievalSet,
    StsSet,
)
from medi_build.evaluate.local_sets import read_local_set
from medi_build.evaluate.mteb_model import need_mteb

SEED = 42
"""That of mteb itself."""
CLUSTERED_TEXTS = 16_384
"""Of a larger clustering set so many texts are encoded, as many as mteb clusters in one experiment."""
MAIN_METRICS = {
    "Retrieval": "ndcg_at_10",
    "STS": "cosine_spearman",
    "Classification": "accuracy",
    "Clustering": "v_measure",
}

SEARCHING = ("Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking")


class Job(NamedTuple):
    """One task to evaluate.

    Attributes:
        name: under which its result is filed; with the split where that is not the usual one.
        task: the task of mteb's.
        data: where it is a local set.
    """

    name: str
    task: Any
    data: LocalSet | None = None


def choose_jobs(names: Sequence[str], folders: Sequence[Path], split: str | None) -> list[Job]:
    """What was asked for, each task once.

    Args:
        names: of tasks and benchmarks of mteb's.
        folders: with local sets.
        split: of all of them; None for the usual ones.

    Raises:
        EvaluationError: nothing was asked for, or there is no such task, folder or split, or mteb is not installed.
        InputError: a local file cannot be read.
    """
    need_mteb()
    if not names and not folders:
        raise EvaluationError("nothing to evaluate; name tasks with --task NAME, or folders with --data DIR")
    jobs: dict[str, Job] = {}
    for task in [task for name in names for task in named_tasks(name, f"--task {name!r}")]:
        job = _job(task, split)
        known = jobs.setdefault(job.name, job).task
        if known.hf_subsets != task.hf_subsets or known.eval_splits != task.eval_splits:
            raise EvaluationError(f"--task: two benchmarks take different parts of {job.name}; give each its own --out")
    for folder in folders:
        data = read_local_set(folder, split)
        name = data.name if split is None or data.split == "test" else f"{data.name}:{data.split}"
        if name in jobs:
            raise EvaluationError(
                f"--data {folder}: another task is named {name!r}, too; rename the folder, or use another --out"
            )
        jobs[name] = Job(name, local_task(data), data)
    return list(jobs.values())


def named_tasks(name: str, given: str, prefix: str = "") -> list[Any]:
    """The tasks of a benchmark of mteb's, or the one task of that name.

    Args:
        name: of the task or benchmark.
        given: how the user named it, for messages.
        prefix: what stands in front of a name there.

    Raises:
        EvaluationError: there is none, or mteb is not installed.
    """
    mteb = need_mteb()
    benchmarks = {one.name for one in mteb.get_benchmarks()}
    if name in benchmarks:
        return list(mteb.get_benchmark(name).tasks)
    try:
        return [mteb.get_task(name)]
    except KeyError as error:
        known = [*(one.metadata.name for one in import_module("mteb.get_tasks").TASK_LIST), *benchmarks]
        same = [one for one in known if one.lower() == name.lower()]
        hint = f"; did you mean {prefix + same[0]!r}?" if same else did_you_mean(name, known)
        raise EvaluationError(
            f"{given}: mteb {mteb.__version__} has no such task or benchmark{hint}; name folders by path"
        ) from error


def _job(task: Any, split: str | None) -> Job:
    name, usual = task.metadata.name, list(task.metadata.eval_splits)
    if task.metadata.modalities != ["text"]:
        raise EvaluationError(
            f"--task: {name} is about {', '.join(task.metadata.modalities)}; only texts are encoded here"
        )
    if split is None:
        return Job(name, task)
    if split not in usual:
        raise EvaluationError(
            f"--split {split!r}: {name} is evaluated on {', '.join(usual)}{did_you_mean(split, usual)}"
        )
    task.filter_eval_splits([split])
    return Job(name if usual == [split] else f"{name}:{split}", task)


def sides_of(job: Job) -> tuple[Side | None, ...]:
    """Queries and documents where a task searches; else its texts are all of one kind."""
    return ("query", "document") if job.task.metadata.type in SEARCHING else (None,)


def local_task(data: LocalSet, seed: int = SEED) -> Any:
    """A local set as a task of mteb's own class for its kind, its data already there."""
    from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval, AbsTaskSTS

    base: Any
    more: dict[str, Any] = {}
    match data:
        case RetrievalSet():
            base, dataset = AbsTaskRetrieval, {"default": {data.split: _retrieval(data)}}
        case StsSet():
            columns = {"sentence1": data.sentences1, "sentence2": data.sentences2, "score": data.scores}
            base, dataset = AbsTaskSTS, {data.split: _table(columns)}
        case ClassificationSet():
            numbers = {
                label: n for n, label in enumerate(sorted({*data.train.labels, *data.test.labels}, key=_in_order))
            }
            base = AbsTaskClassification
            dataset = {"train": _numbered(data.train, numbers), data.split: _numbered(data.test, numbers)}
        case ClusteringSet():
            base, dataset = (
                AbsTaskClustering,
                {data.split: _table({"sentences": data.items.texts, "labels": data.items.labels})},
            )
            more = {"max_fraction_of_documents_to_embed": None, "max_document_to_embed": CLUSTERED_TEXTS}
    with keeping_seeds():
        task = type("LocalTask", (base,), {"metadata": _metadata(data), **more})(seed=seed)
    task.dataset, task.data_loaded = dataset, True
    return task


def reseed(task: Any, seed: int) -> None:
    """A task as it is when it is new: one that draws at random goes on from where it was otherwise."""
    subsets = task.hf_subsets
    task.__init__(seed=seed)
    task.hf_subsets = subsets


@contextmanager
def keeping_seeds() -> Iterator[None]:
    """Whatever seeds the generators of Python, numpy and torch inside, outside they go on as if nothing was."""
    import torch

    states = random.getstate(), np.random.get_state()  # numpy's global one is what is seeded
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def content_digest(data: LocalSet) -> str:
    """Hex digest of all that decides a result on a local set."""
    content = {name: value for name, value in vars(data).items() if name not in ("name", "notes")}
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:32]


def _metadata(data: LocalSet) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=data.name,
        description=f"A set on disk, {data.name}",
        type=data.task_type,
        dataset={"path": f"local/{data.name}", "revision": content_digest(data)},
        eval_splits=[data.split],
        eval_langs=["und-Zyyy"],  # nobody said which
        main_score=MAIN_METRICS[data.task_type],
        category="t2t" if data.task_type in ("Retrieval", "STS") else "t2c",
    )


def _retrieval(data: RetrievalSet) -> dict[str, Any]:
    titles, texts = zip(*data.documents.values(), strict=True)
    return {
        "corpus": _table({"id": list(data.documents), "title": titles, "text": texts}),
        "queries": _table({"id": list(data.queries), "text": list(data.queries.values())}),
        "relevant_docs": {query: dict(found) for query, found in data.qrels.items()},
        "top_ranked": None,
    }


def _numbered(items: LabelledTexts, numbers: dict[str, int]) -> Any:
    return _table({"text": items.texts, "label": [numbers[label] for label in items.labels]})


def _in_order(label: str) -> tuple[float, str]:
    return (float(label), label) if label.isdecimal() else (float("inf"), label)


def _table(columns: Mapping[str, Sequence[Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({name: list(values) for name, values in columns.items()})

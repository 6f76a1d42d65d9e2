"""What a run was trained on, in words and numbers: for the model card and the page about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medi_build.ingest.triplets import Source
from medi_build.train.batches import BatchPlan
from medi_build.train.data import TrainingData
from medi_build.train.settings import TrainSettings


@dataclass(frozen=True)
class TaskFacts:
    """One task of a run.

    Attributes:
        id: of the task.
        name: of the dataset; empty where the data has none.
        licence: likewise.
        rows: that it has.
        drawn: rows of it in all batches.
        before, after: accuracy over its held-out rows; None without any.
    """

    id: int
    name: str
    licence: str
    rows: int
    drawn: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class DataFacts:
    """What a run was trained on.

    Attributes:
        name: of the dataset.
        manifest: digest of the build's rows; empty where it is no build.
        version: of a warehouse, its commit and date; empty for a folder or file.
        digest: of the files that were read.
        rows: that they have.
        told: how they were made into batches.
        licences: of the datasets.
        prompts: instructions in the data.
        tasks: in the order of their ids.
    """

    name: str
    manifest: str
    version: str
    digest: str
    rows: int
    told: Sequence[str]
    licences: Sequence[str]
    prompts: Sequence[str]
    tasks: Sequence[TaskFacts]


def data_facts(
    settings: TrainSettings,
    data: TrainingData,
    source: Source,
    plan: BatchPlan,
    before: Mapping[int, float],
    after: Mapping[int, float],
) -> DataFacts:
    """The facts of a run; ``before`` and ``after`` are held-out accuracies by task id."""
    manifest, commit = source.manifest, source.commit
    built = {} if manifest is None else {one.task_id: (one.name, one.licence) for one in manifest.datasets}
    names = {int(number): (name, "") for number, name in data.info["tasks"].items()} | built
    return DataFacts(
        name=Path(settings.source).name if manifest is None else manifest.pipeline["name"],
        manifest=manifest.digest if manifest else "",
        version=f"`{settings.source}`, commit {commit.id}, {commit.time:%Y-%m-%d}" if commit else "",
        digest=data.info["digest"],
        rows=len(data),
        told=plan.report.lines(),
        licences=sorted({licence for _, licence in names.values() if licence}),
        prompts=[prompt for prompt in data.info["instructions"] if prompt],
        tasks=[
            TaskFacts(number, *names.get(number, ("", "")), rows, drawn, before.get(number), after.get(number))
            for number, (rows, drawn) in plan.report.tasks.items()
        ],
    )

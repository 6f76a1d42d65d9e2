"""The whole flow on one screen: resolve, fetch, build each dataset where there is room for it, publish at the end."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medi_build.content.load import load_content
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.folder import OutputFolder, open_output
from medi_build.dataset.manifest import publish
from medi_build.dataset.reader import Manifest, SidePrompts
from medi_build.dataset.receipt import Receipt
from medi_build.devices import devices
from medi_build.embedding import Prompt
from medi_build.errors import MissingInputError
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.fetch import fetch_missing
from medi_build.ledger import Ledger
from medi_build.pipeline import fingerprint
from medi_build.pipeline.executor.local import LocalExecutor
from medi_build.pipeline.limits import check_something_left
from medi_build.pipeline.options import BuildOptions, check_options, pipeline_of
from medi_build.pipeline.plan import Plan, Unit, inputs_of, resolve
from medi_build.pipeline.unit import UnitJob, build_unit, opened_embedders
from medi_build.progress import Silent

if TYPE_CHECKING:
    from medi_build.encode.embedder import Embedder


@dataclass(frozen=True)
class BuildResult:
    """What a build gives back.

    Attributes:
        out: the output folder.
        manifest: as written to ``manifest.json``.
        ledgers: one per dataset, in the order of task ids.
        seconds: dataset -> time spent on it in this run; absent if it was there already.
        left_out: dataset -> missing files, where that was allowed.
        not_commercial: dataset -> SPDX id, of those that the licence policy leaves out by their cards.
    """

    out: Path
    manifest: Manifest
    ledgers: list[Ledger]
    seconds: dict[str, float]
    left_out: dict[str, tuple[str, ...]]
    not_commercial: dict[str, str]


def build(options: BuildOptions, watcher: Silent | None = None) -> BuildResult:
    """Build a dataset; run again after an interruption, it goes on where it was and gives the same bytes.

    Raises:
        MediError: see `medi_build.errors`; the output folder never looks complete when it is not.
    """
    with closing(watcher or Silent()) as progress:
        check_options(options)
        content = load_content(options.content)
        pipeline = pipeline_of(content, options)
        plan = resolve(
            content, pipeline, options.sources, options.data, options.limit_per_dataset, options.cache / "downloads"
        )
        if not plan.units:
            raise MissingInputError(
                f"nothing to build: no files of {len(plan.left_out)} datasets in {options.data}, and "
                f"{len(plan.not_commercial)} are not known to allow commercial use"
            )
        progress.start(len(plan.units))
        with open_output(options.out) as output, opened_embedders() as opened:
            inputs = [_inputs(unit, options.cache, pipeline.offline, progress) for unit in plan.units]
            encoders = opened(pipeline, options.device, options.cache / "vectors")
            executor, device = _executor(options)
            identities = [one.encoder.identity for one in encoders]
            jobs = list(_jobs(plan, inputs, identities, output, options, device))
            receipts, seconds = _build_all(executor, jobs, output, progress)
            check_something_left(receipts)
            manifest = publish(
                output, pipeline, encoders[0].encoder.identity, _prompts(pipeline, encoders), receipts, content.cards
            )
    ledgers = [Ledger.from_dict(receipt.ledger) for receipt in receipts]
    return BuildResult(options.out, manifest, ledgers, seconds, dict(plan.left_out), dict(plan.not_commercial))


def _inputs(unit: Unit, cache: Path, offline: bool, progress: Silent) -> Inputs:
    """A dataset's files, downloaded where they are not there."""
    fetched = {}
    if unit.located.missing:
        progress.stage(unit.card.name, "fetch")
        missing = unit.located.missing
        fetched = fetch_missing(unit.card, missing, cache / "downloads", progress.advance, offline)
    return inputs_of(unit, fetched, cache / "indexes")


def _prompts(pipeline: Pipeline, encoders: "Sequence[Embedder]") -> dict[str, SidePrompts]:
    """What stands in front of the texts that each encoder of the pipeline sees."""
    names = [pipeline.encoder.model, *pipeline.mining.others]
    under_instructions = {pipeline.encoder.model, *pipeline.mining.encoders} if pipeline.mine_with_instructions else ()
    return {
        name: SidePrompts(query=None, document=None)
        if name in under_instructions
        else SidePrompts(
            query=one.encoder.prompts.text(Prompt(side="query")),
            document=one.encoder.prompts.text(Prompt(side="document")),
        )
        for name, one in zip(names, encoders, strict=True)
    }


def _executor(options: BuildOptions) -> tuple[LocalExecutor, str | None]:
    """Where datasets are built, and the device that each process there uses: of several GPUs each has its own."""
    names = devices(options.device)
    if len(names) == 1:
        return LocalExecutor(options.jobs), options.device
    return LocalExecutor(max(options.jobs, len(names)), range(len(names))), "cuda:0"


def _jobs(
    plan: Plan,
    inputs: Sequence[Inputs],
    encoders: Sequence[str],
    output: OutputFolder,
    options: BuildOptions,
    device: str | None,
) -> Iterator[UnitJob]:
    """The datasets of a plan as work to hand out, in the order of task ids."""
    for unit, files in zip(plan.units, inputs, strict=True):
        yield UnitJob(
            unit=unit,
            inputs=files,
            pipeline=plan.pipeline,
            fingerprint=fingerprint.of_unit(unit, plan.pipeline, files, encoders, options.batch_multiple),
            out=output.root,
            work=output.work,
            vectors=options.cache / "vectors",
            device=device,
            batch_multiple=options.batch_multiple,
            # A card's promise is for its own pool, not for a handful of rows.
            check_mining_loss=options.limit_per_dataset is None,
        )


def _build_all(
    executor: LocalExecutor, jobs: Sequence[UnitJob], output: OutputFolder, progress: Silent
) -> tuple[list[Receipt], dict[str, float]]:
    """Finish every dataset: the receipts in the order of the jobs, and the seconds of those that had to be built."""
    receipts = {job.unit.task_id: output.receipt(job.unit.task_id, job.fingerprint) for job in jobs}
    pending = [job for job in jobs if receipts[job.unit.task_id] is None]
    for job in jobs:
        if (receipt := receipts[job.unit.task_id]) is not None:
            progress.finish(job.unit.card.name, receipt.rows, 0.0, resumed=True)
    if pending:
        output.invalidate()  # from here on the folder is not a finished dataset
    # The largest first, so that in the end no process works alone on one while the others have nothing left to do.
    pending.sort(key=lambda job: -sum(path.stat().st_size for path in job.inputs.rows))
    seconds = {}
    with closing(executor.map(partial(build_unit, watcher=progress), pending)) as results:
        for place, receipt, took in results:
            output.commit(receipt)
            receipts[receipt.task_id], seconds[receipt.dataset] = receipt, took
            progress.finish(pending[place].unit.card.name, receipt.rows, took, resumed=False)
    return [receipt for receipt in receipts.values() if receipt is not None], seconds

"""The whole flow on one screen: resolve, fetch, then per dataset adapt, mine and write; publish at the end."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from medi_build.content.instructions import Instructions, render
from medi_build.content.load import load_content
from medi_build.content.pipelines import EncoderSpec
from medi_build.dataset.assemble import assemble
from medi_build.dataset.folder import OutputFolder, open_output
from medi_build.dataset.manifest import publish
from medi_build.dataset.reader import Manifest
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.shards import write_dataset
from medi_build.errors import MiningError, MissingInputError
from medi_build.ingest.adapt import AdaptJob, AdaptResult, adapt
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.fetch import fetch_missing
from medi_build.ledger import Ledger
from medi_build.pipeline import fingerprint
from medi_build.pipeline.executor.local import LocalExecutor
from medi_build.pipeline.limits import check_loss, check_something_left
from medi_build.pipeline.options import BuildOptions, check_options, pipeline_of
from medi_build.pipeline.plan import Plan, Unit, inputs_of, resolve
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
    """

    out: Path
    manifest: Manifest
    ledgers: list[Ledger]
    seconds: dict[str, float]
    left_out: dict[str, tuple[str, ...]]


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
            raise MissingInputError(f"nothing to build: no files of {len(plan.left_out)} datasets in {options.data}")
        from medi_build.encode.embedder import open_embedder  # here: it loads torch, and most mistakes show before

        progress.start(len(plan.units))
        with open_output(options.out) as output:
            inputs = {unit.card.name: _inputs(unit, options.cache, pipeline.offline, progress) for unit in plan.units}

            def opened(spec: EncoderSpec) -> "Embedder":
                return open_embedder(spec, options.device, options.cache / "vectors", progress.advance)

            embedder = opened(pipeline.encoder)
            others = {name: opened(EncoderSpec(model=name)) for name in pipeline.mining.others}
            run = _Run(plan, output, embedder, others, options, progress)
            receipts = run.datasets(inputs)
            check_something_left(receipts)
            manifest = publish(output, pipeline, embedder.encoder.identity, receipts, content.cards)
    ledgers = [Ledger.from_dict(receipt.ledger) for receipt in receipts]
    return BuildResult(options.out, manifest, ledgers, run.seconds, dict(plan.left_out))


def _inputs(unit: Unit, cache: Path, offline: bool, progress: Silent) -> Inputs:
    """A dataset's files, downloaded where they are not there."""
    fetched = {}
    if unit.located.missing:
        progress.stage(unit.card.name, "fetch")
        missing = unit.located.missing
        fetched = fetch_missing(unit.card, missing, cache / "downloads", progress.advance, offline)
    return inputs_of(unit, fetched, cache / "indexes")


@dataclass
class _Run:
    """One run over the datasets of a plan."""

    plan: Plan
    output: OutputFolder
    embedder: "Embedder"
    others: "dict[str, Embedder]"
    options: BuildOptions
    progress: Silent
    seconds: dict[str, float] = field(default_factory=dict)

    def datasets(self, inputs: dict[str, Inputs]) -> list[Receipt]:
        """Finish every dataset and return the receipts in the order of task ids."""
        pipeline = self.plan.pipeline
        encoders = [embedder.encoder.identity for embedder in (self.embedder, *self.others.values())]
        prints = {
            unit.task_id: fingerprint.of_unit(
                unit, pipeline, inputs[unit.card.name], encoders, self.options.batch_multiple
            )
            for unit in self.plan.units
        }
        done = {task_id: self.output.receipt(task_id, print_) for task_id, print_ in prints.items()}
        pending = [unit for unit in self.plan.units if done[unit.task_id] is None]
        if pending:
            self.output.invalidate()  # from here on the folder is not a finished dataset
        receipts = []
        with closing(self._adapt(pending, inputs)) as adapted:
            for unit in self.plan.units:
                receipt, begin = done[unit.task_id], time.perf_counter()
                if receipt is None:
                    receipt = self._finish(unit, next(adapted), prints[unit.task_id])
                    self.output.commit(receipt)
                    self.seconds[unit.card.name] = time.perf_counter() - begin
                self.progress.finish(
                    unit.card.name, receipt.rows, time.perf_counter() - begin, done[unit.task_id] is not None
                )
                receipts.append(receipt)
        return receipts

    def _adapt(self, units: Sequence[Unit], inputs: dict[str, Inputs]) -> Generator[AdaptResult]:
        """Adapt the datasets ahead of the encoder, in as many processes as the user gave."""
        jobs = [
            AdaptJob(unit.card, inputs[unit.card.name], unit.cap, self.plan.pipeline.seed, self.output.work)
            for unit in units
        ]
        return LocalExecutor(self.options.jobs).map(adapt, jobs)

    def _finish(self, unit: Unit, adapted: AdaptResult, print_: str) -> Receipt:
        """Mine and write one dataset."""
        pipeline, name = self.plan.pipeline, unit.card.name
        ledger = Ledger.from_dict(adapted.ledger)
        check_loss(unit, ledger)
        phrasings = render(unit.template, unit.card.instruction.fields, adapted.fields, pipeline.instructions.separator)
        if pipeline.instructions.phrasing == "first":
            phrasings = phrasings[:1]
        self.progress.stage(name, "mine")
        examples = adapted.examples()
        try:
            mined = self._mine(unit, adapted, examples, phrasings[0], ledger)
        except MiningError as error:
            raise MiningError(f"{name}: {error}") from error
        if self.options.limit_per_dataset is None:  # a card's promise is for its own pool, not for a handful of rows
            check_loss(unit, ledger)
        self.progress.stage(name, "write")
        tables = assemble(examples, mined, phrasings, pipeline.seed, unit.task_id, name)
        written = write_dataset(self.output.root, unit.task_id, name, tables, pipeline.rows_per_shard)
        ledger.written = written.fragment.rows
        ledger.check()
        adapted.discard()
        return Receipt(
            fingerprint=print_,
            dataset=name,
            task_id=unit.task_id,
            kind=adapted.kind,
            instructions=[(p.query, p.document) for p in phrasings],
            shards=written.shards,
            fragment=written.fragment,
            ledger=ledger.to_dict(),
        )

    def _mine(
        self, unit: Unit, adapted: AdaptResult, examples: pa.Table, instructions: Instructions, ledger: Ledger
    ) -> pa.Table:
        """Positives and negatives of one dataset, cut to a multiple of the user's batch size."""
        from medi_build.mine.by_kind import mine

        pipeline, options = self.plan.pipeline, unit.card.options
        mined = mine(
            examples,
            adapted.documents(),
            kind=adapted.kind,
            rule=pipeline.mining,
            embed=self.embedder,
            others=self.others,
            device=self.options.device or self.embedder.encoder.device.type,
            instructions=instructions if pipeline.mine_with_instructions else ("", ""),
            symmetric=options.adapter == "pairs" and options.symmetric,
            judged_negatives=unit.card.judged_negatives,
            seed=pipeline.seed,
            ledger=ledger,
        )
        surplus = mined.num_rows % self.options.batch_multiple
        ledger.drop("write", "batch_multiple", surplus)
        return mined.slice(0, mined.num_rows - surplus)

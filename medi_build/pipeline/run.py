"""The whole flow on one screen: resolve, fetch beside building what is there, publish at the end."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medi_build.content.cards import Card
from medi_build.content.load import Content
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.folder import OutputFolder, open_output
from medi_build.dataset.manifest import publish
from medi_build.dataset.marks import Mark, marks_of, read_marks
from medi_build.dataset.reader import Manifest, MarksUsed, SidePrompts
from medi_build.dataset.receipt import Basis, Receipt
from medi_build.embedding import Prompt
from medi_build.errors import FetchError
from medi_build.files import file_digest
from medi_build.ingest.downloads import Downloads
from medi_build.ingest.fetch import Listings, locate
from medi_build.ingest.remotes import pinned
from medi_build.ledger import Ledger
from medi_build.pipeline import fingerprint
from medi_build.pipeline.dedup import digests_before, drop_repeated
from medi_build.pipeline.exclude_eval import Excluded, excluded_sets, opened_excluded
from medi_build.pipeline.executor.base import Executor
from medi_build.pipeline.executor.choose import opened_executor
from medi_build.pipeline.limits import check_something_left
from medi_build.pipeline.lock import Lock, as_fetched
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import Plan, Unit, inputs_of, remotes_lacking
from medi_build.pipeline.prepare import prepare
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


def build(
    options: BuildOptions, watcher: Silent | None = None, before: Callable[[Plan], None] | None = None
) -> BuildResult:
    """Build a dataset; run again after an interruption, it goes on where it was and gives the same bytes.

    Args:
        options: what to build.
        watcher: told how far it is.
        before: called with the plan before anything is fetched or written; what it raises ends the build.

    Raises:
        MediError: see `medi_build.errors`; the output folder never looks complete when it is not.
    """
    from medi_build.encode.encoder import identity_of

    with closing(watcher or Silent()) as progress:
        options, content, plan, lock, urls = prepare(options, progress)
        pipeline, marks = plan.pipeline, read_marks(options.exclude) if options.exclude else []
        if before:
            before(plan)
        progress.start(len(plan.units))
        with (
            opened_executor(options, pipeline, urls, progress) as where,
            open_output(options.out) as output,
            opened_excluded(pipeline, output.work, progress) as excluded,
            opened_embedders() as opened,
            Downloads(remotes_lacking(plan), options.cache / "downloads", progress) as downloads,
        ):
            encoders = opened(pipeline, where.here, options.cache / "vectors")
            abouts = where.encoders or [one.encoder.about for one in encoders]
            common = fingerprint.basis_of_build(
                pipeline, abouts, options.batch_multiple, excluded.identity if excluded else ()
            )
            job = partial(
                _job,
                pipeline=pipeline,
                common=common,
                output=output,
                options=options,
                device=where.device,
                excluded=excluded,
                # A card's promise is for its own pool, not for a handful of rows; a lock file tells what comes out.
                check_mining_loss=options.limit_per_dataset is None and lock is None,
                marks=marks,
            )
            there = [job(unit) for unit in plan.units if not unit.located.missing]
            coming = map(job, _arriving(plan, downloads, options.cache / "downloads"))
            if lock is not None:
                lock.check({one.unit.card.name: one.basis for one in there})
                coming = map(partial(_locked, lock), coming)
            receipts, seconds = _Units(output, pipeline.dedup, where.executor, progress).build(
                there, coming, len(plan.units)
            )
            downloads.check()
            if pipeline.dedup:
                receipts = drop_repeated(output, receipts, pipeline.rows_per_shard, options.batch_multiple)
            check_something_left(receipts)
            manifest = publish(
                output,
                pipeline,
                identity_of(abouts[0]),
                _prompts(pipeline, encoders),
                receipts,
                _cards(content, receipts, options.cache / "downloads"),
                excluded_sets(excluded, receipts),
                _marks_used(options.exclude, marks, receipts),
            )
    if lock is not None:
        lock.check_rows(manifest)
    ledgers = [Ledger.from_dict(receipt.ledger) for receipt in receipts]
    return BuildResult(options.out, manifest, ledgers, seconds, dict(plan.left_out), dict(plan.not_commercial))


def _arriving(plan: Plan, downloads: Downloads, cache: Path) -> Iterator[Unit]:
    """Datasets as soon as what they lacked has arrived."""
    by_name = {unit.card.name: unit for unit in plan.units}
    listings: Listings = {}
    for name in downloads.arrivals():
        located = locate(by_name[name].card, plan.pipeline.split, plan.data, cache, listings)
        if located.missing:
            raise FetchError(f"{name}: {', '.join(located.missing)} arrived and went away; run the same command again")
        yield replace(by_name[name], located=located)


def _locked(lock: Lock, job: UnitJob) -> UnitJob:
    """A dataset whose files came, if they are what the lock file tells."""
    lock.check({job.unit.card.name: job.basis})
    return job


def _cards(content: Content, receipts: Sequence[Receipt], downloads: Path) -> dict[str, Card]:
    """The cards of what was built, naming what was fetched for it."""
    cards = {}
    for receipt in receipts:
        basis, card = receipt.basis.dataset, content.cards[receipt.dataset]
        files = chain(basis["rows"], *basis["extra"].values())
        cards[card.name] = as_fetched(card, pinned(card, downloads), (sha256 for _, sha256 in files))
    return cards


def _marks_used(path: Path | None, marks: Sequence[Mark], receipts: Sequence[Receipt]) -> MarksUsed | None:
    """What became of the file of marks."""
    if path is None:
        return None
    given = len({one.key for one in marks})
    in_build = {one.key for receipt in receipts for one in marks_of(marks, receipt.dataset)}
    lost = sum(receipt.ledger["notes"].get("marks_without_effect", 0) for receipt in receipts)
    return MarksUsed(sha256=file_digest(path), marks=given, without_effect=given - len(in_build) + lost)


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


def _job(
    unit: Unit,
    pipeline: Pipeline,
    common: dict[str, Any],
    output: OutputFolder,
    options: BuildOptions,
    device: str | None,
    excluded: Excluded | None,
    check_mining_loss: bool,
    marks: Sequence[Mark],
) -> UnitJob:
    """One dataset as work to hand out."""
    files, own = inputs_of(unit, options.cache / "indexes"), marks_of(marks, unit.card.name)
    return UnitJob(
        unit=unit,
        inputs=files,
        pipeline=pipeline,
        basis=Basis(build=common, dataset=fingerprint.basis_of_dataset(unit, files, own)),
        excluded=excluded,
        out=output.root,
        work=output.work,
        vectors=options.cache / "vectors",
        device=device,
        batch_multiple=options.batch_multiple,
        check_mining_loss=check_mining_loss,
        split_above=options.split_above,
        marks=own,
        explain=options.explain,
    )


class _Units:
    """The datasets of one build, of which some may have been finished by an earlier run."""

    def __init__(self, output: OutputFolder, dedup: bool, executor: Executor, progress: Silent) -> None:
        self._output, self._dedup, self._executor, self._progress = output, dedup, executor, progress
        self._receipts: dict[int, Receipt] = {}
        self._seconds: dict[str, float] = {}
        self._doubtful: list[tuple[UnitJob, Receipt]] = []

    def build(
        self, there: Sequence[UnitJob], coming: Iterable[UnitJob], count: int
    ) -> tuple[list[Receipt], dict[str, float]]:
        """Finish every dataset: receipts in the order of task ids, and the seconds of those that had to be built.

        ``count`` is how many of ``there`` and ``coming`` there are; fewer come where downloads fail.
        """
        pending = list(filter(self._unfinished, there))
        if pending or len(there) < count:
            self._output.invalidate()  # from here on the folder is not a finished dataset
        # The largest first, so that in the end no process works alone on one while the others have nothing left to do.
        pending.sort(key=lambda job: -sum(path.stat().st_size for path in job.inputs.rows))
        jobs = chain(pending, filter(self._unfinished, coming))
        self._map(jobs, len(pending) + count - len(there))
        if len(self._receipts) + len(self._doubtful) == count and (stale := self._stale()):
            self._output.invalidate()
            self._map(stale, len(stale))
        return [self._receipts[task_id] for task_id in sorted(self._receipts)], self._seconds

    def _unfinished(self, job: UnitJob) -> bool:
        """Whether no earlier run finished it; of one that lost pairs to others, those tell once they are built."""
        receipt = self._output.receipt(job.unit.task_id, job.basis.fingerprint)
        if receipt is None or (job.explain and not receipt.explanations):
            return True
        if receipt.after is None:
            self._accept(receipt)
        else:
            self._doubtful.append((job, receipt))
        return False

    def _stale(self) -> list[UnitJob]:
        """Datasets that lost pairs to other datasets than they would now; the others are accepted."""
        known = {one.task_id: one.fingerprint for one in (*self._receipts.values(), *(r for _, r in self._doubtful))}
        before = digests_before(known) if self._dedup else {}
        stale = []
        for job, receipt in self._doubtful:
            if receipt.after == before.get(receipt.task_id):
                self._accept(receipt)
            else:
                self._output.forget(receipt.task_id)
                stale.append(job)
        return stale

    def _accept(self, receipt: Receipt) -> None:
        self._receipts[receipt.task_id] = receipt
        self._progress.finish(receipt.dataset, receipt.rows, 0.0, resumed=True)

    def _map(self, jobs: Iterable[UnitJob], most: int) -> None:
        work = partial(build_unit, watcher=self._progress, share=self._executor.share)
        with closing(self._executor.map(work, jobs, most)) as results:
            for _, receipt, took in results:
                self._output.commit(receipt)
                self._receipts[receipt.task_id], self._seconds[receipt.dataset] = receipt, took
                self._progress.finish(receipt.dataset, receipt.rows, took, resumed=False)

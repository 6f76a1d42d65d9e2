"""The whole flow on one screen: resolve, fetch, then per dataset adapt, mine and write; publish at the end."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medi_build import fingerprint
from medi_build.adapt import AdaptJob, AdaptResult, adapt
from medi_build.adapters.base import Inputs
from medi_build.content import Content, load_content
from medi_build.engine import LocalExecutor
from medi_build.errors import ContentError, InputError, MissingInputError, OptionError, OutputError
from medi_build.fetch import fetch_missing
from medi_build.instruct import render
from medi_build.ledger import Ledger
from medi_build.plan import Plan, Unit, find_recipe, inputs_of, resolve
from medi_build.progress import Silent
from medi_build.recipe import MAX_SEED, EncoderSpec, Recipe
from medi_build.settings import cache_folder
from medi_build.write.assemble import assemble
from medi_build.write.output import OutputFolder, open_output
from medi_build.write.publish import publish
from medi_build.write.receipt import Receipt
from medi_build.write.shards import write_dataset

if TYPE_CHECKING:
    from medi_build.encode import Embedder


@dataclass(frozen=True)
class BuildOptions:
    """What a user decides about one build; what is None comes from the recipe.

    Attributes:
        out: output folder; new, empty or of an earlier run of the same build.
        sources: names, globs, collections, ``all`` for what the recipe names, ``-name`` to leave out.
        pipeline: the recipe.
        data: folder with ``super_ni/ kilt/ medmcqa/ embedding_training_data/`` inside.
        content: folder with a team's own ``sources/ templates/ pipelines/``.
        cache: downloads, vectors and indexes; shared between builds.
        offline: never use the network.
        allow_missing: leave out datasets without files instead of stopping.
        encoder: mining encoder in place of the recipe's.
        device: "cpu", "cuda" (all GPUs), "cuda:1"; None for the GPUs if there are any.
        dtype: arithmetic of the encoder in place of the recipe's.
        limit_per_dataset: most examples per dataset; 0 lifts every cap.
        seed: in place of the recipe's.
        batch_multiple: cut every dataset to a multiple of this many records.
        jobs: processes that adapt raw files.
    """

    out: Path
    sources: tuple[str, ...] = ("all",)
    pipeline: str = "quickstart"
    data: Path | None = None
    content: Path | None = None
    cache: Path = field(default_factory=cache_folder)
    offline: bool = False
    allow_missing: bool = False
    encoder: str | None = None
    device: str | None = None
    dtype: str | None = None
    limit_per_dataset: int | None = None
    seed: int | None = None
    batch_multiple: int = 1
    jobs: int = 1


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
    manifest: dict[str, Any]
    ledgers: list[Ledger]
    seconds: dict[str, float]
    left_out: dict[str, tuple[str, ...]]


def build(options: BuildOptions, watcher: Silent | None = None) -> BuildResult:
    """Build a dataset; run again after an interruption, it goes on where it was and gives the same bytes.

    Raises:
        MediError: see `medi_build.errors`; the output folder never looks complete when it is not.
    """
    with closing(watcher or Silent()) as progress:
        _check(options)
        content = load_content(options.content)
        recipe = _recipe(content, options)
        plan = resolve(
            content, recipe, options.sources, options.data, options.limit_per_dataset, options.cache / "downloads"
        )
        if not plan.units:
            raise MissingInputError(f"nothing to build: no files of {len(plan.left_out)} datasets in {options.data}")
        from medi_build.encode import open_embedder  # here: it loads torch, and most mistakes show before

        progress.start(len(plan.units))
        with open_output(options.out) as output:
            inputs = {unit.card.name: _inputs(unit, options.cache, recipe.offline, progress) for unit in plan.units}
            embedder = open_embedder(recipe.encoder, options.device, options.cache / "vectors", progress.advance)
            teacher = None
            if recipe.mining.teacher:
                spec = EncoderSpec(model=recipe.mining.teacher)
                teacher = open_embedder(spec, options.device, options.cache / "vectors", progress.advance)
            run = _Run(plan, output, embedder, teacher, options, progress)
            receipts = run.datasets(inputs)
            _check_something_left(receipts)
            manifest = publish(output, recipe, embedder.encoder.identity, receipts, content.cards)
    ledgers = [Ledger.from_dict(receipt.ledger) for receipt in receipts]
    return BuildResult(options.out, manifest, ledgers, run.seconds, dict(plan.left_out))


def _check(options: BuildOptions) -> None:
    """Raise `OptionError` for a number out of range or a cache that can be none."""
    least = {"limit_per_dataset": 0, "seed": 0, "batch_multiple": 1, "jobs": 1}
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise OptionError(f"{name} is {value}; it has to be at least {bound}")
    if options.seed is not None and options.seed > MAX_SEED:
        raise OptionError(f"seed is {options.seed}; it has to be at most {MAX_SEED}")
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cache {options.cache}: cannot be used ({error.strerror}); give another folder") from error


def _recipe(content: Content, options: BuildOptions) -> Recipe:
    """The recipe with the user's overrides."""
    recipe = find_recipe(content, options.pipeline)
    encoder = recipe.encoder.model_dump()
    encoder |= {"model": options.encoder, "revision": None} if options.encoder else {}
    encoder |= {"dtype": options.dtype} if options.dtype else {}
    try:
        spec = EncoderSpec.model_validate(encoder)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ContentError(f"encoder {fault['loc'][0]}: {fault['msg']}, saw {fault['input']!r}") from error
    return recipe.model_copy(
        update={
            "encoder": spec,
            "seed": recipe.seed if options.seed is None else options.seed,
            "allow_missing": recipe.allow_missing or options.allow_missing,
            "offline": recipe.offline or options.offline,
        }
    )


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
    teacher: "Embedder | None"
    options: BuildOptions
    progress: Silent
    seconds: dict[str, float] = field(default_factory=dict)

    def datasets(self, inputs: dict[str, Inputs]) -> list[Receipt]:
        """Finish every dataset and return the receipts in the order of task ids."""
        recipe = self.plan.recipe
        encoders = [embedder.encoder.identity for embedder in (self.embedder, self.teacher) if embedder]
        prints = {
            unit.task_id: fingerprint.of_unit(
                unit, recipe, inputs[unit.card.name], encoders, self.options.batch_multiple
            )
            for unit in self.plan.units
        }
        done = {task_id: self.output.receipt(task_id, print_) for task_id, print_ in prints.items()}
        pending = [unit for unit in self.plan.units if done[unit.task_id] is None]
        if pending:
            self.output.uncover()  # from here on the folder is not a finished dataset
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
            AdaptJob(unit.card, inputs[unit.card.name], unit.cap, self.plan.recipe.seed, self.output.work)
            for unit in units
        ]
        return LocalExecutor(self.options.jobs).map(adapt, jobs)

    def _finish(self, unit: Unit, adapted: AdaptResult, print_: str) -> Receipt:
        """Mine and write one dataset."""
        from medi_build.mine import mine

        recipe, card = self.plan.recipe, unit.card
        ledger = Ledger.from_dict(adapted.ledger)
        phrasings = render(unit.template, card.instruction.fields, adapted.fields, recipe.instructions.separator)
        if recipe.instructions.phrasing == "first":
            phrasings = phrasings[:1]
        examples, documents = adapted.examples(), adapted.documents()
        self.progress.stage(card.name, "mine")
        mined = mine(
            examples,
            documents,
            kind=adapted.kind,
            rule=recipe.mining,
            embed=self.embedder,
            teacher=self.teacher,
            instructions=(phrasings[0].query, phrasings[0].document) if recipe.mine_with_instructions else ("", ""),
            symmetric=card.options.adapter == "pairs" and card.options.symmetric,
            seed=recipe.seed,
            ledger=ledger,
        )
        _check_loss(unit, ledger)
        surplus = mined.num_rows % self.options.batch_multiple
        ledger.drop("write", "batch_multiple", surplus)
        mined = mined.slice(0, mined.num_rows - surplus)
        self.progress.stage(card.name, "write")
        tables = assemble(examples, mined, phrasings, recipe.seed, unit.task_id, card.name)
        written = write_dataset(self.output.root, unit.task_id, card.name, tables, recipe.rows_per_shard)
        ledger.written = written.fragment.rows
        ledger.check()
        for path in (adapted.examples_path, adapted.documents_path):
            path.unlink()
        return Receipt(
            fingerprint=print_,
            dataset=card.name,
            task_id=unit.task_id,
            kind=adapted.kind,
            instructions=[(p.query, p.document) for p in phrasings],
            shards=written.shards,
            fragment=written.fragment,
            ledger=ledger.to_dict(),
        )


def _check_loss(unit: Unit, ledger: Ledger) -> None:
    """Raise if a dataset lost more of its rows as bad than its card allows."""
    files = ", ".join(map(str, unit.located.found.get("rows", ()))) or "its files"
    if not ledger.read:
        raise InputError(f"{unit.card.name}: no rows in {files}; fetch the data again, or leave the dataset out")
    lost = ledger.dropped_in("adapt", "mine")
    if lost > unit.max_loss * ledger.read:
        reasons = {r: n for stage in ("adapt", "mine") for r, n in ledger.dropped.get(stage, {}).items()}
        worst = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items(), key=lambda x: -x[1]))
        places = "; ".join(place for places in ledger.places.values() for place in places[:1])
        raise InputError(
            f"{unit.card.name}: {lost:,} of {ledger.read:,} rows were dropped ({worst}), more than the "
            f"{unit.max_loss:.0%} its card allows"
            + (f"; for example {places}" if places else "")
            + f". Look at {files}, or raise max_loss in the card or recipe"
        )


def _check_something_left(receipts: Sequence[Receipt]) -> None:
    """Raise if no dataset has a record: an empty dataset would load nowhere."""
    if not any(receipt.rows for receipt in receipts):
        total = Ledger("all")
        for receipt in receipts:
            for stage, reasons in receipt.ledger["dropped"].items():
                for reason, count in reasons.items():
                    total.drop(stage, reason, count)
        reasons = [f"{count:,} {reason}" for counter in total.dropped.values() for reason, count in counter.items()]
        raise OutputError(
            f"no record is left of {len(receipts)} dataset(s): {', '.join(reasons)}; look at the data, raise the "
            "limit or lower the batch multiple"
        )

"""``medi build --dry-run``: which datasets a build would make, and why."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from medi_build.dataset.folder import OutputFolder
from medi_build.dataset.marks import marks_of, read_marks
from medi_build.dataset.plain import told
from medi_build.dataset.receipt import Basis, Receipt
from medi_build.pipeline import fingerprint
from medi_build.pipeline.dedup import digests_before
from medi_build.pipeline.exclude_eval import opened_excluded
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import inputs_of
from medi_build.pipeline.prepare import prepare
from medi_build.pipeline.unit import opened_embedders
from medi_build.progress import Silent


class Fate(NamedTuple):
    """What a build would do with one dataset.

    Attributes:
        dataset: its name.
        what: ``keep`` it as it is, ``build`` it, ``fetch`` files of it first, ``remove`` it.
        why: reasons, empty for what is kept.
    """

    dataset: str
    what: Literal["keep", "build", "fetch", "remove"]
    why: list[str]


def dry_run(options: BuildOptions, watcher: Silent | None = None) -> list[Fate]:
    """Look at what a build would do, in the order of task ids; neither the output nor a download is touched.

    Args:
        options: as for `medi_build.pipeline.run.build`.
        watcher: told how far it is: raw files are digested, evaluation texts read.

    Raises:
        MediError: as the build would before its first dataset.
    """
    prepared = prepare(options)
    options, plan, output = prepared.options, prepared.plan, OutputFolder(options.out)
    done = {receipt.dataset: receipt for receipt in output.receipts()}
    with (
        closing(watcher or Silent()) as progress,
        tempfile.TemporaryDirectory() as work,
        opened_excluded(plan.pipeline, Path(work), progress) as excluded,
        opened_embedders() as opened,
    ):
        encoders = [one.encoder.about for one in opened(plan.pipeline, options.device, options.cache / "vectors")]
        common = fingerprint.basis_of_build(
            plan.pipeline, encoders, options.batch_multiple, excluded.identity if excluded else ()
        )
        marks = read_marks(options.exclude) if options.exclude else []
        bases = {
            unit.card.name: Basis(
                build=common,
                dataset=fingerprint.basis_of_dataset(
                    unit, inputs_of(unit, options.cache / "indexes"), marks_of(marks, unit.card.name)
                ),
            )
            for unit in plan.units
            if not unit.located.missing
        }
    if prepared.lock is not None:
        prepared.lock.check(bases)
    repeated = _lost_to_others(bases, done) if plan.pipeline.dedup else set()
    fates = []
    for unit in plan.units:
        name = unit.card.name
        if unit.located.missing:
            fates.append(Fate(name, "fetch", [f"{file} is not there" for file in unit.located.missing]))
            continue
        why = _reasons(output, done.get(name), bases[name])
        if not why and options.explain and not done[name].explanations:
            why = ["has no explanations yet"]
        if not why and name in repeated:
            why = ["pairs that earlier datasets have: those changed"]
        fates.append(Fate(name, "build" if why else "keep", why))
    planned = {unit.card.name for unit in plan.units}
    return fates + [Fate(name, "remove", ["is no part of this build"]) for name in done if name not in planned]


def _reasons(output: OutputFolder, receipt: Receipt | None, basis: Basis) -> list[str]:
    """Why a dataset cannot stay as it is."""
    if receipt is None:
        return ["is not in the folder"]
    if receipt.fingerprint != basis.fingerprint:
        own, common = receipt.basis.dataset, receipt.basis.build
        return [*told(common, basis.build), *told(own, basis.dataset)] or [
            "what decides it is another form of the same"
        ]
    return [] if output.is_intact(receipt) else ["files of it are gone or damaged"]


def _lost_to_others(bases: Mapping[str, Basis], done: Mapping[str, Receipt]) -> set[str]:
    """Datasets that dropped pairs because of datasets that are other ones now."""
    known = {basis.dataset["task_id"]: basis.fingerprint for basis in bases.values()}
    before = digests_before(known)
    return {
        name
        for name, receipt in done.items()
        if receipt.after is not None and receipt.after != before.get(receipt.task_id)
    }

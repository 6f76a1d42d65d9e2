"""``medi validate``: the content is loaded strictly, and datasets with files are adapted and rendered."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from medi_build.content.instructions import render
from medi_build.content.load import load_content, select_names
from medi_build.errors import ContentError, MediError
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.paths import cache_folder
from medi_build.pipeline.lint import lint
from medi_build.pipeline.plan import inputs_of, resolve

DRY_RUN_CAP = 1000


class Validated(NamedTuple):
    """What was checked."""

    cards: int
    templates: int
    pipelines: int
    datasets: int
    rows: int
    to_mend: int
    """Instructions that `medi lint` lists."""


def validate(overlay: Path | None, data: Path | None) -> Validated:
    """Check all content and run what has files: the sample data, and the datasets found in ``data``.

    Raises:
        ContentError: listing every fault.
    """
    content = load_content(overlay)
    faults = []
    for pipeline in content.pipelines.values():
        try:
            select_names(content.cards, pipeline.sources)
        except ContentError as error:
            faults.append(f"pipeline {pipeline.name}: {error}")
    datasets = rows = 0
    downloads = cache_folder() / "downloads"
    pipeline = content.pipelines["quickstart"].model_copy(update={"allow_missing": True, "offline": True})
    plans = [resolve(content, pipeline, ("sample",), content.sample_data, DRY_RUN_CAP, downloads)]
    if data is not None:
        for split in ("train", "dev"):
            local = pipeline.model_copy(update={"split": split, "sources": tuple(content.cards)})
            plans.append(resolve(content, local, ("all",), data, DRY_RUN_CAP, downloads))
    with tempfile.TemporaryDirectory() as folder:
        for plan in plans:
            for unit in plan.units:
                inputs = inputs_of(unit, cache_folder() / "indexes")
                try:
                    result = adapt(AdaptJob(unit.card, inputs, unit.cap, pipeline.seed, Path(folder)))
                    render(unit.template, unit.card.instruction.fields, result.fields, ";")
                except MediError as error:
                    faults.append(f"{unit.card.name}: {error}")
                    continue
                datasets += 1
                rows += result.ledger["read"]
    if faults:
        raise ContentError(f"{len(faults)} fault(s):\n" + "\n".join(f"  {fault}" for fault in faults))
    return Validated(
        len(content.cards),
        len(content.templates),
        len(content.pipelines),
        datasets,
        rows,
        len(lint(overlay, data=data).findings),
    )

"""Resolves a pipeline, the content and what is on disk into a plan: every dataset with its files and settings."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medi_build.content.cards import Card
from medi_build.content.instructions import Template
from medi_build.content.load import Content, select_names
from medi_build.content.pipelines import Pipeline
from medi_build.errors import ContentError, MissingInputError, did_you_mean
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.fetch import Listings, Located, lacking, locate
from medi_build.ingest.remotes import Remote, remotes_of

_T = TypeVar("_T")


@dataclass(frozen=True)
class Unit:
    """One dataset of a plan.

    Attributes:
        card: what it is.
        task_id: its id in the records.
        template: of its instructions.
        cap: most examples kept before mining; 0: all.
        max_loss: share of raw rows that may be lost.
        located: its files that are on disk, and those that are not.
    """

    card: Card
    task_id: int
    template: Template
    cap: int
    max_loss: float
    located: Located


@dataclass(frozen=True)
class Plan:
    """What will be built.

    Attributes:
        pipeline: with all overrides applied.
        units: datasets in the order of task ids.
        left_out: datasets without files, name -> what is missing (only where that is allowed).
        not_commercial: datasets that the licence policy leaves out, name -> SPDX id.
        data: folder of raw files, if there is one.
    """

    pipeline: Pipeline
    units: tuple[Unit, ...]
    left_out: Mapping[str, tuple[str, ...]]
    not_commercial: Mapping[str, str]
    data: Path | None


def find_pipeline(content: Content, name: str) -> Pipeline:
    """The pipeline of that name.

    Raises:
        ContentError: there is none.
    """
    if name not in content.pipelines:
        known = ", ".join(sorted(content.pipelines))
        raise ContentError(f"no pipeline {name!r}{did_you_mean(name, content.pipelines)}; there are {known}")
    return content.pipelines[name]


def resolve(
    content: Content,
    pipeline: Pipeline,
    sources: tuple[str, ...],
    data: Path | None,
    limit_per_dataset: int | None,
    downloads: Path,
    listings: Listings | None = None,
) -> Plan:
    """Choose the datasets and find their files.

    Args:
        content: cards, templates, task ids.
        pipeline: with overrides applied.
        sources: patterns (see `select_names`); ``all`` means the pipeline's own choice.
        data: the user's folder of raw files.
        limit_per_dataset: cap over all others; 0 lifts every cap.
        downloads: cache of downloads; a file in it counts as found.
        listings: what is found in folders, where that is known already.

    Raises:
        ContentError: a pattern matches nothing.
        MissingInputError: there is no such folder, or listing every file that is neither there nor to be had.
    """
    if data is not None and not data.is_dir():
        raise MissingInputError(f"--data {data}: no such folder; give the one that holds <source>/<file>")
    chosen = select_names(content.cards, pipeline.sources)
    names = select_names(content.cards, sources, everything=chosen)
    if not names:
        raise ContentError(
            f"--sources {','.join(sources)} leaves out everything that it names; nothing is left to build"
        )
    folder = content.sample_data if pipeline.bundled_data and data is None else data
    units: list[Unit] = []
    listings = {} if listings is None else listings
    left_out: dict[str, tuple[str, ...]] = {}
    not_commercial: dict[str, str] = {}
    for name in names:
        card = content.cards[name]
        if pipeline.licence_policy == "commercial" and not _may_be_commercial(card):
            not_commercial[name] = card.licence.spdx
            continue
        if pipeline.split not in card.files:
            left_out[name] = (f"no split {pipeline.split!r} (has {', '.join(card.files)})",)
            continue
        located = locate(card, pipeline.split, folder, downloads, listings)
        nowhere = tuple(n for n in located.missing if pipeline.offline or not remotes_of(card, n))
        if nowhere:
            left_out[name] = nowhere
            continue
        units.append(
            Unit(
                card=card,
                task_id=content.task_ids[name],
                template=content.templates[card.instruction.template],
                cap=_cap(card, pipeline) if limit_per_dataset is None else limit_per_dataset,
                max_loss=_first_match(pipeline.max_loss, name, card.max_loss),
                located=located,
            )
        )
    if left_out and not pipeline.allow_missing:
        raise MissingInputError(_list_missing(left_out, folder, pipeline.offline))
    return Plan(pipeline, tuple(units), left_out, not_commercial, folder)


def _may_be_commercial(card: Card) -> bool:
    """Whether commercial use is allowed, or only the files tell (those of Super-NI name a licence for each task)."""
    use = card.licence.commercial_use
    return use == "allowed" or (use == "unknown" and card.options.adapter == "super_ni")


def _cap(card: Card, pipeline: Pipeline) -> int:
    published = card.published if pipeline.size == "published" else None
    return _first_match(pipeline.caps, card.name, published.rows if published else card.cap)


def _first_match(rules: Mapping[str, _T], name: str, default: _T) -> _T:
    return next((value for glob, value in rules.items() if fnmatch.fnmatchcase(name, glob)), default)


def _list_missing(left_out: Mapping[str, tuple[str, ...]], folder: Path | None, offline: bool) -> str:
    lines = [f"  {name}: {', '.join(files)}" for name, files in left_out.items()]
    way = "--offline forbids downloading them" if offline else "their cards name no download"
    where = f"below {folder}" if folder else "anywhere: no --data was given"
    return (
        f"{len(left_out)} dataset(s) lack input: not {where}, and {way}.\n"
        + "\n".join(lines)
        + "\nGive --data DIR with <source>/<file> inside, or --allow-missing to build the others."
    )


def remotes_lacking(plan: Plan) -> dict[str, list[Remote]]:
    """The files to fetch for each dataset that is not whole."""
    return {u.card.name: lacking(u.card, u.located.missing) for u in plan.units if u.located.missing}


def inputs_of(unit: Unit, cache: Path) -> Inputs:
    """The adapter's inputs: what was found, role by role."""
    roles = dict(unit.located.found)
    return Inputs(rows=roles.pop("rows", ()), extra=roles, cache=cache)

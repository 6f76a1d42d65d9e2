"""What a build is made of before anything is read: content, pipeline, plan; from options, or from a lock file."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from medi_build.content.load import Content, load_content
from medi_build.errors import MissingInputError
from medi_build.ingest.raw_data import raw_data
from medi_build.pipeline.lock import Lock, read_lock
from medi_build.pipeline.options import BuildOptions, check_options, pipeline_of
from medi_build.pipeline.plan import Plan, resolve
from medi_build.progress import Silent


class Prepared(NamedTuple):
    """What is to be built.

    Attributes:
        options: the user's; under a lock with what it tells in them.
        content: cards, templates, task ids; under a lock the cards name the revisions and digests that it tells.
        plan: every dataset with its files and settings.
        lock: what the build has to resolve to, if that is given.
        urls: where else a raw file is to be had, or empty.
    """

    options: BuildOptions
    content: Content
    plan: Plan
    lock: Lock | None
    urls: Callable[[Path], str]


def prepare(options: BuildOptions, progress: Silent | None = None) -> Prepared:
    """Resolve a build; ``progress`` is told what is fetched from the URL of ``options.data``, where it is one.

    Raises:
        MediError: see `medi_build.errors`; nothing was written.
    """
    check_options(options)
    content = load_content(options.content)
    lock = read_lock(options.locked) if options.locked else None
    pipeline = pipeline_of(content, options) if lock is None else lock.pipeline_under(options)
    if lock is not None:
        options = lock.options_under(options)
        lock.check_content(content)
        content = lock.pinned(content)
    sources = {card.source for card in content.cards.values()}
    raw = raw_data(options.data, options.cache, sources, progress or Silent())
    downloads = options.cache / "downloads"
    plan = resolve(content, pipeline, options.sources, raw.folder, options.limit_per_dataset, downloads, raw.listings)
    if lock is not None:
        lock.check_plan(plan)
    if not plan.units:
        raise MissingInputError(
            f"nothing to build: no files of {len(plan.left_out)} datasets in {options.data}, and "
            f"{len(plan.not_commercial)} are not known to allow commercial use"
        )
    if lock is not None:
        plan = replace(plan, units=tuple(replace(unit, cap=lock.cap(unit.card.name)) for unit in plan.units))
    raw.fetch(chain.from_iterable(chain.from_iterable(unit.located.found.values()) for unit in plan.units))
    return Prepared(options, content, plan, lock, raw.url_of)

"""What a build is made of before anything is read: content, pipeline, plan; from options, or from a lock file."""

from dataclasses import replace
from typing import NamedTuple

from medi_build.content.load import Content, load_content
from medi_build.errors import MissingInputError
from medi_build.pipeline.lock import Lock, read_lock
from medi_build.pipeline.options import BuildOptions, check_options, pipeline_of
from medi_build.pipeline.plan import Plan, resolve


class Prepared(NamedTuple):
    """What is to be built.

    Attributes:
        options: the user's; under a lock with what it tells in them.
        content: cards, templates, task ids; under a lock the cards name the revisions and digests that it tells.
        plan: every dataset with its files and settings.
        lock: what the build has to resolve to, if that is given.
    """

    options: BuildOptions
    content: Content
    plan: Plan
    lock: Lock | None


def prepare(options: BuildOptions) -> Prepared:
    """Resolve a build.

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
    plan = resolve(
        content, pipeline, options.sources, options.data, options.limit_per_dataset, options.cache / "downloads"
    )
    if lock is not None:
        lock.check_plan(plan)
    if not plan.units:
        raise MissingInputError(
            f"nothing to build: no files of {len(plan.left_out)} datasets in {options.data}, and "
            f"{len(plan.not_commercial)} are not known to allow commercial use"
        )
    if lock is not None:
        plan = replace(plan, units=tuple(replace(unit, cap=lock.cap(unit.card.name)) for unit in plan.units))
    return Prepared(options, content, plan, lock)

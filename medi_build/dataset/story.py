"""The commits in the life of a record: the one that brought it, and the last one that changed it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medi_build.dataset.blame import Blame
from medi_build.dataset.diff import compare_dataset
from medi_build.dataset.versions.log import Commit
from medi_build.dataset.versions.refs import log, open_version


class Story(NamedTuple):
    """Commits in the life of a record.

    Attributes:
        brought: the commit since which it has been there without a break; None if that is older than the history kept.
        changed: the last commit that changed it; None if none did since.
        fields: what that one changed.
    """

    brought: Commit | None
    changed: Commit | None
    fields: Sequence[str]


def story(warehouse: Path | None, ref: str, record: Blame) -> Story:
    """Walk back from a version that has the record; only shards that differ from those of the commit before are read.

    Raises:
        VersionError: REF is unknown, or files of a version are missing.
        DatasetError: a shard cannot be read.
    """
    commits = log(warehouse, ref)
    name, changed = record.dataset.name, None
    fields: tuple[str, ...] = ()
    for number, commit in enumerate(commits):
        if name in commit.changed.added:
            return Story(commit, changed, fields)
        if name not in commit.changed.replaced:
            continue
        if number + 1 == len(commits):
            break
        sides = [open_version(warehouse, str(one.id)) for one in (commits[number + 1], commit)]
        entries = [next(one for one in side.manifest.datasets if one.name == name) for side in sides]
        rows = compare_dataset(sides, entries, only=record.record["id"]).changes
        if rows.added:
            return Story(commit, changed, fields)
        if rows.changed and changed is None:
            changed, fields = commit, tuple(rows.fields)
    return Story(None, changed, fields)

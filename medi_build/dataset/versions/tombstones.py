"""What was purged, kept as counts and digests, so that it can be told and does not come back."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medi_build.dataset.reader import shard_batches
from medi_build.errors import VersionError
from medi_build.files import text_digest, write_bytes

TOMBSTONES = "tombstones.jsonl"


class Tombstone(BaseModel):
    """One purge.

    Attributes:
        time: when.
        reason: as it was given.
        by: what was looked for.
        sha256: of it; never the thing itself.
        records: dataset to how many different records of it went.
        commits: ids of the versions that had some.
        ids: sha256 of each record's id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: datetime
    reason: str
    by: Literal["id", "text"]
    sha256: str
    records: dict[str, int]
    commits: list[str]
    ids: list[str]


def read_tombstones(root: Path) -> list[Tombstone]:
    """The tombstones of a warehouse, the oldest first."""
    path = root / TOMBSTONES
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Tombstone.model_validate_json(line) for line in lines]


def add_tombstone(root: Path, tombstone: Tombstone) -> None:
    """Write a tombstone, unless it is there."""
    known = read_tombstones(root)
    if tombstone not in known:
        lines = "".join(one.model_dump_json() + "\n" for one in [*known, tombstone])
        write_bytes(root / TOMBSTONES, lines.encode(), root)


def check_not_purged(root: Path, shards: Iterable[Path]) -> None:
    """Raise `VersionError` if shards have a record that was purged: a build from the same raw files brings it back."""
    purged = {digest: one for one in read_tombstones(root) for digest in one.ids}
    if not purged:
        return
    for path in shards:
        for batch in shard_batches(path, ["id"]):
            for record_id in batch["id"].to_pylist():
                stone = purged.get(text_digest(record_id))
                if stone is not None:
                    raise VersionError(
                        f"{path}: has the record {record_id}, which was purged on {stone.time:%Y-%m-%d} "
                        f"({stone.reason or 'no reason given'}); take it out of the raw files and build again. Where "
                        f"the takedown was withdrawn, remove its line from {root / TOMBSTONES}"
                    )

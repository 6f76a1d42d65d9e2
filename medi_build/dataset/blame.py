"""Where one record comes from: raw file and row, card, instructions, miner and build."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from medi_build.dataset.reader import BuiltDataset, DatasetEntry, Manifest
from medi_build.dataset.row_changes import collected
from medi_build.dataset.row_examples import record_at
from medi_build.dataset.versions.names import warehouse_folder
from medi_build.dataset.versions.tombstones import read_tombstones
from medi_build.errors import DatasetError, did_you_mean
from medi_build.files import text_digest

_NEAREST = 3
_MOST_COMPARED = 20_000
"""Ids that are compared letter by letter with one that is not there."""


@dataclass(frozen=True)
class Blame:
    """One record, and all that its folder knows of it.

    Attributes:
        record: its columns, see ``RECORDS``.
        dataset: as the manifest tells it, card and digests of its raw files among it.
        source_sha256: digest of the raw file that the record came from; None where the manifest does not know it,
            or knows several of this name.
        encoder: name of the encoder that mined, with its revision where it is of a hub.
        encoder_identity: of that encoder.
        medi_version: the version of medi that built it.
        pipeline: name of the pipeline.
    """

    record: dict[str, Any]
    dataset: DatasetEntry
    source_sha256: str | None
    encoder: str
    encoder_identity: str
    medi_version: str
    pipeline: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        card = {name: self.dataset.card.get(name) for name in ("description", "citation", "download")}
        return {
            "id": self.record["id"],
            "dataset": self.dataset.name,
            "source": {
                "file": self.record["source_file"],
                "row": self.record["source_row"],
                "sha256": self.source_sha256,
            },
            "card": {**card, "licence": self.dataset.licence, "commercial_use": self.dataset.commercial_use},
            "build": {
                "medi_version": self.medi_version,
                "pipeline": self.pipeline,
                "fingerprint": self.dataset.fingerprint,
                "encoder": self.encoder,
                "encoder_identity": self.encoder_identity,
            },
            "record": self.record,
        }


def blame(dataset: BuiltDataset, record_id: str) -> Blame:
    """Find a record by its id.

    Raises:
        DatasetError: there is none; the error names the nearest ids. Or a shard cannot be read.
    """
    entries = datasets_of(dataset, record_id)
    for entry in entries:
        shards = dataset.shards_of(entry)
        places = _places(shards, record_id)
        if places:
            record = record_at(shards, places[0])
            source = PurePosixPath(record["source_file"]).name
            digests = [sha256 for name, sha256 in entry.basis["rows"] if name == source]
            return Blame(
                record=record,
                dataset=entry,
                source_sha256=digests[0] if len(digests) == 1 else None,
                encoder=_encoder(dataset.manifest),
                encoder_identity=dataset.manifest.encoder,
                medi_version=dataset.manifest.medi_version,
                pipeline=dataset.manifest.pipeline["name"],
            )
    near = [one for entry in entries for one in _nearest(dataset.shards_of(entry), record_id)][:_NEAREST]
    told = f"; the nearest ids there are {', '.join(near)}" if near else ""
    raise DatasetError(f"{record_id}: no record of {entries[0].name} has this id{told}")


def _encoder(manifest: Manifest) -> str:
    main = manifest.basis["encoders"][0]
    return f"{main['model']}@{main['revision']}" if main["revision"] else str(main["model"])


def check_not_purged(warehouse: Path | None, record_id: str) -> None:
    """Raise `DatasetError` if a record of this id was purged from the warehouse."""
    for stone in read_tombstones(warehouse_folder(warehouse)):
        if text_digest(record_id) in stone.ids:
            raise DatasetError(
                f"{record_id}: was purged on {stone.time:%Y-%m-%d} from {len(stone.commits)} version(s) "
                f"({stone.reason or 'no reason given'})"
            )


def datasets_of(dataset: BuiltDataset, record_id: str) -> list[DatasetEntry]:
    """Those whose name the id begins with, the longest name first."""
    found = [one for one in dataset.manifest.datasets if record_id.startswith(f"{one.name}/")]
    if not found:
        names = [one.name for one in dataset.manifest.datasets]
        guess = did_you_mean(record_id.rpartition("/")[0] or record_id, names)
        raise DatasetError(
            f"{record_id}: begins with the name of none of the {len(names)} datasets here, as ids do{guess}"
        )
    return sorted(found, key=lambda one: -len(one.name))


def _places(shards: Sequence[Path], record_id: str) -> list[int]:
    if not shards:
        return []
    rows = pl.scan_parquet(list(shards), row_index_name="place").filter(pl.col("id") == record_id).select("place")
    return collected(rows)["place"].to_list()


def _nearest(shards: Sequence[Path], record_id: str) -> list[str]:
    """Ids like this one, of those that share their beginning or end with it where there are too many."""
    if not shards:
        return []
    ids = collected(pl.scan_parquet(list(shards)).select("id"))["id"]
    dataset, _, key = record_id.rpartition("/")
    if len(ids) > _MOST_COMPARED:
        like = ids.str.starts_with(f"{dataset}/{key[:3]}") | ids.str.ends_with(key[-3:])
        ids = ids.filter(like).head(_MOST_COMPARED)
    return difflib.get_close_matches(record_id, ids.to_list(), _NEAREST, cutoff=0.6)

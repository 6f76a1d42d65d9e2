"""A build, or a version of one, as a folder for another tool: whole or not there."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from medi_build.dataset.export.croissant import CROISSANT
from medi_build.dataset.export.describe import describe
from medi_build.dataset.export.readme import export_card
from medi_build.dataset.export.writers import Exported, ExportFormat, Notes, Subset, medi_json, write_subset
from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.subsets import Policy, choose, subset_names
from medi_build.errors import OutputError
from medi_build.files import FileEntry, remove_left_behind, replacing, write_bytes
from medi_build.progress import Silent

RECEIPT = "export.json"
"""Beside the files of an export: of what it was made, and their digests."""


class Export(NamedTuple):
    """What an export holds.

    Attributes:
        rows: subset -> rows of it.
        notes: subset -> what was done to it.
        left_out: datasets that the policy kept back.
        empty: names of datasets without records.
        fresh: False if the folder held exactly this already.
    """

    rows: dict[str, int]
    notes: dict[str, Notes]
    left_out: list[DatasetEntry]
    empty: list[str]
    fresh: bool


def export(dataset: BuiltDataset, form: ExportFormat, out: Path, policy: Policy, watcher: Silent) -> Export:
    """Write a dataset into a new folder ``out`` in one of the `FORMATS`. The same dataset gives the same bytes.

    A folder that holds this export already is left as it is.

    Raises:
        OutputError: the folder holds something else or cannot be written, or the policy leaves nothing.
        DatasetError: a shard cannot be read.
    """
    manifest = dataset.manifest
    chosen = choose(manifest.datasets, policy)
    if not chosen.kept:
        raise OutputError(
            f"nothing to export: none of {len(manifest.datasets)} datasets has records"
            + (" whose licence is known to allow commercial use; --licence-policy any takes all" * (policy != "any"))
        )
    head = _head(dataset, form, policy)
    before = _found(out, head)
    if before is not None:
        return _told(before, chosen.left_out, manifest.datasets, fresh=False)
    names = dict(zip((one.name for one in manifest.datasets), subset_names(manifest.datasets), strict=True))
    prompts = any(query for one in chosen.kept for query, _ in one.instructions)
    subsets = [Subset(names[one.name], one, dataset.shards_of(one), prompts) for one in chosen.kept]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(out.parent, out.name)
        with replacing(out) as folder:
            made = _write(form, subsets, folder, watcher)
            files = list(made.data.values())
            notes = {name: vars(one) for name, one in made.notes.items()}
            if form == "sentence-transformers":
                given = {name: one.prompts for name, one in made.notes.items()}
                files.append(write_bytes(folder / "prompts.json", _json(given), folder))
            card = export_card(manifest, form, subsets, made.notes, chosen.left_out)
            files.append(write_bytes(folder / "README.md", card.encode(), folder))
            about = describe(manifest, form, subsets, made.notes, made.data, files)
            files.append(write_bytes(folder / CROISSANT, about, folder))
            receipt = head | {
                "left_out": [one.name for one in chosen.left_out],
                "rows": made.rows,
                "notes": notes,
                "files": [one.model_dump(mode="json") for one in files],
            }
            write_bytes(folder / RECEIPT, _json(receipt), folder)
    except OSError as error:
        raise OutputError(f"--out {out}: cannot be written ({error.strerror or error}); choose another one") from error
    return _told(receipt, chosen.left_out, manifest.datasets, fresh=True)


class _Made(NamedTuple):
    data: dict[str, FileEntry]
    rows: dict[str, int]
    notes: dict[str, Notes]


def _write(form: ExportFormat, subsets: list[Subset], folder: Path, watcher: Silent) -> _Made:
    """The data files, told to ``watcher`` one by one."""
    data: dict[str, FileEntry] = {}
    rows, notes = {subset.name: subset.entry.rows for subset in subsets}, dict[str, Notes]()
    watcher.start(len(subsets))

    def watch(subset: Subset) -> Any:
        watcher.stage(subset.entry.name, "export")
        return lambda done: watcher.advance(done, subset.entry.rows)

    if form == "medi-json":
        whole = medi_json(subsets, folder, watch)
        return _Made({whole.path: whole}, rows, {subset.name: Notes() for subset in subsets})
    for subset in subsets:
        one: Exported = write_subset(form, subset, folder, watch(subset))
        data[subset.name] = one.file
        notes[subset.name] = one.notes
        watcher.done(f"{subset.entry.name}: {one.file.rows:,} rows")
    return _Made(data, rows, notes)


def _head(dataset: BuiltDataset, form: ExportFormat, policy: Policy) -> dict[str, Any]:
    """What decides the bytes of an export."""
    manifest = (dataset.root / MANIFEST).read_bytes()
    return {
        "format": form,
        "licence_policy": policy,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "medi_version": version("medi-build"),
    }


def _found(out: Path, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The receipt of the same export in ``out``; None where there is nothing.

    Raises:
        OutputError: there is something else, or the export lacks a file.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        receipt: dict[str, Any] = orjson.loads((out / RECEIPT).read_bytes())
        same = {name: receipt.get(name) for name in head} == head
        whole = all((out / one["path"]).stat().st_size == one["size"] for one in receipt["files"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise OutputError(f"--out {out}: holds something else; give a folder that is new or empty") from None
    if not same:
        raise OutputError(
            f"--out {out}: holds another export ({receipt.get('format')}, of other data or under another policy); "
            "give a new folder, or remove that one"
        )
    if not whole:
        raise OutputError(f"--out {out}: holds this export, but a file of it was changed; remove the folder")
    return receipt


def _told(receipt: Mapping[str, Any], left_out: list[DatasetEntry], all_: list[DatasetEntry], *, fresh: bool) -> Export:
    notes = {name: Notes(**one) for name, one in receipt["notes"].items()}
    return Export(receipt["rows"], notes, left_out, [one.name for one in all_ if not one.rows], fresh)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"

"""What Croissant metadata says of an export."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from medi_build.dataset.export.croissant import Part, croissant
from medi_build.dataset.export.writers import ExportFormat, Notes, Subset
from medi_build.dataset.formats import TUPLES
from medi_build.dataset.reader import Manifest
from medi_build.dataset.schema import RECORDS
from medi_build.files import FileEntry

_LISTS = TUPLES.field("negatives").type


def describe(
    manifest: Manifest,
    form: ExportFormat,
    subsets: Sequence[Subset],
    notes: Mapping[str, Notes],
    data: Mapping[str, FileEntry],
    files: Sequence[FileEntry],
) -> bytes:
    """``croissant.json`` of an export: every file; a record set for each subset, where its rows are flat.

    Args:
        manifest: of the build.
        form: the format.
        subsets: what was written.
        notes: what was done to each subset.
        data: subset -> its file; the one file of ``medi-json`` is no subset's.
        files: all files.
    """
    parts = []
    for subset in subsets:
        own = [data[subset.name]] if subset.name in data else []
        fields = _fields(form, subset, notes[subset.name]) if own else pa.schema([])
        parts.append(Part(subset.name, subset.entry, own, fields))
    return croissant(manifest, f"{manifest.pipeline['name']} for {form}", parts, files)


def _fields(form: ExportFormat, subset: Subset, notes: Notes) -> pa.Schema:
    if form == "jsonl":
        return RECORDS
    if form == "sentence-transformers":
        negatives = (f"negative_{place + 1}" for place in range(notes.negatives))
        return pa.schema([(name, pa.string()) for name in ("anchor", "positive", *negatives)])
    if form == "flagembedding":
        prompt = [("prompt", pa.string())] if subset.prompts else []
        return pa.schema([("query", pa.string()), ("pos", _LISTS), ("neg", _LISTS), *prompt])
    return pa.schema([])  # Tevatron's passages are records in lists, which Croissant's readers do not know

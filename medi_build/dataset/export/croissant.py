"""Croissant metadata (JSON-LD, https://docs.mlcommons.org/croissant), which follows from what it describes alone."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from medi_build.dataset.reader import DatasetEntry, Manifest
from medi_build.dataset.schema import RECORDS
from medi_build.dataset.sources import source_of
from medi_build.dataset.subsets import subset_names
from medi_build.files import FileEntry

CROISSANT = "croissant.json"
"""Its file beside the data."""
FORMATS = {".parquet": "application/x-parquet", ".jsonl": "application/jsonlines", ".json": "application/json"}
"""Ending of a file -> how its format is named."""
TYPES: dict[Any, str] = {
    pa.string(): "sc:Text",
    pa.int32(): "sc:Integer",
    pa.int64(): "sc:Integer",
    pa.float32(): "sc:Float",
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


class Part(NamedTuple):
    """One dataset as it lies there.

    Attributes:
        name: of its record set.
        entry: what the manifest says of it.
        files: its data files.
        fields: name of a column -> its type; empty where the tool's own form is no table.
    """

    name: str
    entry: DatasetEntry
    files: Sequence[FileEntry]
    fields: pa.Schema


def of_build(manifest: Manifest, place: Callable[[FileEntry], str] = lambda file: file.path) -> bytes:
    """``croissant.json`` of a built folder, as it is pushed; ``place`` says where a file lies beside it."""

    def lying(files: Sequence[FileEntry]) -> list[FileEntry]:
        return [file.model_copy(update={"path": place(file)}) for file in files]

    parts = [
        Part(name, one, lying(one.shards), RECORDS)
        for name, one in zip(subset_names(manifest.datasets), manifest.datasets, strict=True)
        if one.shards
    ]
    return croissant(manifest, str(manifest.pipeline["name"]), parts, lying(manifest.files))


def croissant(manifest: Manifest, name: str, parts: Sequence[Part], others: Sequence[FileEntry]) -> bytes:
    """The metadata of some files that were made of a build.

    Args:
        manifest: of the build.
        name: of what is described.
        parts: a record set for each.
        others: files beside them.
    """
    sets = [_files_of(part) for part in parts]
    named = {file["@id"] for one in sets for file in one}
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": " ".join(str(manifest.pipeline["description"]).split()),
        "license": sorted({_licence(part.entry.licence) for part in parts}),
        "citeAs": "; ".join(dict.fromkeys(" ".join(str(part.entry.card["citation"]).split()) for part in parts)),
        "isBasedOn": sorted({place for part in parts for place in source_of(part.entry).places}),
        "version": f"1.0.0+{manifest.digest[:12] or 'none'}",
        "distribution": [
            *(file for one in sets for file in one),
            *(_file(one) for one in others if one.path not in named),
        ],
        "recordSet": [_record_set(part) for part in parts if len(part.fields)],
    }
    return orjson.dumps(described, option=orjson.OPT_INDENT_2) + b"\n"


def _licence(spdx: str) -> str:
    known = spdx != "unconfirmed" and not spdx.startswith("LicenseRef-")
    return f"https://spdx.org/licenses/{spdx}.html" if known else spdx


def _format(path: str) -> str:
    return next((kind for ending, kind in FORMATS.items() if path.endswith(ending)), "text/plain")


def _file(file: FileEntry) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size} B",
        "encodingFormat": _format(file.path),
        "sha256": file.sha256,
    }


def _files_of(part: Part) -> list[dict[str, Any]]:
    """Its files, each with its digest; several are a set, too, that a record set can name."""
    files = [_file(one) for one in part.files]
    if len(files) > 1:
        paths = [one.path for one in part.files]
        kind = _format(paths[0])
        files.append({"@type": "cr:FileSet", "@id": part.name, "encodingFormat": kind, "includes": paths})
    return files


def _record_set(part: Part) -> dict[str, Any]:
    source = {"fileSet": {"@id": part.name}} if len(part.files) > 1 else {"fileObject": {"@id": part.files[0].path}}
    name = f"records/{part.name}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": part.name,
        "description": f"{part.entry.rows} records of {part.entry.name}, licence {part.entry.licence}.",
        "field": [_field(f"{name}/{field.name}", field, source) for field in part.fields],
    }


def _field(name: str, field: pa.Field, source: dict[str, Any]) -> dict[str, Any]:
    items = field.type.value_type if pa.types.is_list(field.type) else None
    array = {"isArray": True, "arrayShape": "-1"} if items is not None else {}
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": field.name,
        "dataType": TYPES[items or field.type],
        **array,
        "source": {**source, "extract": {"column": field.name}},
    }

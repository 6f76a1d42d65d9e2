"""What a shell may complete: names that are known without loading anything large. Nothing here raises."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from medi_build.dataset.versions.names import warehouse_folder
from medi_build.paths import content_root

MOST_FOLDERS = 50
Complete = Callable[[typer.Context, str], list[str]]


def pipelines(context: typer.Context, incomplete: str) -> list[str]:
    """Names of pipelines, ours and those of ``--content``."""
    return _fitting((path.stem for root in _roots(context) for path in root.glob("pipelines/*.yaml")), incomplete)


def templates(context: typer.Context, incomplete: str) -> list[str]:
    """Names of families of instructions."""
    files = (path.stem for root in _roots(context) for path in root.glob("templates/*.yaml"))
    return _fitting((name for name in files if name != "evaluation"), incomplete)


def datasets(context: typer.Context, incomplete: str) -> list[str]:
    """Names of datasets."""
    return _fitting(_dataset_names(context), incomplete)


def sources(context: typer.Context, incomplete: str) -> list[str]:
    """The last of several datasets with commas between: ``all``, collections and datasets, ``-`` in front or not."""
    before, comma, last = incomplete.rpartition(",")
    minus = "-" if last.startswith("-") else ""
    names = list(_dataset_names(context))
    known = ["all", *dict.fromkeys(name.partition("/")[0] for name in names), *names]
    return [f"{before}{comma}{minus}{name}" for name in _fitting(known, last.removeprefix("-"))]


def refs(context: typer.Context, incomplete: str) -> list[str]:
    """Tags and branches of the warehouse."""
    return _fitting(_ref_names(warehouse_folder(context.params.get("warehouse"))), incomplete)


def folders_and_refs(context: typer.Context, incomplete: str) -> list[str]:
    """Tags and branches, and folders."""
    return [*refs(context, incomplete), *_folders(incomplete)]


def _fitting(names: Any, incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _roots(context: typer.Context) -> list[Path]:
    overlay = context.params.get("content")
    return [content_root(), *([Path(overlay)] if overlay else [])]


def _dataset_names(context: typer.Context) -> Iterator[str]:
    for root in _roots(context):
        try:
            lines = (root / "sources" / "task_ids.tsv").read_text(encoding="utf-8").splitlines()[1:]
        except (OSError, UnicodeDecodeError):
            continue
        yield from (line.split("\t")[1] for line in lines if "\t" in line)


def _ref_names(root: Path) -> list[str]:
    """Read from the catalog in the folder and from Iceberg's metadata, without Iceberg."""
    import sqlite3

    catalog = root / "catalog.db"
    if not catalog.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{catalog.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            row = connection.execute("SELECT metadata_location FROM iceberg_tables WHERE table_name = 'records'")
            (location,) = row.fetchone()
        found: dict[str, Any] = json.loads(Path(location.removeprefix("file://")).read_bytes())["refs"]
    except (sqlite3.Error, OSError, ValueError, TypeError, KeyError):
        return []
    return sorted(found)


def _folders(incomplete: str) -> list[str]:
    above, slash, last = incomplete.rpartition("/")
    try:
        inside = sorted(Path(f"{above}{slash}" or ".").iterdir())
    except OSError:
        return []
    some = (one.name for one in inside if one.is_dir() and one.name.startswith(last))
    return [f"{above}{slash}{name}" for name in some if last.startswith(".") or not name.startswith(".")][:MOST_FOLDERS]

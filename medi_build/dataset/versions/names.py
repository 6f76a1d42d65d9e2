"""How versions may be called, and where the warehouse is; imports nothing that takes time."""

import os
import re
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""How tags, branches and ids look; a folder that looks so, too, can be written ``./folder``."""


def warehouse_folder(given: Path | None) -> Path:
    """The folder that was given, else ``MEDI_WAREHOUSE``, else ``./warehouse``; absolute, links followed."""
    return Path(given or os.environ.get("MEDI_WAREHOUSE") or "warehouse").resolve()


def is_warehouse(root: Path) -> bool:
    """Whether the folder was ever committed to."""
    return (root / "records").is_dir()


def may_be_version(name: str, warehouse: Path | None) -> bool:
    """Whether a name can be that of a version: it looks so, and there is a warehouse."""
    return NAME.fullmatch(name) is not None and is_warehouse(warehouse_folder(warehouse))

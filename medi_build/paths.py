"""Where things are: what comes along, and what the environment decides."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MEDI_CACHE``, else ``$XDG_CACHE_HOME/medi``, else ``~/.cache/medi``."""
    if "MEDI_CACHE" in os.environ:
        return Path(os.environ["MEDI_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medi"


def vectors_folder() -> Path:
    """The vector store that commands share unless they are given another one."""
    return cache_folder() / "vectors"


def content_root() -> Path:
    """Folder with ``sources/ templates/ pipelines/``: inside the installed wheel, else the checkout."""
    package = Path(__file__).resolve().parent
    bundled = package / "_content"
    return bundled if bundled.is_dir() else package.parent

"""What the environment decides."""

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

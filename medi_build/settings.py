"""What the environment decides."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MEDI_CACHE``, else ``$XDG_CACHE_HOME/medi``, else ``~/.cache/medi``."""
    if "MEDI_CACHE" in os.environ:
        return Path(os.environ["MEDI_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medi"

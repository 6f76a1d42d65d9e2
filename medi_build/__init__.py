"""medi: builds MEDI-style training data for instruction-tuned text embeddings, and trains on it.

Example:
    ``result = medi_build.build(medi_build.BuildOptions(out=Path("out/quickstart")))``
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medi_build.encode.instructor import Instructor
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.run import BuildResult, build

__all__ = ["BuildOptions", "BuildResult", "Instructor", "build"]
_HOMES = {
    "BuildOptions": "medi_build.pipeline.options",
    "BuildResult": "medi_build.pipeline.run",
    "Instructor": "medi_build.encode.instructor",
    "build": "medi_build.pipeline.run",
}


def __getattr__(name: str) -> Any:
    """Import a name's module on first use, so that ``import medi_build`` loads nothing that is not used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medi_build' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found

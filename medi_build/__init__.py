"""medi: builds MEDI-style training data for instruction-tuned text embeddings, and trains on it.

Example:
    ``result = medi_build.pipeline.run(medi_build.BuildOptions(out=Path("out/quickstart")))``
"""

from typing import TYPE_CHECKING, Any

from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build

if TYPE_CHECKING:
    from medi_build.encode.instructor import Instructor

__all__ = ["BuildOptions", "BuildResult", "Instructor", "build"]


def __getattr__(name: str) -> Any:
    """Import `Instructor` on first use, so that ``import medi_build`` does not load torch."""
    if name == "Instructor":
        from medi_build.encode.instructor import Instructor

        return Instructor
    raise AttributeError(f"module 'medi_build' has no attribute {name!r}")

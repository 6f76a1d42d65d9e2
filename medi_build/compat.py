"""The public INSTRUCTOR package's name for `medi_build.Instructor`.

Example:
    ``from medi_build.compat import INSTRUCTOR`` in place of ``from InstructorEmbedding import INSTRUCTOR``
"""

from medi_build.encode.instructor import Instructor as INSTRUCTOR  # noqa: N814  # the name that users know

__all__ = ["INSTRUCTOR"]

"""Where a dataset is pushed to and pulled from: a repository of the Hugging Face Hub, or an address of fsspec's."""

import re
from typing import NamedTuple

from medi_build.errors import OptionError
from medi_build.secrets import has_password

HUB = "hf://datasets/"


class Place(NamedTuple):
    """Attributes: repository: ``OWNER/NAME`` on the hub, else empty. url: of an object store, else empty."""

    repository: str
    url: str

    def __str__(self) -> str:
        return self.url or f"{HUB}{self.repository}"


def parse(text: str) -> Place:
    """``OWNER/NAME``, ``hf://datasets/OWNER/NAME`` or ``s3://bucket/prefix``.

    Raises:
        OptionError: it is none of these, or holds a user name or password.
    """
    name = text.removeprefix(HUB).rstrip("/")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return Place(name, "")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "hf" or not rest.strip("/"):
        raise OptionError(
            f"{text}: has to be OWNER/NAME or {HUB}OWNER/NAME on the Hugging Face Hub, or an address like "
            "s3://bucket/folder or gs://bucket/folder"
        )
    if has_password(text):
        raise OptionError(
            f"{scheme}://...: holds a user name or a password; give the address without, and those in the environment"
        )
    return Place("", text.rstrip("/"))

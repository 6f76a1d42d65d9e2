"""The licence of a Super-NI task's instances, as its file states it under ``Instance License``."""

import re
from typing import Any

from medi_build.content.cards import Licence

_CREATIVE_COMMONS = re.compile(r"^CC[ -]BY(?P<terms>([-_ ](NC|ND|SA)\b)*)[ -]?(?P<version>\d\.\d)?", re.IGNORECASE)
_FORBIDS = re.compile(r"non[- ]?commercial|\bNC\b|research (?:purposes? |use )?only|only for research", re.IGNORECASE)
_KNOWN = {
    "mit": "MIT",
    "apache 2.0": "Apache-2.0",
    "bsd": "LicenseRef-BSD",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "gpl 3.0": "GPL-3.0-only",
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "public domain": "LicenseRef-public-domain",
}
"""Licences that allow commercial use, as task files write them, in lower case."""


def licence_of(stated: Any) -> Licence | None:
    """The licence that a task file states; None where it states none.

    Of several all hold: commercial use is allowed where each allows it, and not allowed where one forbids it. A
    licence of the source's own (terms of service, an agreement) is kept by its words, and its commercial use is
    unknown.

    Args:
        stated: a list of texts, or one text, e.g. ``["CC BY-NC 4.0"]``.
    """
    texts = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    names = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
    if not names:
        return None
    read = [_one(name) for name in names]
    uses = {use for _, use in read}
    use = "not-allowed" if "not-allowed" in uses else "allowed" if uses == {"allowed"} else "unknown"
    spdx = " AND ".join(dict.fromkeys(spdx for spdx, _ in read))
    return Licence(spdx=spdx, commercial_use=use, note=f"Stated in the task file: {'; '.join(names)}")


def _one(name: str) -> tuple[str, str]:
    """SPDX id (or a reference) and commercial use of one stated licence; a remark that forbids it counts most."""
    spdx, use = _named(name)
    return (spdx, "not-allowed") if _FORBIDS.search(name) else (spdx, use)


def _named(name: str) -> tuple[str, str]:
    """The same without a look at remarks."""
    if match := _CREATIVE_COMMONS.match(name):
        terms = re.sub("[_ ]", "-", match["terms"].upper())
        version = match["version"] or ""
        return f"CC-BY{terms}-{version}".rstrip("-"), "not-allowed" if "NC" in terms else "allowed"
    plain = name.lower()
    for known, spdx in _KNOWN.items():
        if plain == known or plain.startswith((f"{known} ", f"{known},", f"{known} (")) or plain.endswith(f": {known}"):
            return spdx, "allowed"
    if "public domain" in plain:
        return "LicenseRef-public-domain", "allowed"
    return ("unconfirmed" if plain == "unknown" else "LicenseRef-stated-in-task-file"), "unknown"

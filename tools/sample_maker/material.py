"""Reading the hand-written material, and choices that depend on nothing but their key."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

MATERIAL = Path(__file__).resolve().parent.parent / "sample_material"
_Item = TypeVar("_Item")


def read_sections(name: str) -> dict[str, list[str]]:
    """Read a file of ``== section`` headings, one item per line; ``#`` starts a comment line."""
    sections: dict[str, list[str]] = {}
    heading = ""
    for line in (MATERIAL / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            heading = line[3:]
            sections[heading] = []
        elif line and not line.startswith("#"):
            sections.setdefault(heading, []).append(line)
    return sections


def cells(line: str, separator: str = " | ") -> list[str]:
    """Split one item into its parts."""
    return line.split(separator)


def number(*key: object) -> int:
    """A number that depends on the key alone (not on Python's version or the order of calls)."""
    return int.from_bytes(sha256("/".join(map(str, key)).encode()).digest()[:8], "big")


def pick(items: Sequence[_Item], *key: object) -> _Item:
    """The item that the key chooses."""
    return items[number(*key) % len(items)]


def shuffled(items: Sequence[_Item], *key: object) -> list[_Item]:
    """The items in an order that the key chooses."""
    order = sorted(range(len(items)), key=lambda i: number(*key, i))
    return [items[i] for i in order]


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def identifier(*key: object) -> str:
    """A stable 32-digit hexadecimal id, as Super-NI and MedMCQA use them."""
    return sha256("/".join(map(str, key)).encode()).hexdigest()[:32]

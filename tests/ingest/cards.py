"""Cards and watchers for tests of fetching."""

from pathlib import Path

from medi_build.content.cards import Card
from medi_build.ingest.fetch import fetch as fetch_remotes
from medi_build.ingest.fetch import lacking, locate
from medi_build.ingest.http import Watch


def card(name: str = "pairs/lines", files: tuple[str, ...] = ("a.jsonl",), **more: object) -> Card:
    return Card.model_validate(
        {
            "name": name,
            "description": "",
            "options": {"adapter": "pairs"},
            "files": {"train": files},
            "licence": {"spdx": "unconfirmed", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "retrieval"},
            **more,
        }
    )


class Told(Watch):
    """Remembers what it was told, and does not wait."""

    def __init__(self) -> None:
        self.bytes: list[tuple[int, int]] = []
        self.waits: list[tuple[float, str]] = []
        self.said: list[str] = []

    def advance(self, done: int, total: int) -> None:
        self.bytes.append((done, total))

    def wait(self, seconds: float, why: str) -> None:
        self.waits.append((seconds, why))

    def say(self, message: str) -> None:
        self.said.append(message)


def fetch(card: Card, cache: Path, missing: tuple[str, ...] = ("a.jsonl",), told: Told | None = None) -> Path:
    """Fetch files one by one, and give where the first of the rows is found then."""
    for remote in lacking(card, missing):
        fetch_remotes([remote], cache, told or Told())
    return locate(card, "train", None, cache).found["rows"][0]


def gone(folder: Path) -> list[Path]:
    """What lies in a cache that is no lock; empty where nothing was left behind."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]

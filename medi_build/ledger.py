"""The book of rows: whatever goes in comes out, or is counted here under a reason."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from medi_build.errors import OutputError

MAX_PLACES = 3
"""How many places (file:line) are remembered per reason; the count goes on."""


@dataclass
class Ledger:
    """Counts for one dataset.

    ``read`` raw rows become ``adapted`` examples or an adapter's drop; adapted examples become ``written``
    records or a later stage's drop. Notes count what is worth telling but lost no row (truncated texts); measures are
    numbers that count nothing (an area under a curve, a recall).
    """

    dataset: str
    read: int = 0
    adapted: int = 0
    written: int = 0
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    measures: dict[str, float] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, stage: str, reason: str, count: int = 1, where: str | None = None) -> None:
        """Count ``count`` rows lost in ``stage`` ("adapt", "sample", "mine" or "write") under ``reason``."""
        if count:
            if stage not in self.dropped:
                self.dropped[stage] = Counter()
            self.dropped[stage][reason] += count
            if where:
                known = self.places.setdefault(f"{stage}/{reason}", [])
                if len(known) < MAX_PLACES:
                    known.append(where)

    def note(self, name: str, count: int = 1) -> None:
        """Count something that lost no row."""
        if count:
            self.notes[name] += count

    def measure(self, name: str, value: float) -> None:
        """Set what was measured; a name stands for the last value given."""
        self.measures[name] = value

    def dropped_in(self, *stages: str) -> int:
        """Rows lost in the given stages."""
        return sum(sum(self.dropped.get(stage, Counter()).values()) for stage in stages)

    def check(self) -> None:
        """Raise `OutputError` unless ``read = adapted + dropped`` and ``adapted = written + dropped``."""
        adapt = self.dropped_in("adapt")
        later = self.dropped_in(*(stage for stage in self.dropped if stage != "adapt"))
        if self.read != self.adapted + adapt:
            raise OutputError(
                f"{self.dataset}: {self.read} rows were read, but {self.adapted} adapted + {adapt} dropped "
                f"make {self.adapted + adapt}; this is a bug in the adapter, please report it"
            )
        if self.adapted != self.written + later:
            raise OutputError(
                f"{self.dataset}: {self.adapted} rows were adapted, but {self.written} written + {later} "
                f"dropped make {self.written + later}; this is a bug, please report it"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data with sorted keys, for receipts and the manifest."""
        return {
            "dataset": self.dataset,
            "read": self.read,
            "adapted": self.adapted,
            "written": self.written,
            "dropped": {stage: dict(sorted(c.items())) for stage, c in sorted(self.dropped.items())},
            "notes": dict(sorted(self.notes.items())),
            "measures": dict(sorted(self.measures.items())),
            "places": {key: list(places) for key, places in sorted(self.places.items())},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Ledger":
        """Inverse of `to_dict`."""
        return cls(
            dataset=data["dataset"],
            read=data["read"],
            adapted=data["adapted"],
            written=data["written"],
            dropped={stage: Counter(c) for stage, c in data["dropped"].items()},
            notes=Counter(data["notes"]),
            measures=dict(data["measures"]),
            places={key: list(places) for key, places in data["places"].items()},
        )

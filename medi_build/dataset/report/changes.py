"""What a page shows of the difference to another build: facts in short, and records before and after."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medi_build.dataset.diff import Difference
from medi_build.dataset.fact_changes import FactChange
from medi_build.dataset.report.samples import Pieces, marked, shown

FACT = 60
"""Characters of a fact's value that are shown."""
SIDES = {"query": "query", "pos": "positive", "neg": "negative"}


@dataclass(frozen=True)
class Change:
    """A record that came, went, or changed.

    Attributes:
        what: what became of it, in words.
        id: of the record.
        lines: (what stands there, pieces of its text), of which those are marked that the other side does not have.
    """

    what: str
    id: str
    lines: Sequence[tuple[str, Pieces]]


def fact_told(fact: FactChange) -> str:
    """A setting or fact of a card, before and now, each on a few words."""
    return f"{fact.key}: {_value(fact.old)} → {_value(fact.new)}"


def changes(difference: Difference | None, longest: int) -> list[Change]:
    """The examples of a difference whose change is one of texts, cut to ``longest`` characters."""
    found = []
    for one in difference.examples if difference else ():
        lines = list(_lines(one.kind, one.old, one.new, longest))
        if lines:
            what = one.kind if one.kind in ("added", "removed") else f"another {SIDES.get(one.kind, one.kind)}"
            found.append(Change(what, shown(one.id, longest), lines))
    return found


def _lines(kind: str, old: Any, new: Any, longest: int) -> Iterator[tuple[str, Pieces]]:
    if kind in ("added", "removed"):
        record: Mapping[str, Any] = old or new
        yield from ((told, [(shown(record[side][1], longest), False)]) for side, told in SIDES.items())
    elif isinstance(old, str) and isinstance(new, str):
        yield "before", marked(shown(old, longest), new)
        yield "now", marked(shown(new, longest), old)


def _value(value: Any) -> str:
    return shown("(none)" if value is None else str(value), FACT)

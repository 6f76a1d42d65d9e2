"""Gates: how far a dataset may move between two builds, such as ``rows<-5%,licence,false_negatives>+1%``.

A gate is a measure with a limit, ``MEASURE<-NUMBER`` or ``MEASURE>+NUMBER``, with ``%`` or without; or a name alone,
which fails on any change. A limit is held against the change of each dataset and, but for `_BY_DATASET`, against that
of all of them together. A dataset that came or went counts as one without rows on the other side; where nothing was
before there is no percentage, so such a limit passes.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

from medi_build.dataset.diff import Counts, DatasetDifference, Difference
from medi_build.dataset.fact_changes import FactChange
from medi_build.errors import OptionError, did_you_mean

MEASURES = {
    "rows": "records; % of those before",
    "read": "raw rows that went in; % of those before",
    "added": "records whose ids are new; % of the records before",
    "removed": "records whose ids are gone; % of the records before",
    "changed": "records of both with another value in some field; % of the records of both",
    "negatives": "records of both with other negatives; % of the records of both",
    "dropped": "share of raw rows lost, by the ledger; % are percentage points",
    "false_negatives": "share of records with possible false negatives; % are percentage points",
    "length_auc": "how well lengths tell positive from negative; % are hundredths",
}
"""What a limit may be set on, and what its number means."""
FACTS = {
    "licence": "licence or its terms of a dataset",
    "instructions": "instructions of a dataset",
    "card": "card, template or cap of a dataset",
    "input": "raw files of a dataset",
    "mining": "mining rule or encoders",
    "settings": "any other setting of the build, versions of medi and of libraries",
    "datasets": "a dataset came or went",
}
"""What only a name alone can be given of."""
WHOLE = "all together"
"""In the place of a dataset's name."""
_BY_DATASET = ("false_negatives", "length_auc")
"""Measures that equal datasets, whose shards are not read, would have to take part in."""
_SHARES = ("dropped", "false_negatives", "length_auc")
_COUNTS_UP = ("added", "removed", "changed", "negatives")
_FORM = re.compile(r"(\w+)(?:(<-|>\+)(\d+(?:\.\d+)?)(%?))?")
_NOTHING = Counts(0, 0, 0, 0)


Side = Literal["<-", ">+"]


class Gate(NamedTuple):
    """One gate.

    Attributes:
        text: as it was given.
        measure: of `MEASURES` or `FACTS`.
        side: changes beyond the limit on this side fail; None: any change.
        limit: with its sign; percentages as percentages.
        percent: whether it is one.
    """

    text: str
    measure: str
    side: Side | None
    limit: float
    percent: bool


class Failure(NamedTuple):
    """Where a gate failed.

    Attributes:
        dataset: its name, or `WHOLE`.
        seen: the change, in words.
    """

    dataset: str
    seen: str


class Outcome(NamedTuple):
    """What became of a gate: it passed if there is no failure."""

    gate: Gate
    failures: Sequence[Failure]


class _Change(NamedTuple):
    """By how much a measure changed, and what 100 % of it are."""

    by: float
    of: float

    @property
    def percent(self) -> float | None:
        return 100 * self.by / self.of if self.of else None


def parse_gates(text: str) -> list[Gate]:
    """Read gates, comma-separated.

    Raises:
        OptionError: not in that form, an unknown measure, or a limit that nothing can pass.
    """
    return [_gate(one.strip()) for one in text.split(",")]


def _gate(text: str) -> Gate:
    form = _FORM.fullmatch(text)
    if form is None:
        raise OptionError(
            f"{text!r} is no gate; write MEASURE<-NUMBER or MEASURE>+NUMBER, with % or without, or a name alone for "
            "any change, with commas between: rows<-5%,licence,false_negatives>+1%"
        )
    measure, number, percent = form.group(1, 3, 4)
    side = cast("Side | None", form.group(2))
    if measure not in MEASURES and measure not in FACTS:
        known = [*MEASURES, *FACTS]
        raise OptionError(
            f"{text!r}: no measure {measure!r}{did_you_mean(measure, known)}; there are {', '.join(known)}"
        )
    if side and measure in FACTS:
        raise OptionError(f"{text!r}: {measure} is no number; write {measure} alone: it fails on any change")
    if side == "<-" and measure in _COUNTS_UP:
        raise OptionError(
            f"{text!r}: {measure} counts from 0, so it is never below that; write {measure}>+{number}{percent}"
        )
    sign = -1.0 if side == "<-" else 1.0
    return Gate(text, measure, side, sign * float(number or 0), bool(percent))


def check_gates(difference: Difference, gates: Sequence[Gate]) -> list[Outcome]:
    """Hold a difference against gates, in their order."""
    return [Outcome(gate, list(_failures(difference, gate))) for gate in gates]


def _failures(difference: Difference, gate: Gate) -> Iterator[Failure]:
    if gate.measure in FACTS:
        yield from _changed_facts(difference, gate.measure)
        return
    if gate.measure not in _BY_DATASET:
        yield from _beyond(gate, WHOLE, _changes_of_all(difference))
    for one in difference.datasets:
        yield from _beyond(gate, one.name, _changes(one.old or _NOTHING, one.new or _NOTHING, _moved(one)))


def _changed_facts(difference: Difference, kind: str) -> Iterator[Failure]:
    def told(name: str, facts: Sequence[FactChange]) -> Iterator[Failure]:
        for fact in facts:
            if fact.kind == kind:
                yield Failure(name, f"{fact.key}: {fact.old!r} -> {fact.new!r}")

    yield from told(WHOLE, difference.settings)
    for one in difference.datasets:
        yield from told(one.name, one.facts)
        if kind == "datasets" and one.status != "changed":
            yield Failure(one.name, one.status)


def _beyond(gate: Gate, name: str, changes: dict[str, _Change]) -> Iterator[Failure]:
    change = changes.get(gate.measure)
    value = None if change is None else change.percent if gate.percent else change.by
    if change is None or value is None:
        return
    if value != 0 if gate.side is None else value < gate.limit if gate.side == "<-" else value > gate.limit:
        yield Failure(name, _in_words(gate.measure, change))


def _in_words(measure: str, change: _Change) -> str:
    if measure == "length_auc":
        return f"{change.by:+.4f}"
    if measure in _SHARES:
        return f"{100 * change.by:+.2f} percentage points"
    share = "" if change.percent is None else f" ({change.percent:+.2f} %)"
    return f"{change.by:+,} rows{share}"


def _moved(one: DatasetDifference) -> tuple[int, int, int, int]:
    """Rows added, removed, changed, with other negatives."""
    if one.rows is not None:
        return one.rows.added, one.rows.removed, one.rows.changed, one.rows.other_negatives
    return one.new.rows if one.new else 0, one.old.rows if one.old else 0, 0, 0


def _changes_of_all(difference: Difference) -> dict[str, _Change]:
    moved = [_moved(one) for one in difference.datasets]
    total = (sum(one[number] for one in moved) for number in range(4))
    return _changes(difference.old, difference.new, tuple(total))


def _changes(old: Counts, new: Counts, moved: Sequence[int]) -> dict[str, _Change]:
    """The change of each measure that there is on both sides."""
    added, removed, changed, negatives = moved
    shared = old.rows - removed
    found = {
        "rows": _Change(new.rows - old.rows, old.rows),
        "read": _Change(new.read - old.read, old.read),
        "added": _Change(added, old.rows),
        "removed": _Change(removed, old.rows),
        "changed": _Change(changed, shared),
        "negatives": _Change(negatives, shared),
    }
    if old.read and new.read:
        found["dropped"] = _Change(new.dropped / new.read - old.dropped / old.read, 1)
    if old.rows and new.rows and old.false_negatives is not None and new.false_negatives is not None:
        found["false_negatives"] = _Change(new.false_negatives / new.rows - old.false_negatives / old.rows, 1)
    if old.length_auc is not None and new.length_auc is not None:
        found["length_auc"] = _Change(new.length_auc - old.length_auc, 1)
    return found

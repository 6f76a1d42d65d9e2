"""``medi diff``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medi_build.cli import complete
from medi_build.cli.console import OUT, new_table, print_entry, print_error, print_json, print_table, shorten
from medi_build.cli.exits import TROUBLE, Exit
from medi_build.cli.options import JsonOption, WarehouseOption
from medi_build.errors import MediError

if TYPE_CHECKING:
    from medi_build.dataset.diff import Counts, DatasetDifference, Difference
    from medi_build.dataset.fact_changes import FactChange
    from medi_build.dataset.gates import Outcome
    from medi_build.dataset.row_examples import Example

_ALIKE = 60
"""Characters that two texts may share at their beginning and both be shown from there."""
_MOST_NAMES = 5
"""Datasets that are named where the same fact changed in many; all are in the JSON."""


def diff_command(
    old: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="Output folder of a build, or a version: tag, branch or id.",
            autocompletion=complete.folders_and_refs,
        ),
    ],
    new: Annotated[
        str, typer.Argument(metavar="B", help="The one to compare with it.", autocompletion=complete.folders_and_refs)
    ],
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Also compare the raw file and row that a record came from.")
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="GATES",
            help="What B may not do, comma-separated: MEASURE<-NUMBER or MEASURE>+NUMBER, with % or without, of rows, "
            "read, added, removed, changed, negatives, dropped, false_negatives, length_auc; or a name alone, which "
            "fails on any change: licence, instructions, card, input, mining, settings, datasets.",
        ),
    ] = None,
    as_json: JsonOption = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Compare two builds: rows by id and field, instructions, licences, cards, settings, datasets that came or went.

    The order of rows and how they are cut into shards does not count, nor do scores that differ by less than 0.001.
    Exit code as diff(1): 0 where nothing differs, 1 where something does, 2 in case of trouble. With --fail-on 0 says
    that all gates passed, 1 that one failed. A limit is held against the change of each dataset and of all together.

    Example: `medi diff main out/medi --fail-on "rows<-5%,licence,false_negatives>+1%"`
    """
    from medi_build.dataset.diff import diff
    from medi_build.dataset.gates import check_gates, parse_gates
    from medi_build.dataset.versions.which import open_any

    try:
        gates = parse_gates(fail_on) if fail_on is not None else []
        before, after = (open_any(name, warehouse) for name in (old, new))
        difference = diff(before, after, provenance)
    except MediError as error:
        print_error(type(error).__name__, str(error))
        raise typer.Exit(TROUBLE) from error
    outcomes = check_gates(difference, gates)
    if as_json:
        _print_json(difference, outcomes)
    _print(old, new, difference)
    _print_outcomes(outcomes)
    failed = not difference.same if fail_on is None else any(one.failures for one in outcomes)
    raise typer.Exit(Exit.FOUND if failed else Exit.DONE)


def _print_json(difference: "Difference", outcomes: "Sequence[Outcome]") -> None:
    from medi_build.dataset.diff import to_dict

    gates = [
        {"gate": one.gate.text, "passed": not one.failures, "failures": [failure._asdict() for failure in one.failures]}
        for one in outcomes
    ]
    print_json({**to_dict(difference), "gates": gates})


def _print(old: str, new: str, difference: "Difference") -> None:
    for letter, name, counts in (("A", old, difference.old), ("B", new, difference.new)):
        OUT.print(f"{letter}: {name}, {counts.rows:,} rows")
    if difference.same:
        OUT.print(f"no difference in {difference.equal:,} datasets")
        return
    if difference.datasets:
        print_table(_table(difference))
    OUT.print(f"{difference.equal:,} datasets are equal")
    fields = difference.fields()
    if fields:
        told = ", ".join(f"{field} {count:,}" for field, count in fields.items())
        print_entry("rows of both by field that changed", told)
    for fact in difference.settings:
        print_entry(_fact(fact))
    places: dict[str, list[str]] = {}
    for one in difference.datasets:
        for fact in one.facts:
            places.setdefault(_fact(fact), []).append(one.name)
    for told, names in places.items():
        more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
        print_entry(told, f"in {', '.join(names[:_MOST_NAMES])}{more}")
    for example in difference.examples:
        _print_example(example)


def _table(difference: "Difference") -> Table:
    numbers = ("rows A", "rows B", "added", "removed", "changed")
    table = new_table("dataset", *numbers, "also", numbers=numbers)
    for one in difference.datasets:
        table.add_row(*map(Text, _cells(one)))
    if len(difference.datasets) > 1:
        rows = [one.rows for one in difference.datasets if one.rows]
        sums = (sum(getattr(one, name) for one in rows) for name in ("added", "removed", "changed"))
        table.add_section()
        table.add_row("these", *_sizes(difference.datasets), *map(_count, sums), "", style="bold")
    return table


def _cells(one: "DatasetDifference") -> list[str]:
    sizes = [_size(one.old), _size(one.new)]
    if one.rows is None:
        return [one.name, *sizes, "-", "-", "-", f"dataset {one.status}"]
    moved = map(_count, (one.rows.added, one.rows.removed, one.rows.changed))
    return [one.name, *sizes, *moved, ", ".join(dict.fromkeys(fact.kind for fact in one.facts))]


def _size(counts: "Counts | None") -> str:
    return "-" if counts is None else f"{counts.rows:,}"


def _sizes(datasets: "Sequence[DatasetDifference]") -> list[str]:
    return [f"{sum(side.rows for one in datasets if (side := getattr(one, name))):,}" for name in ("old", "new")]


def _count(count: int) -> str:
    return f"{count:,}" if count else "-"


def _fact(fact: "FactChange") -> str:
    key = "" if fact.key == fact.kind else f"{fact.key}: "
    return f"{fact.kind}: {key}{_value(fact.old)} -> {_value(fact.new)}"


def _print_example(example: "Example") -> None:
    OUT.print(Text(f"{example.kind}: {example.id}", style="bold"))
    values = example.old, example.new
    if isinstance(example.old, str) and isinstance(example.new, str):
        values = _apart(example.old, example.new)
    for letter, value in zip("AB", values, strict=True):
        if example.kind in ("added", "removed"):
            sides = [(f"{side:6}", value[side][1]) for side in ("query", "pos", "neg")] if value else []
        else:
            sides = [("", value)]
        for side, text in sides:
            OUT.print(Text(f"  {letter} {side}{_value(text)}"))


def _apart(old: str, new: str) -> tuple[str, str]:
    """Two texts from shortly before their first difference, so that it is seen where they are cut."""
    alike = next((place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), 0)
    start = alike - _ALIKE
    return (old, new) if start <= 0 else (f"…{old[start:]}", f"…{new[start:]}")


def _value(value: Any) -> str:
    """A value on one line, cut; what lists and mappings hold is told with bars between, but for what is empty."""
    if isinstance(value, Mapping):
        value = [f"{key} {_value(one)}" for key, one in value.items() if one != []]
    if isinstance(value, list):
        value = " | ".join(map(_value, value)) or None
    if isinstance(value, float):
        value = f"{value:.6g}"
    return shorten("(none)" if value is None else str(value))


def _print_outcomes(outcomes: "Sequence[Outcome]") -> None:
    for one in outcomes:
        seen = [f"{failure.dataset}: {shorten(failure.seen)}" for failure in one.failures]
        print_entry(f"gate {one.gate.text}: {'FAILED' if seen else 'passed'}", *seen)

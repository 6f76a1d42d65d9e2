"""Where messages go (stderr; results go to stdout), and how a record, a table and an error look.

Colours, here and in all commands: red is an error, cyan a score; bold is a name, dim what is beside the point. Each
stands with a word that says the same, and none is used where ``NO_COLOR`` is set or the output is no terminal.
"""

import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medi_build.ledger import Ledger

LOG_WIDTH = 80
"""Characters per line where no terminal says how wide it is."""
UNBROKEN = 1000
"""Characters of a line there: cells and sentences are not broken, so that lines can be searched and cut."""


class Lines(Console):
    """Shows texts as they stand, brackets included; breaks messages at words on a terminal, and nowhere else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; a single text is a message."""
        if len(objects) == 1 and isinstance(objects[0], str | Text):
            told = objects[0] if isinstance(objects[0], Text) else Text(objects[0])
            objects, options = (self._broken(told) if self.is_terminal else told,), {**options, "soft_wrap": True}
        super().print(*objects, **options)

    def _broken(self, text: Text) -> Text:
        lines = []
        for line in text.split("\n", allow_blank=True):
            indent = " " * (len(line.plain) - len(line.plain.lstrip(" ")))
            fits = line.cell_len <= self.width
            for number, part in enumerate([line] if fits else line.wrap(self, self.width - len(indent))):
                part.rstrip()
                lines.append(Text.assemble(indent, part) if number else part)
        return Text("\n").join(lines)


_FOLDED = 16
"""Characters to which texts of a table may be folded; where that is not enough it is none any more."""
CONSOLE = Lines(stderr=True)
ERRORS = Lines(stderr=True)
"""Not hushed by ``--quiet``."""
OUT = Lines(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)
MAX_TEXT = 300


def hush(quiet: bool) -> None:
    """With ``--quiet``: no progress, notes and tables; errors and JSON are told. Otherwise everything again."""
    CONSOLE.quiet = OUT.quiet = quiet


def print_json(value: Any) -> None:
    """A value as JSON to stdout, also with ``--quiet``."""
    print(as_json(value))


def as_json(value: Any) -> str:
    """A value as JSON; named tuples are objects, paths strings."""
    import orjson

    return orjson.dumps(
        value, _plain, orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    ).decode()


def _plain(value: Any) -> Any:
    """What orjson does not know."""
    return value._asdict() if isinstance(value, tuple) and hasattr(value, "_asdict") else str(value)


def new_table(*columns: str, numbers: Collection[str] = (), title: str = "") -> Table:
    """The one style of tables: a rule below the heads, ``numbers`` to the right and never broken, texts folded."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        if name in numbers:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """To stdout: as a table where the terminal is wide enough, else an entry a row; unbroken where there is none."""
    if not OUT.is_terminal and not OUT.quiet:
        Lines(file=OUT.file, width=UNBROKEN).print(table)
        return
    columns = [[_as_text(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    widest = [max(cell.cell_len for cell in cells) for cells in columns]
    least = [wide if column.no_wrap else min(wide, _FOLDED) for column, wide in zip(table.columns, widest, strict=True)]
    if sum(least) + 2 * len(least) <= OUT.width:
        OUT.print(table)
        return
    heads = [cells[0].plain for cells in columns]
    for row in zip(*(cells[1:] for cells in columns), strict=True):
        told = (f"{head} {cell.plain}" for head, cell in zip(heads[1:], row[1:], strict=True) if cell.plain)
        print_entry(row[0].plain, "; ".join(told))


def _as_text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def print_entry(head: str, *facts: str) -> None:
    """One entry of a list: a line that can be searched for, and what there is to know, indented."""
    OUT.print(Text.assemble((head, "bold"), *(f"\n{' ' * 8}{fact}" for fact in facts)))


def print_record(record: Mapping[str, Any]) -> None:
    """One training record, a line per side, long texts cut."""
    OUT.print(Text(f"{record['task_name']}  {record['id']}", style="bold"))
    for side, score in (("query", None), ("pos", "pos_score"), ("neg", "neg_score")):
        instruction, text = record[side]
        line = Text(f"  {side:5} ")
        if score is not None:
            line.append(f"{record[score]:+.2f} ", style="cyan")
        line.append(f"{instruction} ", style="dim")
        line.append(shorten(text))
        OUT.print(line)


def print_error(kind: str, message: str) -> None:
    """One clear message; ``kind`` is the name of the error."""
    ERRORS.print(Text.assemble(("error", "bold red"), f": {kind}"))
    ERRORS.print(message)


def shorten(text: str) -> str:
    """At most `MAX_TEXT` characters on one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def ledger_table(ledgers: Sequence[Ledger], seconds: Mapping[str, float]) -> Table:
    """The closing table: rows in, written, dropped (each reason a line of its own) and time, per source."""
    numbers = ("sets", "rows in", "written", "dropped", "seconds")
    table = new_table("source", *numbers, numbers=numbers, title="What went in and what came out")
    sources: dict[str, list[Ledger]] = {}
    for ledger in ledgers:
        sources.setdefault(ledger.dataset.split("/")[0], []).append(ledger)
    for source, group in sources.items():
        table.add_row(*_totals(source, group, seconds))
        for reason, count in _reasons(group):
            table.add_row(f"  {reason}", "", "", "", f"{count:,}", "", style="dim")
    if len(sources) > 1:
        table.add_section()
        table.add_row(*_totals("all", ledgers, seconds), style="bold")
    return table


def _reasons(group: Sequence[Ledger]) -> list[tuple[str, int]]:
    """Rows dropped by reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for ledger in group:
        for counts in ledger.dropped.values():
            reasons.update(counts)
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _totals(name: str, group: Sequence[Ledger], seconds: Mapping[str, float]) -> list[str]:
    return [
        name,
        str(len(group)),
        f"{sum(ledger.read for ledger in group):,}",
        f"{sum(ledger.written for ledger in group):,}",
        f"{sum(count for _, count in _reasons(group)):,}",
        f"{sum(seconds.get(ledger.dataset, 0.0) for ledger in group):.1f}",
    ]

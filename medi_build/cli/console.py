"""Where messages go (stderr; results go to stdout), and how a record and a table look."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import TextWrapper
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medi_build.ledger import Ledger

LOG_WIDTH = 80
"""Characters per line where no terminal says how wide it is."""
CONSOLE = Console(stderr=True)
OUT = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)
MAX_TEXT = 300


def print_entry(head: str, *facts: str) -> None:
    """One entry of a list: a line that can be searched for, and what there is to know, indented and wrapped."""
    indent = " " * 8
    wrap = TextWrapper(
        OUT.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    ).fill
    OUT.print(Text.assemble((head, "bold"), *(f"\n{wrap(fact)}" for fact in facts)), soft_wrap=True)


def print_record(record: Mapping[str, Any]) -> None:
    """One training record, a line per side, long texts cut."""
    OUT.print(Text(f"{record['task_name']}  {record['id']}", style="bold"), soft_wrap=True)
    for side, score in (("query", None), ("pos", "pos_score"), ("neg", "neg_score")):
        instruction, text = record[side]
        line = Text(f"  {side:5} ")
        if score is not None:
            line.append(f"{record[score]:+.2f} ", style="cyan")
        line.append(f"{instruction} ", style="dim")
        line.append(shorten(text))
        OUT.print(line, soft_wrap=True)


def print_error(kind: str, message: str) -> None:
    """One clear message; ``kind`` is the name of the error."""
    CONSOLE.print(f"[bold red]error[/]: {kind}", highlight=False)
    CONSOLE.print(message, markup=False, highlight=False, soft_wrap=True)


def shorten(text: str) -> str:
    """At most `MAX_TEXT` characters on one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def ledger_table(ledgers: Sequence[Ledger], seconds: Mapping[str, float]) -> Table:
    """The closing table: rows in, written, dropped (each reason a line of its own) and time, per source."""
    table = Table(title="What went in and what came out", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("source", no_wrap=True)
    for name in ("sets", "rows in", "written", "dropped", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
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

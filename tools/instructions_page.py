"""Make the table of docs/instructions.md from content and docs/readings.tsv: `python tools/instructions_page.py`."""

import csv
from pathlib import Path

from medi_build.content.instructions import render
from medi_build.content.load import Content, load_content

DOCS = Path(__file__).resolve().parent.parent / "docs"
TARGET = DOCS / "instructions.md"
BEGIN, END = "<!-- made by tools/instructions_page.py -->\n", "<!-- end -->\n"
HEAD = """\
| task | instruction | first reading | last reading |
|---|---|---|---|
"""


def readings() -> dict[str, tuple[str, str, str]]:
    """Task -> verdict of the first and of the last reading, and what the first reader found weak."""
    with (DOCS / "readings.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {task: (first, last, reason) for task, first, last, reason in rows[1:]}


def instructions_table(content: Content) -> str:
    """A line for each Super-NI task of the collection `medi`."""
    read = readings()
    lines = []
    for card in content.cards.values():
        if card.source != "super_ni" or "medi" not in card.collections:
            continue
        task = card.name.split("/")[1]
        template = content.templates[card.instruction.template]
        first, last, reason = read[task]
        told = render(template, card.instruction.fields, {}, "")[0].query
        lines.append(f"| {task} | {told} | {first}{f': {reason}' if reason else ''} | {last} |\n")
    return HEAD + "".join(lines)


def page(text: str) -> str:
    """The page with the table as content and readings are now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{instructions_table(load_content())}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8")), encoding="utf-8")

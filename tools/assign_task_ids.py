"""Append a task id for every shipped card that has none: `python tools/assign_task_ids.py`. Ids never move.

New ids go on from the last one, the paper's datasets first (those of the other sources before the Super-NI tasks), then
everything else, each by name.
"""

import csv
import sys

from medi_build.content.cards import Card
from medi_build.content.load import content_root, read_cards
from medi_build.content.super_ni_tasks import load_tasks


def main() -> None:
    """Append the missing ids."""
    root = content_root()
    faults: list[str] = []
    cards = read_cards(root, faults)
    if faults:
        sys.exit("\n".join(faults))
    table = root / "sources" / "task_ids.tsv"
    with table.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    known = {name for _, name in rows}
    last = max((int(number) for number, _ in rows), default=0)
    order = {f"super_ni/{facts.task}": n for n, facts in enumerate(load_tasks(root / "sources" / "super_ni_tasks.tsv"))}

    def rank(card: Card) -> tuple[bool, bool, int, str]:
        return "medi" not in card.collections, card.source == "super_ni", order.get(card.name, 0), card.name

    new = sorted((card for card in cards.values() if card.name not in known), key=rank)
    with table.open("a") as file:
        for number, card in enumerate(new, last + 1):
            file.write(f"{number}\t{card.name}\n")
    print(f"{len(new)} ids appended, {last + 1} to {last + len(new)}" if new else "every card has an id")


if __name__ == "__main__":
    main()

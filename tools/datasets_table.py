"""Make the table of docs/datasets.md from the cards: `python tools/datasets_table.py`."""

from pathlib import Path

from medi_build.content.cards import Card
from medi_build.content.load import load_content

TARGET = Path(__file__).resolve().parent.parent / "docs" / "datasets.md"
BEGIN, END = "<!-- made by tools/datasets_table.py -->\n", "<!-- end -->\n"
HEAD = """\
| id | dataset | raw rows | in `medi` | figure | in `medi-large` | revision | sha256 | licence (SPDX) | commercial |
|---:|---|---:|---:|---|---:|---|---|---|---|
"""
COMMERCIAL = {"allowed": "yes", "not-allowed": "no", "unknown": "unknown"}


def datasets_table() -> str:
    """A line for each dataset of the collection `medi` that has pairs, one for all Super-NI tasks, and the sums."""
    content = load_content()
    medi = [card for card in content.cards.values() if "medi" in card.collections]
    tasks = [card for card in medi if card.source == "super_ni"]
    lines = [_row(card, content.task_ids[card.name]) for card in medi if card.source != "super_ni"]
    total, large = sum(map(_published, medi)), sum(_rows(card, card.cap) for card in medi)
    lines += [
        f"| | `super_ni/*`, {len(tasks)} tasks | | {sum(map(_published, tasks)):,} | ours | "
        f"{sum(_rows(card, card.cap) for card in tasks):,} | | | each its own | |",
        f"| | **{len(medi)} datasets** | | **{total:,}** | | **{large:,}** | | | | |",
    ]
    return HEAD + "".join(f"{line}\n" for line in lines)


def _rows(card: Card, cap: int) -> int:
    """Raw rows of the train split as far as the cap lets them in."""
    raw = card.expected_rows["train"]
    return cap if raw == "unconfirmed" else min(raw, cap)


def _published(card: Card) -> int:
    return 0 if card.published is None else _rows(card, card.published.rows)


def _row(card: Card, task_id: int) -> str:
    raw, place = card.expected_rows["train"], card.download
    known = "" if card.published is None else card.published.known
    cells = (
        str(task_id),
        f"`{card.name}`",
        raw if raw == "unconfirmed" else f"{raw:,}",
        f"{_published(card):,}",
        known,
        f"{_rows(card, card.cap):,}",
        "URL without revision" if place is None or place.url else place.revision[:7].replace("unconfi", "unconfirmed"),
        "yes" if place and card.files["train"][0] in place.sha256 else "unconfirmed",
        card.licence.spdx,
        COMMERCIAL[card.licence.commercial_use],
    )
    return "| " + " | ".join(cells) + " |"


def page(text: str) -> str:
    """The page with the table as the cards are now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{datasets_table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8")), encoding="utf-8")

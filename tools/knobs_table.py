"""Make docs/knobs.md, the table of the knobs of mining, from `MiningRule`: `python tools/knobs_table.py`."""

from pathlib import Path
from typing import Any

from medi_build.content.mining_rule import PRESETS, MiningRule
from tools.schema_words import table_row, type_words, value_words

TARGET = Path(__file__).resolve().parent.parent / "docs" / "knobs.md"
HEAD = """\
# The knobs of mining

Made by `python tools/knobs_table.py` from `medi_build/content/mining_rule.py`.

A pipeline sets them under `mining:`, `medi mine` with `--preset` and `--set knob=value`, Python with `MiningRule(...)`.
A rule starts from the knobs of its preset, `paper` if none is named; those that are given replace single ones. Scores
are cosines of the mining encoder. Knobs that sentence-transformers' `mine_hard_negatives` has as well have its names.

| knob | type | default | set by presets | what it does |
|---|---|---|---|---|
"""


def knobs_page() -> str:
    """The text of docs/knobs.md."""
    knobs = MiningRule.model_json_schema()["properties"]
    return HEAD + "".join(f"{_row(name, knob)}\n" for name, knob in knobs.items() if name != "preset")


def _row(name: str, knob: dict[str, Any]) -> str:
    presets = [f"{preset}: {value_words(values[name])}" for preset, values in PRESETS.items() if name in values]
    told = (f"`{name}`", type_words(knob), value_words(knob["default"]), ", ".join(presets), knob["description"])
    return table_row(*told)


if __name__ == "__main__":
    TARGET.write_text(knobs_page(), encoding="utf-8")
    print(f"{TARGET} written")

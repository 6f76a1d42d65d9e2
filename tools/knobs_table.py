"""Make docs/knobs.md, the table of the knobs of mining, from `MiningRule`: `python tools/knobs_table.py`."""

from pathlib import Path
from typing import Any

from medi_build.content.mining_rule import PRESETS, MiningRule

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
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def knobs_page() -> str:
    """The text of docs/knobs.md."""
    knobs = MiningRule.model_json_schema()["properties"]
    return HEAD + "".join(f"{_row(name, knob)}\n" for name, knob in knobs.items() if name != "preset")


def _row(name: str, knob: dict[str, Any]) -> str:
    presets = [f"{preset}: {_told(values[name])}" for preset, values in PRESETS.items() if name in values]
    cells = (f"`{name}`", _type(knob), _told(knob["default"]), ", ".join(presets), knob["description"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(knob: dict[str, Any]) -> str:
    """A JSON schema's type in words: ``number, at least -1, at most 1``."""
    if "anyOf" in knob:
        knob = next(kind for kind in knob["anyOf"] if kind["type"] != "null")
    if "enum" in knob:
        return " or ".join(knob["enum"])
    if knob["type"] == "array":
        return "list of texts"
    limits = [f"{word} {knob[limit]:g}" for limit, word in LIMITS.items() if limit in knob]
    return ", ".join([TYPES[knob["type"]], *limits])


def _told(value: Any) -> str:
    """A value as it stands in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, list | tuple) else f"{value}"


if __name__ == "__main__":
    TARGET.write_text(knobs_page(), encoding="utf-8")
    print(f"{TARGET} written")

"""Parts of pages that are made from the code when the site is built, so that they are never behind it."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from medi_build.dataset.schema import RECORDS
from tools.schema_words import table_row, type_words, value_words
from tools.site.repository import ROOT

COLUMNS = {
    "query": "`[instruction, text]`",
    "pos": "`[instruction, text]` of the positive",
    "neg": "`[instruction, text]` of the hardest negative",
    "task_id": "number of the dataset; it never changes",
    "task_name": "name of the dataset",
    "id": "of the record: dataset, and the source's own id or a hash of the row's texts",
    "pos_id": "of the positive: a passage's own id, else a hash of its text",
    "neg_id": "of the negative, likewise",
    "pos_score": "cosine of query and positive by the mining encoder; NaN where nothing was scored",
    "neg_score": "cosine of query and negative",
    "neg_rank": "place of the negative in the miner's ranking, from 0; -1: given with the data",
    "miner": "who found the negative",
    "hard_negatives": "texts of further negatives, hardest first, without `neg`",
    "hard_negative_scores": "their cosines",
    "hard_negative_ranks": "their places in the ranking",
    "possible_false_negative_ids": "`pos_id` of other rows' positives that may be right for this query, too",
    "labels": "classes of the row",
    "groups": "gold pages or sets of the row",
    "source_file": "file that the row came from, below the folder of raw files",
    "source_row": "line, row or instance in that file, from 1",
}
"""What a column of a shard holds."""
ELSEWHERE = {"MiningRule": "../knobs.md"}
"""Models that have a page of their own."""


def decision_files() -> list[Path]:
    """The decisions, in their order."""
    return sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def decisions() -> str:
    """A list of all decisions by their titles."""
    listed = []
    for path in decision_files():
        title = re.match(r"# (\d+)[:.] (.+)", path.read_text(encoding="utf-8"))
        if title is None:
            raise ValueError(f"{path}: begins with no '# 0001: title'")
        listed.append(f"- {int(title[1]):04} [{title[2][0].upper()}{title[2][1:]}]({path.name})\n")
    return "".join(listed)


def commands() -> str:
    """Every command with its arguments and options, as typer tells them."""
    told = subprocess.run(
        [sys.executable, "-m", "typer", "medi_build.cli", "utils", "docs", "--name", "medi"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    text = told.stdout[told.stdout.index("\n**Usage**") :]
    first_lines = dict(re.findall(r"^#+ `(medi [^`]+)`\n\n([^\n]+)", text, re.MULTILINE))
    place = "medi"

    def whole(line: re.Match[str]) -> str:
        """A command in a list, of which typer tells the first words alone, as a link with its first line."""
        nonlocal place
        if line["heading"]:
            place = line["heading"]
            return line[0]
        name = f"{place} {line['name']}"
        return f"* [`{line['name']}`](#{name.replace(' ', '-')}): {first_lines[name]}"

    text = re.sub(r"^#+ `(?P<heading>[^`]+)`|^\* `(?P<name>[a-z][a-z-]*)`: .*", whole, text, flags=re.MULTILINE)
    return re.sub(r"<(int|float) range>", r"<\1>", text)


def columns() -> str:
    """The columns of a shard."""
    rows = [table_row(f"`{field.name}`", _arrow(field.type), COLUMNS[field.name]) for field in RECORDS]
    return "\n".join(("| column | type | what it holds |", "|---|---|---|", *rows))


def _arrow(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def model(path: str) -> str:
    """The fields of a pydantic model, which is given by its dotted path, and of those that it is made of."""
    module, _, name = path.rpartition(".")
    schema = getattr(import_module(module), name).model_json_schema()
    parts = {name: schema, **schema.get("$defs", {})}
    links = {part: ELSEWHERE.get(part, f"#{part.lower()}") for part in parts}
    shown = [_fields(part, parts[part], links) for part in parts if part not in ELSEWHERE]
    return "\n\n".join(shown)


def _fields(name: str, schema: dict[str, Any], links: Mapping[str, str]) -> str:
    """Heading, meaning and table of one model; the names of others lead to theirs."""
    rows = []
    for key, field in schema["properties"].items():
        kind = re.sub(
            r"\w+", lambda word: f"[{word[0]}]({links[word[0]]})" if word[0] in links else word[0], type_words(field)
        )
        default = "must be given" if key in schema.get("required", []) else f"`{value_words(field.get('default', {}))}`"
        rows.append(table_row(f"`{key}`", kind, default.replace("``", '`""`'), field.get("description", "")))
    head = (f"### {name}", schema["description"], "| key | type | default | what it is |\n|---|---|---|---|\n")
    return "\n\n".join(head) + "\n".join(rows)


PARTS = {"decisions": decisions, "commands": commands, "columns": columns, "model": model}

"""Small tasks of Prompt Retrieval, written for the tests, in the form of the public files."""

import json
from pathlib import Path
from typing import Any

SUBJECTS = ["ferry", "baker", "heron", "clock", "orchard", "violin", "glacier", "lantern"]
WORDS = ["sinks", "shines", "waits", "breaks", "sings"]


def sst5_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows whose label is told by a word, so that near texts have the right one."""
    rows = []
    for i in range(start, start + count):
        label = (i * 7) % 5
        text = f"the {SUBJECTS[i % len(SUBJECTS)]} {WORDS[label]} , it {WORDS[label]} number {i}"
        rows.append({"text": text, "label": label, "idx": i})
    return rows


def geoquery_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Questions about rivers and towns, with their queries."""
    rows = []
    for i in range(start, start + count):
        table = ("RIVER", "TOWN")[i % 2]
        question = f"how long is the {table.lower()} number {i}"
        template = f'SELECT {table}alias0.LENGTH FROM {table} AS {table}alias0 WHERE {table}alias0.NAME = "name0" ;'
        rows.append(
            {
                "question": question,
                "query": template.replace("name0", f"n{i}"),
                "sql_template": template,
                "seq_in": f"{question} | geo | river : name , length | town : name , length",
                "db_table_names": ["river", "town"],
                "db_column_names": [
                    {"table_id": -1, "column_name": "*"},
                    *({"table_id": t, "column_name": c} for t in (0, 1) for c in ("name", "length")),
                ],
                "db_column_types": ["text", "text", "number", "text", "number"],
            }
        )
    return rows


def write_task(folder: Path, name: str, pool: list[Any], questions: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_train.json").write_text(json.dumps(pool), encoding="utf-8")
    (folder / f"{name}_eval.json").write_text(json.dumps(questions), encoding="utf-8")
    return folder

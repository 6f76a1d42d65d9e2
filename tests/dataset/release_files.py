"""Files in each public form of MEDI, with made-up rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

LAMPS = ("Represent the lamp question for retrieving answers", "Represent the lamp answer for retrieval")
BOATS = ("Represent the boat title", "Represent the boat text")


def texts(kind: str, numbers: range) -> list[tuple[str, str, str]]:
    """Query, positive and negative of made-up rows."""
    return [(f"{kind} query {n}", f"{kind} positive {n}", f"{kind} negative {n}") for n in numbers]


def rows_of_2023(
    instructions: tuple[str, str], rows: list[tuple[str, str, str]], end: str = ";", **task: Any
) -> list[dict[str, Any]]:
    query, document = (text and text + end for text in instructions)
    return [{"query": [query, q], "pos": [document, p], "neg": [document, n], **task} for q, p, n in rows]


def rows_of_2022(
    instructions: tuple[str, str], rows: list[tuple[str, str, str]], task_name: str
) -> list[list[dict[str, Any]]]:
    """Lists of four rows for each batch, 0 or 1 as a third entry."""
    flat = rows_of_2023(instructions, rows, "; Input: ", task_name=task_name)
    for row in flat:
        for side, mark in (("query", 1), ("pos", 1), ("neg", 0)):
            row[side].append(mark)
    return [flat[start : start + 4] for start in range(0, len(flat), 4)]


def rows_of_gritlm(instructions: tuple[str, str], rows: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    query, document = instructions
    return [{"query": [query, q], "pos": [[document, p]], "neg": [[document, n]]} for q, p, n in rows]


def rows_of_reupload(
    instructions: tuple[str, str], rows: list[tuple[str, str, str]], task_name: str, *, lists: bool = False
) -> list[dict[str, Any]]:
    query, document = (text + ";" for text in instructions)
    told = {"task_name": task_name, "query_instruct": query, "pos_instruct": document, "neg_instruct": document}
    wrap = (lambda text: [text]) if lists else (lambda text: text)
    return [{"query": q, "pos": wrap(p), "neg": wrap(n), **told} for q, p, n in rows]


def write_array(path: Path, rows: list[Any]) -> Path:
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    return path


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: list[Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path

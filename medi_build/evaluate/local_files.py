"""Files of an evaluation folder: which stands for which split, their rows, and the numbers in them."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medi_build.errors import EvaluationError, did_you_mean
from medi_build.ingest.csv_rows import table_rows
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger

PACKED = (".gz", ".bz2", ".xz", ".zst")
ROWS = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of files of rows, with or without one of `PACKED`."""
SPLIT_ROWS = (*ROWS, ".txt", ".json")
"""Those of files whose name tells a split; README.txt does not."""
SPLITS = {
    "train": "train", "training": "train", "test": "test", "dev": "dev", "devel": "dev", "val": "dev", "valid": "dev",
    "validation": "dev", "trial": "dev",
}  # fmt: skip
"""Words in names of files -> the split that they tell."""


def ending(path: Path) -> str:
    """The ending that tells the form, before that of a compression; in lower case."""
    return (Path(path.stem) if path.suffix in PACKED else path).suffix.lower()


def find(folder: Path, name: str) -> Path | None:
    """A file by its name, plain or packed."""
    return next((path for end in ("", *PACKED) if (path := folder / f"{name}{end}").is_file()), None)


def split_of(path: Path) -> str | None:
    """The split that a file's name tells: ``sts-dev.csv`` is dev."""
    words = re.findall(r"[a-z]+", path.name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def split_files(folder: Path) -> dict[str, Path]:
    """Files of rows by split; one whose name tells none stands for "test" if it is the only one.

    Raises:
        EvaluationError: two files stand for the same split, or there are several that tell none.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found: dict[str, Path] = {}
    for path in files:
        split = split_of(path)
        if split is None or ending(path) not in SPLIT_ROWS:
            continue
        if split in found:
            raise EvaluationError(
                f"{folder}: {found[split].name} and {path.name} both stand for the split {split!r}; leave one of them"
            )
        found[split] = path
    others = [path for path in files if split_of(path) is None and ending(path) in ROWS]
    if not found and len(others) > 1:
        there = ", ".join(path.name for path in others[:5])
        raise EvaluationError(f"{folder}: holds {there}; name them train, dev and test, or leave one")
    return found or dict(zip(["test"], others, strict=False))


def choose_split(folder: Path, splits: Sequence[str], asked: str | None) -> str:
    """The split that is evaluated: the one asked for, else test, else the only one.

    Raises:
        EvaluationError: there is no such split, or several and none was asked for.
    """
    if asked is not None:
        name = asked if asked in splits else SPLITS.get(asked, asked)
        if name in splits:
            return name
        raise EvaluationError(
            f"{folder}: no split {asked!r}{did_you_mean(asked, splits)}; there is {', '.join(splits) or 'none at all'}"
        )
    if "test" in splits:
        return "test"
    if len(splits) == 1:
        return splits[0]
    raise EvaluationError(f"{folder}: has no split 'test'; say with --split which of {', '.join(splits)} is evaluated")


def read_rows(
    path: Path, notes: Ledger, headless: tuple[str, ...] = (), known: Sequence[str] = ()
) -> list[tuple[int, Mapping[str, Any]]]:
    """All rows of a file as (number from 1, value by column); what is no such row is noted under a reason.

    Raises:
        EvaluationError: there are none.
        InputError: the file cannot be read.
    """
    book = Ledger(path.name)
    read = table_rows if ending(path) == ".txt" else rows_of
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, row in read(path, book, headless=headless, known=known):
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            book.drop("adapt", "no_object")
    for reason, count in book.dropped.get("adapt", {}).items():
        notes.note(f"{path.name}: {reason}", count)
    if not rows:
        seen = ", ".join(f"{count:,} {reason}" for reason, count in book.dropped.get("adapt", {}).items())
        raise EvaluationError(f"{path}: has no usable row ({seen or 'it is empty'}); copy the file again")
    return rows


def column(names: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    """The first of the ``wanted`` columns that is there, whatever its case."""
    lower = {str(name).strip().lower(): name for name in names}
    return next((lower[name] for name in wanted if name in lower), None)


def text_of(row: Mapping[str, Any], name: str, where: str, notes: Ledger) -> str:
    """The text in a column; an empty one is noted and stays, as mteb evaluates it.

    Raises:
        EvaluationError: it is no text.
    """
    value = row.get(name)
    if value is None or value == "":
        notes.note("empty_text")
        return ""
    if not isinstance(value, str):
        raise EvaluationError(f"{where}: {name} is {str(value)[:80]!r}, but has to be a text")
    return value


def number_of(value: Any, name: str, where: str) -> float:
    """A finite number.

    Raises:
        EvaluationError: it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise EvaluationError(
            f"{where}: {name} is {str(value)[:80]!r}, but has to be a finite number; fill it in, or take the row out"
        )
    return number

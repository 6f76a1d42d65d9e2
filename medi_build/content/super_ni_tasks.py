"""The tables about Super-NaturalInstructions tasks: facts (``super_ni_tasks.tsv``), and what a person says of them."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from medi_build.content.cards import RENAMED, Outputs
from medi_build.errors import ContentError, did_you_mean

Split = Literal["train", "test", "excluded"]
SPLITS: tuple[Split, ...] = get_args(Split)
OVERRIDABLE: tuple[Outputs | Literal[""], ...] = ("", *get_args(Outputs))
TASK_PATTERN = re.compile(r"task(\d+)_[A-Za-z0-9_.\-]+")


@dataclass(frozen=True)
class TaskFacts:
    """One task, as the public repository describes it. An empty text means: no public source confirms it.

    Attributes:
        task: file name without ``.json``, e.g. ``task875_emotion_classification``.
        split: the official English track's split.
        category: the task file's one category, e.g. ``Sentiment Analysis``.
        input_language: languages of the inputs, several joined by ``", "``.
        output_language: languages of the outputs, likewise.
        domain: domains, joined by ``", "``; ``A -> B`` is B within A.
        rows: instances in the task file; None where nobody counted (the largest files, of over 4 MiB).
        medi: whether the task is among the 300 that stand for the paper's (`tools/choose_super_ni_tasks.py`).
    """

    task: str
    split: Split
    category: str
    input_language: str
    output_language: str
    domain: str
    rows: int | None
    medi: bool

    @property
    def number(self) -> int:
        """The number in the task's name; five numbers are used by two tasks each."""
        return int(self.task[len("task") :].split("_", 1)[0])


COLUMNS = tuple(field.name for field in fields(TaskFacts))


def load_tasks(path: Path) -> list[TaskFacts]:
    """Read the table, in its own order.

    Raises:
        ContentError: telling every fault of the file: other columns, a row of another length, a bad name, an
            unknown split, a ``medi`` that is not 0 or 1, a task that stands twice, or no such file.
    """
    if not path.is_file():
        raise ContentError(f"{path}: no such file; the table of Super-NI tasks belongs to the content")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    header = rows[0] if rows else []
    if tuple(header) != COLUMNS:
        unknown = [f"{name!r}{did_you_mean(name, COLUMNS)}" for name in header if name not in COLUMNS]
        told = f"unknown column {unknown[0]}" if unknown else f"columns {header}"
        raise ContentError(f"{path}:1: {told}; the columns are, in this order: {', '.join(COLUMNS)}")
    faults: list[str] = []
    first_line: dict[str, int] = {}
    for line, row in enumerate(rows[1:], 2):
        faults += [f"{path}:{line}: {fault}" for fault in _faults(row)]
        if row and first_line.setdefault(row[0], line) != line:
            faults.append(f"{path}:{line}: {row[0]} stands in line {first_line[row[0]]} already; keep one")
    if faults:
        raise ContentError(f"{len(faults)} fault(s) in the table of Super-NI tasks:\n  " + "\n  ".join(faults))
    return [_facts(row) for row in rows[1:]]


def _faults(row: Sequence[str]) -> list[str]:
    if len(row) != len(COLUMNS):
        return [f"{len(row)} cells, {len(COLUMNS)} are needed ({', '.join(COLUMNS)}), saw {row!r}"]
    task, split, rows, medi = row[0], row[1], row[-2], row[-1]
    faults = []
    if not TASK_PATTERN.fullmatch(task):
        faults.append(f"task {task!r} is not a name like task875_emotion_classification")
    if split not in SPLITS:
        faults.append(f"split {split!r}{did_you_mean(split, SPLITS)}; allowed: {', '.join(SPLITS)}")
    if rows and not rows.isdecimal():
        faults.append(f"rows {rows!r}; a number, or empty where it is not known")
    if medi not in ("0", "1"):
        faults.append(f"medi {medi!r}; allowed: 0, 1")
    return faults


def _facts(row: Sequence[str]) -> TaskFacts:
    task, name, category, input_language, output_language, domain, rows, medi = row
    split = next(known for known in SPLITS if known == name)
    return TaskFacts(
        task, split, category, input_language, output_language, domain, int(rows) if rows else None, medi == "1"
    )


def save_tasks(path: Path, tasks: Iterable[TaskFacts]) -> None:
    """Write the table, sorted by task number, then name; `load_tasks` reads it back unchanged."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow(COLUMNS)
        for facts in sorted(tasks, key=lambda facts: (facts.number, facts.task)):
            *texts, rows, medi = astuple(facts)
            writer.writerow([*texts, "" if rows is None else rows, int(medi)])


@dataclass(frozen=True)
class Override:
    """What a person says of a task. An empty text means: by rule.

    The instruction of each of the 300 chosen tasks is written by hand here; of other tasks, what the rules say wrong.

    Attributes:
        task: file name without ``.json``.
        outputs: what its outputs are, as `medi_build.content.cards.SuperNiOptions` says.
        domain: instruction field; ``-`` means none at all.
        text_type: instruction field.
        objective: instruction field; ``-`` means none at all.
    """

    task: str
    outputs: Outputs | Literal[""]
    domain: str
    text_type: str
    objective: str

    @property
    def fields(self) -> dict[str, str]:
        """The instruction fields that are not left to the rules."""
        told = {"domain": self.domain, "text_type": self.text_type, "objective": self.objective}
        return {name: "" if text == "-" else text for name, text in told.items() if text}


def load_overrides(path: Path) -> dict[str, Override]:
    """Read ``sources/super_ni_overrides.tsv``: task -> what is overridden.

    Raises:
        ContentError: telling every fault of the file: other columns, a row of another length, a bad name, an
            unknown value of ``outputs``, a task that stands twice, or no such file.
    """
    if not path.is_file():
        raise ContentError(f"{path}: no such file; the table of overrides belongs to the content")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = tuple(field.name for field in fields(Override))
    header = tuple(rows[0]) if rows else ()
    if header != columns:
        unknown = [
            f"{name!r} is called {RENAMED[name]} now" if name in RENAMED else f"{name!r}{did_you_mean(name, columns)}"
            for name in header
            if name not in columns
        ]
        told = f"unknown column {unknown[0]}" if unknown else f"columns {list(header)}"
        raise ContentError(f"{path}:1: {told}; the columns are, in this order: {', '.join(columns)}")
    overrides: dict[str, Override] = {}
    faults: list[str] = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(columns):
            faults.append(f"{path}:{line}: {len(row)} cells, {len(columns)} are needed, saw {row!r}")
            continue
        task, name, domain, text_type, objective = row
        outputs = next((known for known in OVERRIDABLE if known == name), None)
        if not TASK_PATTERN.fullmatch(task):
            faults.append(f"{path}:{line}: task {task!r} is not a name like task875_emotion_classification")
        elif task in overrides:
            faults.append(f"{path}:{line}: {task} stands twice; keep one")
        elif outputs is None:
            faults.append(f"{path}:{line}: outputs {name!r}; allowed: {', '.join(filter(None, OVERRIDABLE))}, or empty")
        else:
            overrides[task] = Override(task, outputs, domain, text_type, objective)
    if faults:
        raise ContentError(f"{len(faults)} fault(s) in the table of overrides:\n  " + "\n  ".join(faults))
    return overrides

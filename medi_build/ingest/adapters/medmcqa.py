"""MedMCQA: four-option questions of medical entrance exams, most of them with an explanation.

Two kinds of record, chosen by the card's ``options.record``:

- ``option``: question -> text of the right option; the wrong options are the given negatives.
- ``explanation``: question -> explanation; negatives are mined from the explanations of other questions.

Neither lets form give the answer away. An option that only points at the others ("All of the above") is neither
a positive nor a negative. An explanation loses the announcement of the right letter that it may start with
("Ans. is 'a' i.e.,"), for the letter says nothing about the question; where nothing but the answer is left, there is
no explanation.

Explanations get no group: the subject as a group would shut out just the negatives that are hard.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from medi_build.content.cards import Card, MedMcqaOptions
from medi_build.ingest.adapters.base import Adapted, Inputs, clean, content_id, example_batches, source_names
from medi_build.ingest.json_rows import json_lines
from medi_build.ingest.parquet_rows import parquet_batches
from medi_build.ledger import Ledger

OPTIONS = ("opa", "opb", "opc", "opd")

# One letter of an option: bare, quoted or in brackets. It may be glued to a capitalised word ("Ans. BSolitary") but
# is left alone inside a word ("Ans. Bone", "Ans. DNA").
_LETTER = r"['\"‘’“”(\[]*[a-d](?:['\"‘’“”)\]]+|(?![a-z])|(?-i:(?=[A-Z][a-z])))"
_WORD = r"(?:the\s+)?(?:correct\s+|right\s+)?(?:answers?|ans|options?)\b(?:[\s.:]+(?:is|are)\b)?"
_ANNOUNCEMENT = re.compile(
    rf"(?:{_WORD}[\s.:;=\-–—]*(?:option\s+)?{_LETTER}(?:\s*(?:,|&|/|and\b)\s*{_LETTER})*"
    r"|(?:answer|ans)\s*[.:;=\-–—]+)"
    r"(?:\s*i\.?\s?e\b\.?)?[\s.,:;=\-–—]*",
    re.IGNORECASE,
)
_LABEL = r"\(?[a-d1-4]\)?"
_POINTER = re.compile(
    r"(?:all|none|any|both|neither)"
    r"(?:\s+(?:of|the|these|those|them|above|following|mentioned|options?|are|is|true|false|correct))*"
    rf"|(?:both\s+|either\s+|neither\s+|only\s+)?(?:options?\s+)?{_LABEL}"
    rf"(?:\s*(?:,|&|\+|and\b|or\b|nor\b)+\s*{_LABEL})+(?:\s+(?:are|is)\s+(?:true|false|correct))?"
    r"|both\s+[a-d]{2}"
    r"|.*\b(?:all|any|none|both|some|either|neither)\s+(?:of\s+)?(?:the\s+)?above\b.*",
    re.IGNORECASE,
)


class _Item(NamedTuple):
    """One question with a valid answer; ``right`` is the text of the right option."""

    query: str
    right: str
    wrong: list[str]
    explanation: Any


def adapt(card: Card, inputs: Inputs, ledger: Ledger) -> Adapted:
    """Read MedMCQA's raw JSON lines or the hub's Parquet; the file itself tells which, and where ``cop`` starts.

    Ids are ``{card.name}/{upstream id}``; a row without one is told by its query, positive, negatives and answers.

    Drops: ``no_answer`` (test rows), ``bad_answer`` (``cop`` out of range), ``duplicate_id``,
    ``no_explanation``, ``answer_points_at_options``, ``wrong_type`` and the reasons of `clean`.
    """
    return Adapted("pairs", {}, example_batches(_examples(card, inputs.rows, ledger), ledger))


def without_announcement(explanation: str) -> str:
    """The explanation less the letter of the right option that it may start with.

    >>> without_announcement("Ans. is 'b' i.e., Femoral nerve")
    'Femoral nerve'
    """
    match = _ANNOUNCEMENT.match(explanation)
    return explanation[match.end() :] if match else explanation


def points_at_options(option: str) -> bool:
    """Whether an option only refers to the others, as "All of the above" and "Both A and B" do."""
    return _POINTER.fullmatch(option.strip(" .\t\n")) is not None


def _examples(card: Card, paths: tuple[Path, ...], ledger: Ledger) -> Iterator[tuple[Any, ...]]:
    assert isinstance(card.options, MedMcqaOptions)
    record = card.options.record
    seen: set[str] = set()
    for path, source in zip(paths, source_names(paths), strict=True):
        first = _first_cop(path)
        for number, row in _rows(path, ledger):
            item = _item(row, first, seen)
            made = item if isinstance(item, str) else _option(item) if record == "option" else _explained(item)
            if isinstance(made, str):
                ledger.drop("adapt", made, where=f"{path}:{number}")
                continue
            positive, negatives, answers = made
            assert isinstance(item, _Item)
            key = row.get("id") or content_id(item.query, [positive], negatives, answers)
            yield f"{card.name}/{key}", item.query, [positive], negatives, [], answers, [], source, number


def _rows(path: Path, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Rows of either form with their number from 1 (the line, for JSON lines)."""
    if not _is_parquet(path):
        yield from json_lines(path, ledger)
        return
    number = 0
    for batch in parquet_batches(path, ["id", "question", "exp", "cop", *OPTIONS], ledger):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        return False  # the reader of lines says what is wrong
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _first_cop(path: Path) -> int:
    """What ``cop`` says for the first option: 0 if the file has 0 but no 4, 1 if it has 4 but no 0.

    A file with both or neither goes by its form: the hub's Parquet counts from 0, the raw JSON lines from 1.
    """
    scratch = Ledger("")
    if _is_parquet(path):
        columns = (batch.column(0).to_pylist() for batch in parquet_batches(path, ["cop"], scratch))
        cops = {cop for column in columns for cop in column}
    else:
        cops = {_whole(row.get("cop")) for _, row in json_lines(path, scratch) if isinstance(row, dict)}
    if (0 in cops) != (4 in cops):
        return 0 if 0 in cops else 1
    return 0 if _is_parquet(path) else 1


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _item(row: Any, first: int, seen: set[str]) -> _Item | str:
    """Check a raw row; a string is the reason to drop it. Adds the row's id to ``seen``."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str | None):
        return "wrong_type"
    if row.get("id"):
        if row["id"] in seen:
            return "duplicate_id"
        seen.add(row["id"])
    cop = row.get("cop")
    if cop is None or cop == -1:
        return "no_answer"
    index = -1 if _whole(cop) is None else cop - first
    if not 0 <= index < len(OPTIONS):
        return "bad_answer"
    query, reason = clean(row.get("question"))
    if reason:
        return reason
    texts, reasons = zip(*(_text(row.get(name), name[-1]) for name in OPTIONS), strict=True)
    if reasons[index]:
        return str(reasons[index])
    wrong = [text for i, text in enumerate(texts) if i != index and reasons[i] is None]
    return _Item(query, texts[index], wrong, row.get("exp"))


def _text(option: Any, letter: str) -> tuple[str, str | None]:
    """An option's text, less its own letter where that is written out ("a) Femur" as ``opa``), and `clean`'s reason.

    A capital with a full stop stays: "C. albicans" is a name.
    """
    text, reason = clean(option)
    labels = (f"({letter})", f"({letter.upper()})", f"{letter})", f"{letter.upper()})", f"{letter}. ")
    label = next((label for label in labels if text.startswith(label)), "")
    return (text, reason) if reason else clean(text.removeprefix(label))


def _option(item: _Item) -> tuple[str, list[str], list[str]] | str:
    """Positive, negatives and answers of an ``option`` record, or the reason to drop it."""
    if points_at_options(item.right):
        return "answer_points_at_options"
    distinct = {_same(text): text for text in reversed(item.wrong) if not points_at_options(text)}
    distinct.pop(_same(item.right), None)
    return item.right, list(reversed(distinct.values())), []


def _explained(item: _Item) -> tuple[str, list[str], list[str]] | str:
    """Positive, negatives and answers of an ``explanation`` record, or the reason to drop it."""
    if item.explanation is None:
        return "no_explanation"
    text, reason = clean(item.explanation)
    text = without_announcement(text).strip()
    if reason in (None, "empty_text") and not any(letter.isalnum() for letter in text):
        return "no_explanation"
    if reason:
        return reason
    if _same(text) == _same(item.right) or points_at_options(text):
        return "no_explanation"  # the answer once more, in a form that real explanations do not have
    return text, [], [] if points_at_options(item.right) else [item.right]


def _same(option: str) -> str:
    """Two options with the same key say the same: case, spaces and final full stops do not count."""
    return " ".join(option.casefold().split()).rstrip(". ")

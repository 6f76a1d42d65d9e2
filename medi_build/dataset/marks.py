"""Marks: what people found wrong in a dataset, as a file that outlives the build in which they found it."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import orjson

from medi_build.errors import InputError
from medi_build.files import plain_digest, write_bytes

RECORD = "record"
"""Stands in place of a negative's digest where the whole record is marked."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Mark:
    """A negative that is none, or a record that is to be left out.

    A record is meant by its id or by the digest of its query, whichever is still there: a row whose text was edited has
    another id, and a query may stand in several rows.

    Attributes:
        id: of the record, which begins with the name of its dataset.
        neg: `medi_build.files.text_digest` of the negative, or `RECORD` for the whole record.
        query: that of the record's query, or empty.
        pos: that of its positive, or empty; what a whole record is known by beside its query.
        reason: why, for people.
        by: who says so, for people.
        time: when, for people.
    """

    id: str
    neg: str
    query: str = ""
    pos: str = ""
    reason: str = ""
    by: str = ""
    time: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What decides; the rest is for people."""
        return self.id, self.neg, self.query, self.pos


_FIELDS = tuple(field.name for field in fields(Mark))


def read_marks(path: Path) -> list[Mark]:
    """Read a file of marks: JSON lines, or CSV with a header where its name ends with ``.csv``.

    Raises:
        InputError: it cannot be read, or a line is no mark; line and fault are named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if path.suffix.lower() == ".csv" else map(_parsed, file)
            return list(_marks(path, rows, 2 if path.suffix.lower() == ".csv" else 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        told = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({told}); give a file that `medi browse` wrote") from error


def write_marks(path: Path, marks: Sequence[Mark]) -> None:
    """Write marks as JSON lines, whole or not at all. Raises `OutputError`."""
    lines = (orjson.dumps({name: value for name, value in asdict(one).items() if value}) + b"\n" for one in marks)
    write_bytes(path, b"".join(lines), path.parent)


def marks_of(marks: Sequence[Mark], dataset: str) -> tuple[Mark, ...]:
    """Those of one dataset, each once, in an order that does not depend on that of the file."""
    own = {one.key: one for one in marks if one.id.startswith(f"{dataset}/")}
    return tuple(own[key] for key in sorted(own))


def marks_digest(marks: Sequence[Mark]) -> str:
    """Digest of what some marks decide: who made them, when and why does not count."""
    return plain_digest({"marks": sorted(one.key for one in marks)})


def _parsed(line: str) -> object:
    try:
        return orjson.loads(line) if line.strip() else None
    except orjson.JSONDecodeError as error:
        return error


def _marks(path: Path, rows: Iterator[object], first: int) -> Iterator[Mark]:
    for number, row in enumerate(rows, first):
        if row is None:
            continue
        fault = _fault(row)
        if fault or not isinstance(row, dict):
            raise InputError(
                f"{path}:{number}: {fault}; a mark has an id and a neg (64 hex digits, the SHA-256 of the text, or "
                f"`{RECORD}` for the whole record), and may have query, pos, reason, by and time"
            )
        yield Mark(**{name: row.get(name) or "" for name in _FIELDS})


def _fault(row: object) -> str:
    """What is wrong with a line, or an empty string."""
    if isinstance(row, orjson.JSONDecodeError):
        return f"is no JSON ({row})"
    if not isinstance(row, dict):
        return f"is no mark but {type(row).__name__}"
    if odd := [name for name in row if name not in _FIELDS]:
        return f"has {odd[0]!r}, which no mark has"
    if wrong := [name for name, value in row.items() if not isinstance(value, str | None)]:
        return f"{wrong[0]} is no text"
    if not row.get("id"):
        return "has no id"
    if row.get("neg") != RECORD and not _DIGEST.fullmatch(row.get("neg") or ""):
        return f"neg is {(row.get('neg') or '')[:80]!r}"
    for name in ("query", "pos"):
        if row.get(name) and not _DIGEST.fullmatch(row[name]):
            return f"{name} is {row[name][:80]!r}"
    return ""

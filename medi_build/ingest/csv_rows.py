"""Rows of a table in text, CSV or TSV, with or without a header and quotation marks."""

import codecs
import csv
import io
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from medi_build.errors import InputError
from medi_build.ingest.streams import BROKEN_STREAM, open_binary, refuse_wide, unreadable
from medi_build.ledger import Ledger

LONGEST_CELL = 1 << 22
LINES_OF_SAMPLE = 1000
_PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")


def is_table(path: Path) -> bool:
    """Whether a file is named as CSV or TSV, with or without an ending of a compression after that."""
    return _form(path) in (".csv", ".tsv")


def _form(path: Path) -> str:
    return (Path(path.stem) if path.suffix in _PACKED_ENDINGS else path).suffix.lower()


def table_rows(
    path: Path, ledger: Ledger, headless: tuple[str, ...] = (), known: Collection[str] = ()
) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield ``(row number from 1, cells by column)`` of a CSV or TSV with a header row; an empty cell is None.

    A CSV is separated by whichever of comma, semicolon and tab stands most often in its header, and quoted as Python's
    csv module and spreadsheets do it. A TSV, or a table of another name with tabs in its header, is quoted so only if
    its first thousand lines do not come out even without: most have plain quotation marks in their texts. A row of
    another length than the header is dropped as ``wrong_number_of_columns``, one that is not CSV as ``invalid_csv``.

    Args:
        path: the file.
        ledger: counts.
        headless: the columns' names where the first row has as many cells and none of the names ``known``.
        known: names of which a header row has at least one.

    Raises:
        InputError: as `lines_of`, or two columns have the same name.
    """
    csv.field_size_limit(LONGEST_CELL)
    number = 0
    try:
        with open_binary(path) as raw:
            refuse_wide(cast(io.BufferedReader, raw).peek(4), path)
            reader, quoted = _csv_reader(path, raw)
            names = next((row for row in reader if row), [])
            if headless and len(names) == len(headless) and known and not {*known} & {*names}:
                names, first = list(headless), names
                number, ledger.read = 1, ledger.read + 1
                yield number, dict(zip(names, first, strict=True))
            repeated = [name for name in names if name and names.count(name) > 1]
            if repeated:
                raise InputError(f"{path}: two columns are named {repeated[0]!r}; rename one in the first line")
            width = len(names)
            while True:
                try:
                    row = next(reader, None)
                except csv.Error:
                    number, ledger.read = number + 1, ledger.read + 1
                    ledger.drop("adapt", "invalid_csv", where=f"{path}:{number}")
                    continue
                if row is None:
                    return
                if not row:
                    continue
                number += 1
                ledger.read += 1
                if len(row) != width:
                    ledger.drop("adapt", "wrong_number_of_columns", where=f"{path}:{number}")
                    continue
                cells = (
                    [cell or None for cell in row]
                    if quoted
                    else [_unquoted(c) if c[:1] == '"' else c or None for c in row]
                )
                yield number, dict(zip(names, cells, strict=True))
    except (*BROKEN_STREAM, OSError) as error:
        raise unreadable(path, error, f"after row {number}") from error


def _csv_reader(path: Path, raw: BinaryIO) -> tuple[Iterator[list[str]], bool]:
    """Rows of cells from the beginning of the file, and whether quotation marks were taken away."""
    with open_binary(path) as probe:
        header = probe.readline(LONGEST_CELL).decode(errors="replace")
    delimiter = max(",;\t", key=header.count)
    if _form(path) == ".tsv" or (_form(path) != ".csv" and delimiter == "\t"):
        with open_binary(path) as probe:
            lines = list(islice(probe, LINES_OF_SAMPLE))
        quoted = _is_quoted([line.decode(errors="replace") for line in lines])
        return csv.reader(_decoded(raw), delimiter="\t") if quoted else _split(_decoded(raw)), quoted
    return csv.reader(_decoded(raw), delimiter=delimiter), True


def _decoded(raw: BinaryIO) -> Iterator[str]:
    """The lines of a table; bytes that are no UTF-8 become lone surrogates, which no text may have."""
    for number, line in enumerate(raw):
        yield (line if number else line.removeprefix(codecs.BOM_UTF8)).decode(errors="surrogateescape")


def _split(lines: Iterable[str]) -> Iterator[list[str]]:
    """Rows of a TSV without quoting, in a third of the csv module's time; a blank line has no cells."""
    for line in lines:
        text = line.rstrip("\r\n")
        yield text.split("\t") if text else []


def _is_quoted(lines: list[str]) -> bool:
    """Whether the lines of a TSV make rows of one length only if they are read as quoted."""

    def lengths(quoting: Any) -> set[int]:
        rows = [len(row) for row in csv.reader(lines, delimiter="\t", quoting=quoting) if row]
        return set(rows if len(lines) < LINES_OF_SAMPLE else rows[:-1])  # the last row may be cut off

    return len(lengths(csv.QUOTE_NONE)) > 1 and len(lengths(csv.QUOTE_MINIMAL)) == 1


def _unquoted(cell: str) -> str | None:
    """A cell of a TSV without the quotation marks around the whole of it, if that is what they are."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1].replace('""', "\0")
        if '"' not in inner:
            return inner.replace("\0", '"') or None
    return cell or None

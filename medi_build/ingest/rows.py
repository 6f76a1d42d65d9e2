"""The one reader of rows: JSON lines, JSON arrays, CSV, TSV and Parquet, streamed; plain, gzip, bzip2, xz or zstd.

Every row is counted as read; one that is broken is dropped under a reason, with its place. What the compression is, the
file's first bytes say; what the form is, its name (``.csv``, ``.tsv``, ``.parquet``) and else its first line.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from medi_build.ingest.csv_rows import is_table, table_rows
from medi_build.ingest.json_rows import json_rows
from medi_build.ingest.parquet_rows import is_parquet, parquet_batches
from medi_build.ledger import Ledger


def rows_of(
    path: Path, ledger: Ledger, *, lists: bool = True, headless: tuple[str, ...] = (), known: Collection[str] = ()
) -> Iterator[tuple[int, Any]]:
    """Yield ``(number from 1, row)`` of a file in any form.

    A row is what stands in a line or an element of a JSON file, or a dictionary by column.

    Args:
        path: the file.
        ledger: counts rows as read, and broken ones as dropped.
        lists: a row may be a list, so that a file of one such line is told from an array with care.
        headless: as in `table_rows`.
        known: as in `table_rows`.

    Raises:
        InputError: the file is missing, damaged, UTF-16, or not in the form that its name tells.
    """
    if is_parquet(path):
        number = 0
        for batch in parquet_batches(path, None, ledger):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    elif is_table(path):
        yield from table_rows(path, ledger, headless, known)
    else:
        yield from json_rows(path, ledger, lists=lists)

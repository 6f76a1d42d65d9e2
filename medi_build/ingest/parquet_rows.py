"""Rows of a Parquet file, in batches."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.errors import InputError
from medi_build.ledger import Ledger


def is_parquet(path: Path) -> bool:
    """Whether a file is named as Parquet."""
    return path.suffix == ".parquet"


def parquet_batches(path: Path, columns: list[str] | None, ledger: Ledger) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet file; every row counts as read.

    Raises:
        InputError: not a Parquet file, truncated, or a column is missing.
    """
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            missing = [name for name in columns or [] if name not in known]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}; it has {', '.join(known)}")
            for batch in file.iter_batches(batch_size=8192, columns=columns):
                ledger.read += batch.num_rows
                yield batch
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error

"""The first raw rows of a file, as text, for people to look at."""

from itertools import islice
from pathlib import Path

import orjson
import pyarrow.parquet as pq

from medi_build.errors import InputError
from medi_build.ingest.csv_rows import is_table
from medi_build.ingest.rows import rows_of
from medi_build.ingest.streams import open_binary
from medi_build.ledger import Ledger


def raw_rows(path: Path, count: int) -> list[str]:
    """Return the first rows of a file in any form, or of a Super-NI task file, as JSON text.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                batch = next(file.iter_batches(batch_size=count), None)
            return [orjson.dumps(row).decode() for row in (batch.to_pylist() if batch else [])]
        with open_binary(path) as lines:
            first = [line.decode("utf-8", "replace").strip() for line in islice(lines, count)]
        if is_table(path) or (first and first[0][:2] in ("[", "[{", "[[")):
            return [orjson.dumps(row).decode() for _, row in islice(rows_of(path, Ledger("")), count)]
        if not first or first[0] != "{":
            return first
        instances = orjson.loads(path.read_bytes()).get("Instances", [])
        return [orjson.dumps(row).decode() for row in instances[:count]]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error

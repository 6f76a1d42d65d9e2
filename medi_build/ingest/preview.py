"""The first raw rows of a file, as text, for people to look at."""

import gzip
from itertools import islice
from pathlib import Path

import orjson
import pyarrow.parquet as pq

from medi_build.errors import InputError


def raw_rows(path: Path, count: int) -> list[str]:
    """Return the first rows of a JSON-lines, Parquet or Super-NI task file as JSON text.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                batch = next(file.iter_batches(batch_size=count), None)
            return [orjson.dumps(row).decode() for row in (batch.to_pylist() if batch else [])]
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            first = [line.decode("utf-8", "replace").strip() for line in islice(lines, count)]
            if not first or first[0] != "{":
                return first
        instances = orjson.loads(path.read_bytes()).get("Instances", [])
        return [orjson.dumps(row).decode() for row in instances[:count]]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error

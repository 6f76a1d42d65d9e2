"""Records per second of a build whose vectors are already stored, against the floor.

The floor reads the same raw files with orjson (and pyarrow for Parquet) and writes the same Parquet rows with pyarrow,
with nothing in between. Both run in this process, interleaved; the figures are medians.

    python benchmarks/build_floor.py --data ../shared/data --rounds 3
"""

import argparse
import gzip
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.content.load import load_content
from medi_build.dataset.schema import RECORDS
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import resolve
from medi_build.pipeline.run import build


def raw_files(data: Path, sources: tuple[str, ...]) -> list[Path]:
    """Every file that the build reads."""
    content = load_content()
    plan = resolve(content, content.pipelines["devdata"], sources, data, None, data)
    files = {p for unit in plan.units for paths in unit.located.found.values() for p in paths}
    return sorted(files)


def read_floor(files: list[Path]) -> int:
    """Parse every row of every file."""
    rows = 0
    for path in files:
        if path.suffix == ".parquet":
            rows += pq.read_table(path).num_rows
            continue
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            first = file.readline()
            if first.strip() == b"{":  # a Super-NI task: one JSON document over many lines
                text = path.read_bytes()
                try:
                    rows += len(orjson.loads(text).get("Instances", [0]))
                except orjson.JSONDecodeError:  # some task files hold NaN, which only the standard parser takes
                    rows += len(json.loads(text)["Instances"])
                continue
            orjson.loads(first)
            rows += 1 + sum(1 for line in file if line.strip() and orjson.loads(line) is not None)
    return rows


def write_floor(table: pa.Table, folder: Path) -> None:
    """Write the rows, as the build does, in one file."""
    with pq.ParquetWriter(
        folder / "rows.parquet", RECORDS, version="2.6", compression="zstd", compression_level=3
    ) as w:
        for start in range(0, table.num_rows, 8192):
            w.write_table(table.slice(start, 8192), row_group_size=8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sources", default="all")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=None, help="keep vectors here between runs of this benchmark")
    args = parser.parse_args()
    sources = tuple(args.sources.split(","))
    files = raw_files(args.data, sources)
    ours, floor = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        cache = args.cache or root / "cache"

        def options(name: str) -> BuildOptions:
            return BuildOptions(
                out=root / name,
                sources=sources,
                pipeline="devdata",
                data=args.data,
                cache=cache,
                limit_per_dataset=args.limit,
                jobs=2,
            )

        print("storing the vectors ...", flush=True)
        result = build(options("warm"))
        rows = result.manifest.rows
        table = pa.concat_tables([pq.read_table(p) for p in sorted((root / "warm" / "data").glob("*.parquet"))])
        for number in range(args.rounds):
            begin = time.perf_counter()
            build(options(f"round{number}"))
            ours.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            read = read_floor(files)
            write_floor(table, root)
            floor.append(time.perf_counter() - begin)
            print(f"round {number}: build {ours[-1]:.2f} s, floor {floor[-1]:.2f} s", flush=True)
    mine, least = statistics.median(ours), statistics.median(floor)
    print(f"{len(files)} raw files, {read:,} raw rows, {rows:,} records; {platform.processor() or platform.machine()}")
    print(f"build, vectors stored: {rows / mine:,.0f} records/s ({read / mine:,.0f} raw rows/s)")
    print(f"floor:                 {rows / least:,.0f} records/s ({read / least:,.0f} raw rows/s)")
    print(f"ratio: {mine / least:.2f} x the floor's time (goal: 2)")


if __name__ == "__main__":
    main()

"""`medi report` on a made-up dataset of MEDI's size: time, peak memory, bytes of the page.

    python benchmarks/report.py --folder /tmp/report [--rows 1400000] [--datasets 330] [--rounds 3]

Beside it: polars reading every text once and counting its characters, which no report can do without. Both run in
processes of their own, in turns; the map of 1,500 queries is part of the report, with the encoder that comes along and
nothing stored. The folder (2 GB for 1.4M rows) is removed at the end.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from versions_data import Size, Stream, make

MEASURED = """
import resource, sys, time
begin = time.perf_counter()
{code}
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
FLOOR = """
import polars as pl
for path in sorted(__import__("pathlib").Path(sys.argv[1], "data").glob("*.parquet")):
    pl.scan_parquet(path).select(pl.col("query", "pos", "neg").list.get(1).str.len_chars().sum()).collect()
"""
REPORT = """
from medi_build.cli import app
app(["report", sys.argv[1], "--out", sys.argv[2]], standalone_mode=False)
"""


def child(code: str, *arguments: object) -> tuple[float, float, float]:
    """Seconds, seconds of the processor and peak MB of a process."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED.format(code=code), *map(str, arguments)],
            env={**os.environ, "MEDI_CACHE": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    wall, processor, peak = map(float, done.stdout.split()[-3:])
    return wall, processor, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--datasets", type=int, default=330)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    built, page = arguments.folder / "built", arguments.folder / "report.html"
    make(built, Stream(), 1, Size(arguments.datasets, arguments.rows, arguments.datasets))
    runs: dict[str, list[tuple[float, float, float]]] = {"report": [], "polars, characters alone": []}
    for _ in range(arguments.rounds):
        runs["report"].append(child(REPORT, built, page))
        runs["polars, characters alone"].append(child(FLOOR, built))
    print(f"{arguments.rows:,} records of {arguments.datasets} datasets, page of {page.stat().st_size / 1e6:.1f} MB")
    for name, figures in runs.items():
        wall, processor, peak = map(statistics.median, zip(*figures, strict=True))
        print(f"{name}: {wall:.1f} s, {processor:.1f} s of the processor, {peak:,.0f} MB")
    shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()

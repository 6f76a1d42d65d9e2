"""`medi browse` on a made-up dataset of MEDI's size: seconds and bytes of its file, seconds of a faceted search.

    python benchmarks/browse.py --folder /tmp/browse [--rows 1400000] [--datasets 330] [--words 5]

The searches are requests to the running command, as a browser sends them: one word, narrowed to a warning, the smallest
margin first, with the counts of all facets. Words are taken by the number of records that hold them; each is asked for
once, so no count is kept from before. Beside each class stands polars looking for the word in the shards and counting
by dataset, which is what one does without an index. The folder (5 GB for 1.4M rows) is removed at the end.
"""

import argparse
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import psutil
from versions_data import Size, Stream, make

CLASSES = (0.0005, 0.005, 0.05, 0.4, 0.95)
"""Shares of the records that hold the words of each class, about."""
INDEX = """
import sys, time
from pathlib import Path
from medi_build.browse.records_file import records_file
from medi_build.dataset.reader import open_dataset
begin = time.perf_counter()
print(records_file(open_dataset(Path(sys.argv[1])), Path(sys.argv[2]), lambda *_: None))
print(time.perf_counter() - begin)
"""


def indexed(built: Path, cache: Path) -> Path:
    """Make the file in a process of its own, and say what that took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", INDEX, built, cache], stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    name, took = done.stdout.split()
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    size = Path(name).stat().st_size / 1e9
    used = f"{processor:.0f} s of the processor, {after.ru_maxrss / 1e6:.2f} GB of memory"
    print(f"file: {float(took):.0f} s, {used}, {size:.2f} GB large", flush=True)
    return Path(name)


def words_of(file: Path, rows: int, count: int) -> dict[float, list[str]]:
    """For each class the words whose number of records is nearest to it."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        found = database.execute("SELECT term, doc FROM words WHERE col = 'pos' AND doc > 100").fetchall()
    return {
        share: [word for word, _ in sorted(found, key=lambda one: abs(one[1] - share * rows))[:count]]
        for share in CLASSES
    }


def scanned(built: Path, word: str) -> pl.DataFrame:
    texts = pl.concat_str([pl.col(side).list.get(1) for side in ("query", "pos", "neg")], separator=" ")
    shards = pl.scan_parquet(built / "data" / "*.parquet")
    return shards.filter(texts.str.contains(rf"\b{word}\b")).group_by("task_name").len().collect()


def searched(built: Path, cache: Path, file: Path, rows: int, count: int) -> None:
    """Ask the running command, and say how long it took and how much of the processor's time."""
    server = subprocess.Popen(
        [sys.executable, "-m", "medi_build", "browse", built, "--port", "0", "--no-open"],
        env={**os.environ, "MEDI_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    opener, process = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()), psutil.Process(server.pid)
    base = address.partition("?")[0]

    def asked(path: str) -> tuple[float, float]:
        before, begin = sum(process.cpu_times()[:2]), time.perf_counter()
        opener.open(path).read()
        return time.perf_counter() - begin, sum(process.cpu_times()[:2]) - before

    def told(name: str, runs: list[tuple[float, float]]) -> str:
        wall, processor = map(statistics.median, zip(*runs, strict=True))
        return f"{name} {wall:.2f} s (at most {max(runs)[0]:.2f}; {processor:.2f} s of the processor)"

    print(told("first page", [asked(address)]))
    for share, words in words_of(file, rows, count).items():
        narrowed = [asked(f"{base}?q={word}&warning=margin&sort=margin") for word in words]
        following = [asked(f"{base}?q={word}&page=2") for word in words]
        begin = time.perf_counter()
        found = scanned(built, words[0])["len"].sum()
        polars = f"polars {time.perf_counter() - begin:.1f} s"
        every = f"{told('narrowed', narrowed)}, {told('the next page', following)}, {polars}"
        print(f"words of {share:.2%} of the positives ({words[0]}: {found:,} records): {every}", flush=True)
    print(told("a record's page", [asked(f"{base}record/{number}") for number in range(1, rows, rows // 10)]))
    server.terminate()
    server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--datasets", type=int, default=330)
    parser.add_argument("--words", type=int, default=5)
    arguments = parser.parse_args()
    built, cache = arguments.folder / "built", arguments.folder / "cache"
    make(built, Stream(), 1, Size(arguments.datasets, arguments.rows, arguments.datasets))
    searched(built, cache, indexed(built, cache), arguments.rows, arguments.words)
    shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()

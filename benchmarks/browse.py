"""`medi browse` on a made-up dataset of MEDI's size: seconds and bytes of its file, seconds of a faceted search.

    python benchmarks/browse.py --folder /tmp/browse [--rows 1400000] [--datasets 330] [--words 5]

The searches are requests to the running command, as a browser sends them: one word, narrowed to a warning, with the
counts of all facets. Words are taken by the number of records that hold them; each is asked for once, so no count is
kept from before. Beside each stands polars looking for the word in the shards and counting by dataset, which is what
one does without an index. The folder (5 GB for 1.4M rows) is removed at the end.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
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


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--datasets", type=int, default=330)
    parser.add_argument("--words", type=int, default=5)
    arguments = parser.parse_args()
    built, cache = arguments.folder / "built", arguments.folder / "cache"
    make(built, Stream(), 1, Size(arguments.datasets, arguments.rows, arguments.datasets))
    file = indexed(built, cache)
    server = subprocess.Popen(
        [sys.executable, "-m", "medi_build", "browse", built, "--port", "0", "--no-open"],
        env={**os.environ, "MEDI_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    print(f"first page: {seconds(lambda: opener.open(address).read()):.2f} s")
    base = address.partition("?")[0]

    def asked(path: str) -> float:
        return seconds(lambda: opener.open(base + path).read())

    for share, words in words_of(file, arguments.rows, arguments.words).items():
        runs = {
            "narrowed": [asked(f"?q={word}&warning=margin&sort=margin") for word in words],
            "next page": [asked(f"?q={word}&page=2") for word in words],
            "polars": [seconds(partial(scanned, built, word)) for word in words],
        }
        told = (f"{name} {statistics.median(some):.3f} s (at most {max(some):.3f})" for name, some in runs.items())
        print(f"words of about {share:.2%} of the records ({', '.join(words)}): {', '.join(told)}", flush=True)
    pages = [asked(f"record/{number}") for number in range(1, arguments.rows, arguments.rows // 10)]
    print(f"a record's page: {statistics.median(pages):.3f} s (at most {max(pages):.3f})")
    server.terminate()
    server.wait()
    shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()

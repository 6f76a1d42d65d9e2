"""Commit, checkout and diff of two versions of 1.4M rows in 1,000 shards, beside what they cannot be faster than.

    python benchmarks/versions.py --folder /tmp/versions [--rows 1400000] [--datasets 250] [--shards 1000] [--rounds 3]

Beside a commit: the same files hashed (sha256) one after the other. Beside a checkout: the folder copied. Beside a
diff: polars alone, which tells by a hash over all columns how many rows of either side are not on the other one, and
not what of them changed. Rounds are interleaved. The folder (4 GB for 1.4M rows) is removed at the end; the versions
are those of `versions_data.py`: in the second one every shard differs, in 1 % of its rows.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from versions_data import Size, Stream, make

from medi_build.dataset.versions.checkout import checkout
from medi_build.dataset.versions.commit import commit
from medi_build.files import file_digest

ANTI_JOIN = """
import sys, polars as pl
def side(folder):
    lazy = pl.scan_parquet(folder + "/data/*.parquet")
    names = [name for name in lazy.collect_schema().names() if name not in ("source_file", "source_row")]
    return lazy.select("id", row=pl.struct(names).hash()).collect(engine="streaming")
old, new = map(side, sys.argv[1:3])
print(old.join(new, on=["id", "row"], how="anti").height, new.join(old, on=["id", "row"], how="anti").height)
"""


CHILD = """
import runpy, sys
try:
    runpy.run_module("medi_build", run_name="__main__") if sys.argv[1] == "diff" else exec(sys.argv.pop(1))
finally:
    print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def child(*arguments: object) -> tuple[float, float, str]:
    """Wall seconds, peak resident memory in MB, and output of another process."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return time.perf_counter() - begin, int(done.stderr.split()[-1]) / 1024, done.stdout


def hashed(folder: Path) -> None:
    """Every file's sha256."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            file_digest(path)


def measure(old: Path, new: Path, work: Path, took: dict[str, list[float]]) -> None:
    """One round."""
    warehouse = work / "warehouse"
    took["hash the files"].append(timed(lambda: hashed(old)))
    took["commit"].append(timed(lambda: commit(warehouse, old, "first")))
    took["commit of the second version"].append(timed(lambda: commit(warehouse, new, "second", tag="new")))
    took["copy the folder"].append(timed(lambda: shutil.copytree(old, work / "copy")))
    shutil.rmtree(work / "copy")
    took["checkout, copied"].append(timed(lambda: checkout(warehouse, "new", work / "copied", copy=True)))
    shutil.rmtree(work / "copied")
    took["checkout, linked"].append(timed(lambda: checkout(warehouse, "new", work / "linked")))
    shutil.rmtree(work)
    for name, arguments in (("diff", ("diff", old, new, "--json")), ("polars anti-join", (ANTI_JOIN, old, new))):
        seconds, megabytes, output = child(*arguments)
        took[name].append(seconds)
        took[f"{name}, MB"].append(megabytes)
        if name == "diff":
            rows = [one["rows"] for one in json.loads(output)["datasets"]]
            output = " ".join(f"{what} {sum(one[what] for one in rows)}" for what in ("added", "removed", "changed"))
        print(f"{name}: {output.strip()}", flush=True)


def main() -> None:
    """Make what is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--datasets", type=int, default=250)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    old, new, work = (given.folder / name for name in ("old", "new", "work"))
    if not (new / "manifest.json").is_file():
        stream = Stream()
        for version, folder in ((1, old), (2, new)):
            shutil.rmtree(folder, ignore_errors=True)
            make(folder, stream, version, Size(given.datasets, given.rows, given.shards))
    took: dict[str, list[float]] = defaultdict(list)
    hashed(old)
    hashed(new)  # both are in the page cache from here on, as far as it holds them
    for _ in range(given.rounds):
        measure(old, new, work, took)
    for name, values in took.items():
        print(f"{name}: median {statistics.median(values):.2f}, all {', '.join(f'{one:.2f}' for one in values)}")
    for ours, theirs in (
        ("commit", "hash the files"),
        ("checkout, copied", "copy the folder"),
        ("diff", "polars anti-join"),
    ):
        ratios = [one / other for one, other in zip(took[ours], took[theirs], strict=True)]
        print(f"{ours} / {theirs}: median of the ratios {statistics.median(ratios):.2f}")
    shutil.rmtree(given.folder)


if __name__ == "__main__":
    main()

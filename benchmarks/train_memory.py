"""Peak memory and time of getting a build of MEDI's size ready for training: reading it, and planning every batch.

    python benchmarks/train_memory.py [--rows 1400000] [--tasks 330]

The records are synthetic, as a build writes them, five shards. What counts is the anonymous memory of the process that
reads them; the Arrow file that training reads is memory-mapped, and the system may drop its pages at any time. The last
line takes a thousand random batches, as a run does.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.dataset.schema import RECORDS

SHARDS = 5


def write_shards(folder: Path, rows: int, tasks: int) -> int:
    """Shards with texts of some 40 words; returns the bytes of all texts."""
    draw = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(50_000)])
    size = 0
    for shard, numbers in enumerate(np.array_split(np.arange(rows), SHARDS)):
        with pq.ParquetWriter(folder / f"{shard}.parquet", RECORDS, compression="zstd") as writer:
            for block in np.array_split(numbers, max(1, len(numbers) // 10_000)):
                texts = [" ".join(line) for line in words[draw.integers(0, len(words), (3 * len(block), 40))]]
                size += sum(map(len, texts))
                task = (block * tasks // rows).astype(np.int32)
                ids = [f"task{t}/{n}" for t, n in zip(task, block, strict=True)]
                sides = {
                    side: [["Represent the text for retrieval;", text] for text in texts[place::3]]
                    for place, side in enumerate(("query", "pos", "neg"))
                }
                known = {
                    "task_id": task,
                    "task_name": [f"task{t}" for t in task],
                    "id": ids,
                    "miner": ["dense"] * len(ids),
                }
                known |= {**sides, "pos_id": [f"{i}#p0" for i in ids], "neg_id": [f"{i}#n0" for i in ids]}
                columns = [
                    known.get(f.name, [[]] * len(ids) if pa.types.is_list(f.type) else [0] * len(ids)) for f in RECORDS
                ]
                writer.write_table(pa.table(columns, schema=RECORDS))
    return size


def anonymous_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) / 1024


def measure(source: Path) -> None:
    """In a process of its own, so that nothing else counts."""
    from medi_build.train.batches import BatchSettings, plan_batches
    from medi_build.train.data import prepare

    base, done = anonymous_mb(), threading.Event()
    peak = [base]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()

    def told(what: str, begin: float) -> None:
        print(
            f"{what}: {time.perf_counter() - begin:.1f} s, peak {peak[0] - base:.0f} MB above {base:.0f} MB", flush=True
        )
        peak[0] = base

    begin = time.perf_counter()
    data = prepare(source, source.parent / "prepared")
    told(f"read {len(data):,} records", begin)
    begin = time.perf_counter()
    plan = plan_batches(data.keys, BatchSettings(batch_size=64))
    told(f"planned {len(plan):,} batches", begin)
    begin = time.perf_counter()
    for index in np.random.default_rng(0).permutation(len(plan))[:1000]:
        data.__getitems__(plan.batch(int(index)).tolist())
    told("took 1,000 random batches", begin)
    done.set()
    watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_400_000)
    parser.add_argument("--tasks", type=int, default=330)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "data"
        shards.mkdir()
        size = write_shards(shards, options.rows, options.tasks)
        print(f"{options.rows:,} records, {size / 1e6:,.0f} MB of text", flush=True)
        subprocess.run([sys.executable, __file__, "--child", str(shards)], check=True)


if __name__ == "__main__":
    main()

"""How much of a shard is new to a store that keeps chunks by their content, after rows were put in or changed.

    python benchmarks/versions_chunks.py --rows 65536

The store cuts a file where a hash of its last 64 bytes says so, every 64 KB on average (8 to 128), as the one behind
the Hugging Face Hub does. Shards are written as ours are, with content-defined chunks of pages or without, in row
groups of 8,192 rows or one; the second version has one row more at 1 % of the way (which moves every source_row after
it), or 1 % of its rows changed, all over it.
"""

import argparse
import hashlib
import io
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from versions_data import Stream, tables

from medi_build.dataset.schema import RECORDS

GEAR = np.random.default_rng(0).integers(0, 2**63, 256, dtype=np.uint64) * np.uint64(2)
LEAST, MOST, BITS = 8 << 10, 128 << 10, 16
WAYS: list[tuple[int, bool | dict[str, int]]] = [
    (8192, False),
    (8192, True),
    (65536, False),
    (65536, True),
    (65536, {"min_chunk_size": 64 << 10, "max_chunk_size": 256 << 10, "norm_level": 0}),
]


def chunks(data: bytes) -> list[tuple[bytes, int]]:
    """Digest and length of each chunk."""
    hashes = GEAR[np.frombuffer(data, np.uint8)]
    reach = 1
    while reach < 64:  # after each step a hash covers twice as many bytes
        moved = np.zeros_like(hashes)
        moved[reach:] = hashes[:-reach] << np.uint64(reach)
        hashes = hashes + moved
        reach *= 2
    cuts, start = [], 0
    for cut in [*(np.flatnonzero(hashes >> np.uint64(64 - BITS) == 0) + 1).tolist(), len(data)]:
        while cut - start > MOST:
            start += MOST
            cuts.append(start)
        if cut - start >= LEAST or cut == len(data):
            cuts.append(cut)
            start = cut
    pairs = zip([0, *cuts[:-1]], cuts, strict=True)
    return [(hashlib.blake2b(data[begin:end], digest_size=16).digest(), end - begin) for begin, end in pairs]


def new_share(old: bytes, new: bytes) -> float:
    """Share of the bytes of the second file in chunks that the first does not have."""
    known = dict(chunks(old))
    return sum(length for digest, length in dict(chunks(new)).items() if digest not in known) / len(new)


def written(table: pa.Table, rows: int, chunking: bool | dict[str, int]) -> tuple[bytes, float]:
    """The file, and the processor seconds that writing took."""
    buffer, begin = io.BytesIO(), time.process_time()
    settings: dict[str, Any] = {"version": "2.6", "compression": "zstd", "compression_level": 3}
    with pq.ParquetWriter(buffer, RECORDS, use_content_defined_chunking=chunking, **settings) as writer:
        writer.write_table(table, row_group_size=rows)
    return buffer.getvalue(), time.process_time() - begin


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=65536)
    rows = parser.parse_args().rows
    stream = Stream()
    old, changed = (pa.concat_tables(tables(stream, version, 0, rows)).combine_chunks() for version in (1, 2))
    place = rows // 100
    more = next(iter(tables(stream, 1, 1, 1)))
    inserted = pa.concat_tables([old.slice(0, place), more, old.slice(place)]).combine_chunks()
    numbers = pa.array(np.arange(1, rows + 2), pa.int64())
    inserted = inserted.set_column(RECORDS.get_field_index("source_row"), RECORDS.field("source_row"), numbers)
    for group, chunking in WAYS:
        file, seconds = min((written(old, group, chunking) for _ in range(3)), key=lambda pair: pair[1])
        put_in, all_over = (new_share(file, written(new, group, chunking)[0]) for new in (inserted, changed))
        print(
            f"row groups of {group}, chunks {chunking}: {len(file) / 1e6:.2f} MB, {seconds:.2f} s; new after one row "
            f"was put in {put_in:.1%}, after 1 % changed {all_over:.1%}"
        )


if __name__ == "__main__":
    main()

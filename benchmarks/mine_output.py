"""Writing more mined text than memory could hold: GiB, seconds and peak memory of `medi mine`'s engine for each form.

    python benchmarks/mine_output.py [--pairs 65000] [--negatives 50] [--characters 995] [--forms triplet tevatron]

The pairs are random words, the vectors random numbers, so no encoder runs and everything is a negative of everything;
each form is mined and written by a process of its own, the last line by one that writes all of them in one pass. The
memory is the peak of the whole process (VmHWM), of which torch and the other libraries take what "imports" says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.formats import FILES, Format
from medi_build.embedding import Embedded
from medi_build.mine.run import Encoders
from medi_build.pipeline.mine_file import Output, mine_file
from medi_build.pipeline.own_pairs import OwnPairs

DIMENSIONS = 64


def write_pairs(path: Path, count: int, characters: int) -> None:
    """Pairs whose queries and positives are random words."""
    draw = np.random.default_rng(0)
    letters = draw.integers(97, 123, (20_000, 7), dtype=np.uint8)
    words = [
        bytes(word[:length]).decode() for word, length in zip(letters, draw.integers(2, 8, len(letters)), strict=True)
    ]
    with path.open("w") as file:
        for number in range(count):
            text = " ".join(words[place] for place in draw.integers(0, len(words), characters // 4))
            file.write(json.dumps([f"the query of pair {number}", f"{number} {text}"[:characters].strip()]) + "\n")


def random_vectors(texts: Sequence[str], instruction: str | None = None, side: str | None = None) -> Embedded:
    """Unit vectors that mean nothing."""
    vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(vectors.astype(np.float16), 0)


def peak() -> float:
    """Most memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def one(source: Path, forms: list[Format], negatives: int) -> None:
    """Mine and write in this process; prints what it took."""
    import torch  # noqa: F401 - so that its memory is in the first figure

    imports, begin, busy = peak(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        rule = MiningRule(num_negatives=negatives)
        mine_file(OwnPairs(str(source)), Output(Path(folder), forms), Encoders(random_vectors), rule)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        written = sum((Path(folder) / FILES[form]).stat().st_size for form in forms) / 2**30
    what = forms[0] if len(forms) == 1 else "all in one pass"
    spent = f"{seconds:8.1f} s ({busy:.1f} s of CPU) {peak():8.0f} MB (imports {imports:.0f})"
    print(f"{what:16} {written:8.2f} GiB on disk {spent}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=65_000)
    parser.add_argument("--negatives", type=int, default=50)
    parser.add_argument("--characters", type=int, default=995)
    parser.add_argument("--forms", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.source:
        one(options.source, options.forms, options.negatives)
        return
    text = options.pairs * options.negatives * options.characters / 2**30
    print(f"{options.pairs:,} pairs x {options.negatives} negatives x {options.characters} characters = {text:.2f} GiB")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pairs.jsonl"
        write_pairs(source, options.pairs, options.characters)
        for forms in [*([form] for form in options.forms), *([options.forms] if len(options.forms) > 1 else [])]:
            command = [
                sys.executable,
                __file__,
                "--source",
                str(source),
                "--negatives",
                str(options.negatives),
                "--forms",
                *forms,
            ]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

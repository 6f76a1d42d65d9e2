"""How well and how fast `medi contamination` finds evaluation text: planted copies, a scale run, and a library.

    python benchmarks/contamination.py quality --data DIR [--seed 0]
    python benchmarks/contamination.py scale [--records 1400000] [--evaluation 2000000] [--folder DIR]
    python benchmarks/contamination.py library [--texts 20000]

``quality``: real texts from DIR (its .jsonl, .json, .csv and .txt files, plain or gzip; each file is one corpus). A
tenth of the texts of each corpus are evaluation, the rest is training; a copy of each evaluation text, changed in a
known way, is planted among the training texts. Told are the copies found, and the hits that were not planted, some in
full. ``scale``: random words of realistic lengths in files; medi runs in a process of its own. ``library``: near
copies by datasketch's and rensa's MinHash beside ours, on the same texts.
"""

import argparse
import csv
import gzip
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.evaluate.contamination.index import Entry, SetBatch, open_index, write_index
from medi_build.evaluate.contamination.match import KINDS, find_matches
from medi_build.evaluate.contamination.prints import SHINGLE
from medi_build.evaluate.contamination.words import normal_forms

CUT = 10
"""Words taken from an end of a text of at least `LONG` words."""
LONG = 25
SENTENCES = re.compile(r"(?<=[.!?])\s+")


# --- quality


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value that are more than a word."""
    if isinstance(value, str):
        if " " in value.strip():
            yield value.strip()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def json_strings(text: str) -> Iterator[str]:
    """The same of a file of JSON lines, or of one JSON value."""
    try:
        for line in text.splitlines():
            yield from strings(json.loads(line))
    except json.JSONDecodeError:
        yield from strings(json.loads(text))


def corpora(folder: Path, most: int) -> dict[str, list[str]]:
    """Different texts by file, at most ``most`` of each."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.name.removesuffix(".gz")
        if not path.is_file() or not name.endswith((".jsonl", ".json", ".csv", ".txt")):
            continue
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8", errors="replace") as file:
            if name.endswith(".csv"):
                texts = [cell for row in csv.reader(file) for cell in row if " " in cell]
            elif name.endswith(".txt"):
                texts = [cell for line in file for cell in line.strip().split("\t") if " " in cell]
            else:
                texts = list(json_strings(file.read()))
        texts = list(dict.fromkeys(texts))
        random.Random(0).shuffle(texts)
        if len(texts) >= 100:
            found[str(path.relative_to(folder))] = texts[:most]
    return found


def changed(text: str, draw: random.Random) -> dict[str, str]:
    """Copies of a text by the kind of change, as far as it allows one."""
    words, sentences = text.split(), [one for one in SENTENCES.split(text) if one]
    swaps = {",": ";", ".": "!", '"': "'", "-": " - ", "?": "??"}
    found = {
        "exact": text,
        "case": draw.choice([text.upper(), text.lower(), text.title()]),
        "punctuation": "".join(swaps.get(letter, letter) for letter in text).replace(" ", "  ") + " ...",
    }
    if len(words) >= LONG:
        found["cut at the start"] = " ".join(words[CUT:])
        found["cut at the end"] = " ".join(words[:-CUT])
    if len(words) >= LONG + CUT:
        found["cut at both ends"] = " ".join(words[CUT:-CUT])
    if len({*sentences}) > 1:
        order = sentences[:]
        while order == sentences:
            draw.shuffle(order)
        found["sentences reordered"] = " ".join(order)
    return found


def quality(options: argparse.Namespace) -> None:
    """Recall of planted copies by kind, and the hits that were not planted."""
    draw = random.Random(options.seed)
    evaluation: list[str] = []
    training: list[tuple[str, str]] = []  # text, and how it was changed; "" for those that were there
    for texts in corpora(options.data, options.most).values():
        cut = len(texts) // 10
        for text in texts[:cut]:
            copies = changed(text, draw)
            kind = draw.choice(sorted(copies))
            training.append((copies[kind], kind))
        evaluation += texts[:cut]
        training += [(text, "") for text in texts[cut:]]
    draw.shuffle(training)
    with tempfile.TemporaryDirectory() as folder:
        write_index(entries(evaluation), Path(folder))
        index = open_index(Path(folder))
        planted, found = defaultdict(list), []
        for start in range(0, len(training), 8192):
            some = training[start : start + 8192]
            matches = find_matches(index, pa.array([text for text, _ in some], pa.large_string()))
            best = dict(zip(matches.texts.tolist(), zip(*(c.tolist() for c in matches[1:]), strict=True), strict=True))
            for place, (text, change) in enumerate(some):
                if change:
                    planted[change].append(place in best)
                elif place in best:
                    entry, kind, similarity = best[place]
                    [one] = index.entries(np.array([entry]))
                    found.append((KINDS[kind], similarity, text, one.text))
        del index
    print(f"{len(training):,} training texts, {len(evaluation):,} evaluation texts")
    for change, hits in sorted(planted.items()):
        print(f"  {change:20} {len(hits):6,} planted, {sum(hits) / len(hits):7.2%} found")
    print(f"{len(found):,} hits that were not planted:", {k: sum(one[0] == k for one in found) for k in KINDS})
    draw.shuffle(found)
    for kind, similarity, text, other in [one for one in found if one[0] != "exact"][: options.show]:
        print(f"\n{kind} {similarity:.2f}\n  {' '.join(text.split())[:400]}\n  {' '.join(other.split())[:400]}")


def entries(texts: list[str]) -> Iterator[SetBatch]:
    """Texts as one evaluation set."""
    for start in range(0, len(texts), 8192):
        yield SetBatch(0, [Entry("text", str(start), text) for text in texts[start : start + 8192]])


# --- scale


class Words:
    """Random texts: words by Zipf's law, lengths log-normal (median 30 words, mean about 55)."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        letters = np.random.default_rng(1).integers(97, 123, (100_000, 12), dtype=np.uint8)
        sizes = np.random.default_rng(2).integers(2, 12, len(letters))
        self.words = [bytes(word[:size]).decode() for word, size in zip(letters, sizes, strict=True)]
        weights = 1 / np.arange(10, len(letters) + 10)
        self.sums = np.cumsum(weights / weights.sum())

    def texts(self, count: int) -> list[str]:
        """So many texts."""
        sizes = np.clip(np.exp(self.draw.normal(3.4, 1.1, count)), 3, 400).astype(int)
        places = np.searchsorted(self.sums, self.draw.random(sizes.sum()))
        words = [self.words[place] for place in np.minimum(places, len(self.words) - 1).tolist()]
        ends = np.cumsum(sizes).tolist()
        return [" ".join(words[start:end]).capitalize() + "." for start, end in zip([0, *ends], ends, strict=False)]


def write_scale(folder: Path, records: int, evaluation: int) -> None:
    """Files of records and evaluation texts; one record in a hundred holds one, and a third of the negatives repeat."""
    made, step = Words(3), 20_000
    pool: list[str] = []
    with (folder / "evaluation.jsonl").open("w") as file:
        for start in range(0, evaluation, step):
            some = made.texts(min(step, evaluation - start))
            file.writelines(json.dumps({"text": text}) + "\n" for text in some)
            pool += some[:100]
    sides = {side: pa.list_(pa.string()) for side in ("query", "pos", "neg")}
    schema = pa.schema([*sides.items(), ("task_name", pa.string())])
    with pq.ParquetWriter(folder / "records.parquet", schema, compression="zstd") as writer:
        for start in range(0, records, step):
            count = min(step, records - start)
            query, pos, fresh = (made.texts(count) for _ in range(3))
            for place in range(0, count, 100):
                query[place] = pool[(start + place) // 100 % len(pool)].upper()
            neg = [pos[place - 1] if place % 3 else text for place, text in enumerate(fresh)]
            columns = {"query": query, "pos": pos, "neg": neg}
            lists = {name: [["Represent this:", text] for text in texts] for name, texts in columns.items()}
            table = pa.table({**lists, "task_name": [f"task{start // step % 30}"] * count}, schema)
            writer.write_table(table, row_group_size=4096)


def scale(options: argparse.Namespace) -> None:
    """Time and memory of one run over files of that size."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "records.parquet").exists():
            write_scale(folder, options.records, options.evaluation)
        sizes = {path.name: f"{path.stat().st_size / 1e6:,.0f} MB" for path in sorted(folder.iterdir())}
        print(f"{options.records:,} records, {options.evaluation:,} evaluation texts, files {sizes}", flush=True)
        command = ["contamination", str(folder / "records.parquet"), "--against", str(folder / "evaluation.jsonl")]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "medi_build", *command], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{time.perf_counter() - begin:.0f} s wall, {used.ru_utime + used.ru_stime:.0f} s of CPU, "
            f"peak {used.ru_maxrss / 1024:,.0f} MB, all threads in one process"
        )


# --- library


def library(options: argparse.Namespace) -> None:
    """Near copies by ours, datasketch and rensa: the same texts, the same shingles, one thread."""
    made, draw = Words(5), random.Random(6)
    evaluation = made.texts(options.texts)
    training = made.texts(options.texts)
    for place in range(0, len(training), 10):
        words = evaluation[place].split()
        words[draw.randrange(len(words))] = "changed"
        training[place] = " ".join(words)
    seconds: dict[str, tuple[float, int]] = {}
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write_index(entries(evaluation), Path(folder))
        index = open_index(Path(folder))
        found = 0
        for start in range(0, len(training), 8192):
            matches = find_matches(index, pa.array(training[start : start + 8192], pa.large_string()))
            found += len(np.unique(matches.texts))
        del index
    seconds["ours (exact, runs of 13 and near)"] = time.process_time() - begin, found
    for name, run in (("datasketch", by_datasketch), ("rensa", by_rensa)):
        begin = time.process_time()
        found = run(evaluation, training)
        seconds[f"{name} (candidates of near copies)"] = time.process_time() - begin, found
    ours = next(iter(seconds.values()))[0]
    for name, (took, found) in seconds.items():
        print(f"{name:36} {took:7.2f} s of CPU, {took / ours:5.1f} x, {found:,} texts found")


def shingles(texts: list[str]) -> list[list[str]]:
    """Runs of ``SHINGLE`` words of each text in normal form, as strings."""
    split = [text.split() for text in normal_forms(pa.array(texts, pa.large_string()))]
    return [[" ".join(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)] for words in split]


def by_datasketch(evaluation: list[str], training: list[str]) -> int:
    """Training texts with a candidate, by `MinHashLSH`."""
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(num_perm=56, params=(14, 4))
    for number, some in enumerate(shingles(evaluation)):
        one = MinHash(num_perm=56)
        one.update_batch([text.encode() for text in some])
        lsh.insert(number, one)
    found = 0
    for some in shingles(training):
        one = MinHash(num_perm=56)
        one.update_batch([text.encode() for text in some])
        found += bool(lsh.query(one))
    return found


def by_rensa(evaluation: list[str], training: list[str]) -> int:
    """Training texts with a candidate, by `RMinHashLSH`."""
    from rensa import RMinHash, RMinHashLSH

    lsh = RMinHashLSH(threshold=0.7, num_perm=56, num_bands=14)
    for number, one in enumerate(RMinHash.from_token_sets(shingles(evaluation), 56, 1)):
        lsh.insert(number, one)
    return sum(bool(lsh.query(one)) for one in RMinHash.from_token_sets(shingles(training), 56, 1))


def main() -> None:
    """Parse, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    one = modes.add_parser("quality")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--most", type=int, default=20_000, help="texts of a corpus")
    one.add_argument("--show", type=int, default=40, help="hits that were not planted, to judge")
    one.set_defaults(run=quality)
    one = modes.add_parser("scale")
    one.add_argument("--records", type=int, default=1_400_000)
    one.add_argument("--evaluation", type=int, default=2_000_000)
    one.add_argument("--folder", type=Path, help="where the files are kept")
    one.set_defaults(run=scale)
    one = modes.add_parser("library")
    one.add_argument("--texts", type=int, default=20_000)
    one.set_defaults(run=library)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

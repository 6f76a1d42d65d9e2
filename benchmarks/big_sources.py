"""Rows a second and peak memory of reading the largest sources, on made-up files of real form.

    OMP_NUM_THREADS=1 python benchmarks/big_sources.py --lines 10000000 --pages-gb 2

A pair source of many lines (gzip, as the real ones are) under the card's cap, and a KILT task over a knowledge source
that is indexed first. Each is adapted in a process of its own. Speeds go by the process's own CPU seconds, so that a
busy machine tells the same; memory is the peak of what belongs to the process alone, pages of mapped files not counted.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

REAL_LINES = {"amazon_review_2018": 87_877_725, "PAQ_pairs": 64_371_441, "S2ORC_title_abstract": 41_769_185}
REAL_PAGES_BYTES = 37_318_876_722


def write_pairs(path: Path, lines: int) -> int:
    """Distinct pairs of some 60 words; returns the bytes before compression."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(draw.choices(words, k=50)) for _ in range(5000)]
    size = 0
    with gzip.open(path, "wb", compresslevel=1) as file:
        for start in range(0, lines, 10_000):
            block = "".join(
                f'["{words[n % 5000]} {n} {words[n // 7 % 5000]}", "{texts[n % 5000]} {n}"]\n'
                for n in range(start, min(start + 10_000, lines))
            ).encode()
            size += file.write(block)
    return size


def write_kilt(folder: Path, gigabytes: float) -> int:
    """A knowledge source and a task of 100,000 questions over it; returns the number of pages."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]
    paragraphs = [" ".join(draw.choices(words, k=60)) + "\n" for _ in range(2000)]
    pages = size = 0
    with (folder / "kilt_knowledgesource.json").open("wb") as file:
        while size < gigabytes * 1e9:
            text = [f"page {pages}", *draw.choices(paragraphs, k=14)]
            page = {"_id": str(pages), "wikipedia_id": str(pages), "wikipedia_title": text[0], "text": text,
                    "anchors": [], "categories": "", "history": {}, "wikidata_info": {}}  # fmt: skip
            size += file.write(json.dumps(page).encode() + b"\n")
            pages += 1
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(100_000):
            gold = {"wikipedia_id": str(draw.randrange(pages)), "start_paragraph_id": 1, "end_paragraph_id": 1,
                    "start_character": 0, "end_character": 30}  # fmt: skip
            row = {"id": str(number), "input": f"question {number} {words[number % 5000]}"}
            file.write(json.dumps({**row, "output": [{"answer": words[number % 4999], "provenance": [gold]}]}) + "\n")
    return pages


ADAPT = """
import json, sys, time
from pathlib import Path
from medi_build.content.cards import Card
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.ingest.adapters.base import Inputs
folder, rows, pages, card = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Card.model_validate_json(sys.argv[4])
inputs = Inputs((rows,), {"pages": (Path(pages),)} if pages else {}, folder / "cache")
begin, used = time.perf_counter(), time.process_time()
result = adapt(AdaptJob(card, inputs, card.cap, 42, folder))
took, used = time.perf_counter() - begin, time.process_time() - used
print(json.dumps({"seconds": took, "cpu": used, "read": result.ledger["read"], "kept": result.examples().num_rows,
    "documents": result.documents().num_rows}))
"""


def adapted(folder: Path, rows: Path, pages: Path | None, options: dict[str, object]) -> dict[str, float]:
    """Adapt in a process of its own, watching its anonymous memory."""
    card = {"name": "made/up", "description": "", "options": options, "files": {"train": ["x"]}, "citation": "",
            "licence": {"spdx": "CC0-1.0", "commercial_use": "allowed"}, "instruction": {"template": "retrieval"},
            "cap": 200_000}  # fmt: skip
    arguments = [sys.executable, "-c", ADAPT, str(folder), str(rows), str(pages or ""), json.dumps(card)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(status.split("RssAnon:")[1].split()[0]))
        except (OSError, IndexError):
            break  # it is over
        time.sleep(0.02)
    out, _ = process.communicate()
    return {**json.loads(out), "peak": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--pages-gb", type=float, default=2.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_pairs(folder / "rows.jsonl.gz", arguments.lines)
        got = adapted(folder, folder / "rows.jsonl.gz", None, {"adapter": "pairs"})
        speed = got["read"] / got["cpu"]
        print(f"pairs: {got['read']:,} lines, {size / 1e9:.2f} GB unpacked, {got['kept']:,} kept, {_cost(got)}")
        print(f"  {speed:,.0f} lines a CPU second")
        for source, lines in REAL_LINES.items():
            print(f"  {source}, {lines:,} lines: {lines / speed / 60:.0f} min")
        (folder / "rows.jsonl.gz").unlink()
        pages = write_kilt(folder, arguments.pages_gb)
        source = folder / "kilt_knowledgesource.json"
        print(f"kilt: {pages:,} pages, {source.stat().st_size / 1e9:.2f} GB")
        first = adapted(folder, folder / "rows.jsonl", source, {"adapter": "kilt"})
        again = adapted(folder, folder / "rows.jsonl", source, {"adapter": "kilt"})
        for what, got in (("indexing the source first", first), ("with the index there", again)):
            print(f"  {got['read']:,} questions, {got['documents']:,} documents, {what}: {_cost(got)}")
        indexing = first["cpu"] - again["cpu"]
        real = REAL_PAGES_BYTES / source.stat().st_size * indexing / 60
        print(
            f"  indexing alone: {source.stat().st_size / indexing / 1e6:,.0f} MB a CPU second; the real: {real:.1f} min"
        )


def _cost(got: dict[str, float]) -> str:
    return f"{got['cpu']:.0f} CPU seconds in {got['seconds']:.0f}, peak {got['peak']:,.0f} MB"


if __name__ == "__main__":
    main()

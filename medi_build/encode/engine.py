"""Token ids through a model: many short fixed-shape passes side by side.

On the CPU each pass runs on one thread and several passes run at once, one per core. Kernels then see the same shapes
on the same single thread whatever the number of cores, so a text's vector is the same bit for bit; and no core waits
for another inside a kernel. Nothing of the model is kept between two runs.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from medi_build.arrays import Ints
from medi_build.encode.pair_tokens import Tokens
from medi_build.encode.passes import ForwardPass, fewer_rows, plan, plan_equal
from medi_build.errors import EncoderError

CPU_BUDGET = 1024
"""Padded tokens of a pass on one core: the activations stay near its cache, and little is filler."""
CUDA_BUDGET = 1 << 16
"""Padded tokens of a pass on a GPU, to begin with; halved when memory runs out."""

Features = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""
Keep = Callable[[Ints, Features], None]


class Replica(NamedTuple):
    """A model on a device.

    Attributes:
        modules: its modules, the transformer first.
        device: the one that all of them are on.
        bare: on GPUs the transformer, compiled perhaps, asked with ``input_ids`` alone where no place is padded;
            None on the CPU, and where it needs a mask in any case.
    """

    modules: Sequence[nn.Module]
    device: torch.device
    bare: Callable[[Features], Features] | None = None


class Budget:
    """What is known of passes of one model on one kind of device.

    Attributes:
        tokens: padded tokens of a pass at most; halved when a device's memory runs out.
        same: by width, number of rows and whether no place is padded, whether a pass gives the same bits as one with
            more rows; None where the model may change, so that this cannot be known.
    """

    def __init__(self, device: torch.device, *, model_stays: bool = False) -> None:
        self.tokens = CUDA_BUDGET if device.type == "cuda" else CPU_BUDGET
        self.same: dict[tuple[int, int, bool], bool] | None = {} if model_stays and device.type == "cpu" else None


class Arithmetic(NamedTuple):
    """How a pass computes.

    Attributes:
        window: tokens of a text at most.
        dtype: of the transformer's linear layers and attention (autocast), the rest in float32; float32 leaves every
            module as it is.
        numbers: of a vector, the first so many; None for all.
    """

    window: int
    dtype: torch.dtype = torch.float32
    numbers: int | None = None


def run(
    replicas: Sequence[Replica],
    tokens: Tokens,
    keep: Keep,
    how: Arithmetic,
    budget: Budget,
    progress: Progress | None = None,
) -> None:
    """Send all texts through the model and hand each pass's features to ``keep``, from several threads.

    Args:
        replicas: the model on each device, all of one kind.
        tokens: the texts.
        keep: called with the rows (indices into ``tokens``) and the features of exactly those rows:
            ``sentence_embedding`` and (normalised) ``unit_embedding`` [k, d], ``token_embeddings`` [k, width, h], and
            ``attention_mask`` [k, width], 0 on padding and on the tokens that the pooling leaves out.
        how: dtype, window and length of the vectors.
        budget: how much a pass may hold.
        progress: told after each pass.

    Raises:
        EncoderError: a single text does not fit in a device's memory.
    """
    kind = replicas[0].device
    if kind.type == "cpu" and replicas[0].bare is None:
        passes = plan(tokens.lengths, how.window, budget.tokens, fixed=True)
    else:
        passes = plan_equal(tokens.lengths, how.window, budget.tokens)
    lock = threading.Lock()
    done = 0

    def take() -> ForwardPass | None:
        with lock:
            return next(passes, None)

    def work(replica: Replica) -> None:
        nonlocal done
        while planned := take():
            for rows, features in _passes(replica, tokens, planned, how, budget):
                keep(rows, features)
                with lock:
                    done += len(rows)
                    if progress:
                        progress(done, len(tokens.skip))

    def stop() -> None:
        with lock:
            passes.close()

    side_by_side(work, replicas, kind, stop)


def side_by_side(
    work: Callable[[Any], None], replicas: Sequence[Any], kind: torch.device, stop: Callable[[], None]
) -> None:
    """Call ``work`` with every replica of a model; on the CPU in a thread for each core, which computes on that alone.

    After an error or an interrupt ``stop`` is called, after which nobody may begin anything.
    """
    with one_thread_each(kind) as workers:
        jobs = list(replicas) * workers
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(_alone, kind, work, job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop()
        for future in futures:
            future.result()


def _passes(
    replica: Replica, tokens: Tokens, planned: ForwardPass, how: Arithmetic, budget: Budget
) -> Iterator[tuple[Ints, Features]]:
    """Run one pass, in smaller pieces once memory has run out."""
    start = 0
    while start < len(planned.rows):
        capacity = min(planned.capacity, max(1, budget.tokens // planned.width))
        rows = planned.rows[start : start + capacity]
        features: Features | None = None
        try:
            features = _features(replica, tokens, planned._replace(rows=rows, capacity=capacity), how, budget)
        except torch.OutOfMemoryError as error:
            if capacity == 1:
                raise EncoderError(
                    f"out of memory on {replica.device} with a single text of {planned.width} tokens; lower "
                    "max_tokens, or use a smaller model or dtype"
                ) from error
        if features is None:  # outside the handler, whose traceback keeps the failed pass's tensors alive
            budget.tokens = min(budget.tokens, capacity * planned.width) // 2
            warnings.warn(
                f"{replica.device} ran out of memory with {capacity} texts of {planned.width} tokens at once; from now "
                f"on at most {max(budget.tokens, planned.width):,} tokens at once",
                stacklevel=2,
            )
            torch.cuda.empty_cache()
            continue
        yield rows, {name: value[: len(rows)] for name, value in features.items()}
        start += len(rows)


def _features(replica: Replica, tokens: Tokens, planned: ForwardPass, how: Arithmetic, budget: Budget) -> Features:
    """One pass; in fewer rows than planned where few are filled and this has been seen to give the same bits.

    A processor's kernels mostly give a row the same bits however many there are, yet none promises it. So the first
    time both are done, and the plan's own counts.
    """

    def forward(capacity: int) -> Features:
        padded = _pad(tokens, planned.rows, planned.width, capacity)
        return _forward(replica, how, padded, bare=planned.equal)

    count = len(planned.rows)
    fewer = fewer_rows(count, planned.capacity, planned.width)
    if budget.same is None or fewer == planned.capacity:
        return forward(planned.capacity)
    shape = (planned.width, fewer, bool((tokens.lengths[planned.rows] >= planned.width).all()))
    if budget.same.get(shape):
        return forward(fewer)
    features = forward(planned.capacity)
    if shape not in budget.same:
        tried = forward(fewer)
        budget.same[shape] = all(_bits(value[:count]) == _bits(tried[name][:count]) for name, value in features.items())
    return features


def _bits(value: torch.Tensor) -> bytes:
    return value.numpy().tobytes()


class _Padded(NamedTuple):
    """A pass's input: int64 [capacity, width] ids and mask, int64 [capacity] tokens to leave out of the pooling."""

    ids: Ints
    mask: Ints
    skip: Ints


def _pad(tokens: Tokens, rows: Ints, width: int, capacity: int) -> _Padded:
    """Lay texts out in a rectangle; missing rows repeat the last text."""
    filled = np.concatenate([rows, np.repeat(rows[-1:], max(0, capacity - len(rows)))])
    places = np.arange(width)
    inside = places < tokens.lengths[filled][:, None]
    index = np.where(inside, tokens.offsets[filled][:, None] + places, 0)
    return _Padded(np.where(inside, tokens.ids[index], 0), inside.astype(np.int64), tokens.skip[filled])


@torch.inference_mode()
def _forward(replica: Replica, how: Arithmetic, padded: _Padded, *, bare: bool) -> Features:
    """Transformer in ``how.dtype``; pooling and what follows in fp32 (bf16 pooling costs two digits of the cosine).

    ``bare`` passes have no padded place. Without a mask attention takes kernels that need none, and T5's bias by
    places is one for all texts; with one it would be written out for each.
    """
    (transformer, *later), device = replica.modules, replica.device
    narrow = how.dtype != torch.float32
    mask = torch.from_numpy(padded.mask).to(device)
    features: Features = {"input_ids": torch.from_numpy(padded.ids).to(device)}
    with torch.autocast(device.type, how.dtype, enabled=narrow):
        if bare and replica.bare is not None:
            features = replica.bare(features)
        else:
            features = transformer({**features, "attention_mask": mask})
    places = torch.arange(mask.shape[1], device=device)
    pooled = mask * (places >= torch.from_numpy(padded.skip).to(device)[:, None])
    found = features["token_embeddings"]
    features = {"token_embeddings": found.float() if narrow else found, "attention_mask": pooled}
    for module in later:
        features = module(features)
    features["sentence_embedding"] = features["sentence_embedding"][..., : how.numbers]
    features["unit_embedding"] = nn.functional.normalize(features["sentence_embedding"])
    return features


def _alone(kind: torch.device, work: Callable[[Any], None], job: Any) -> None:
    """Run a worker; on the CPU its kernels stay on its own thread."""
    if kind.type == "cpu":
        torch.set_num_threads(1)
    work(job)


_LOCK = threading.Lock()
_COUNTS: list[int] = []
"""For each run under way the threads that this process had before the first of them."""


@contextmanager
def one_thread_each(kind: torch.device) -> Iterator[int]:
    """Yield how many passes to run at once; after the last of several such blocks the thread count is as before."""
    if kind.type != "cpu":
        yield 1
        return
    with _LOCK:  # while another caller's workers are at it, torch tells their count, 1, to new threads
        _COUNTS.append(_COUNTS[0] if _COUNTS else torch.get_num_threads())
        threads = _COUNTS[0]
    try:
        yield threads
    finally:
        with _LOCK:
            _COUNTS.pop()
            if not _COUNTS:
                torch.set_num_threads(threads)

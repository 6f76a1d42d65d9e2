"""Encoding: a T5 of T5-large's shape at three lengths and at mixed ones, as passes were and as they are on a GPU.

"Padded" is what the CPU's planning gives: texts of like length, a padded place in each, a mask. "Equal" is
`plan_equal`: texts of one length, no mask. Tokens are the real ones, padding not counted. The share of the peak is what
the tokens need (products with the weights, attention) over what this device's bf16 product does.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu_parts.measure import Line, line, passed, seconds, wait
from benchmarks.gpu_parts.networks import (
    BERT_TINY,
    MINILM,
    T5_LARGE,
    T5_TINY,
    WINDOW,
    Shape,
    arithmetic,
    operations,
    replica,
    tokens,
    transformer,
)
from benchmarks.gpu_parts.peak import product_rate
from medi_build.encode import engine
from medi_build.encode.compiled import Compiled
from medi_build.encode.engine import CPU_BUDGET, CUDA_BUDGET, Budget, Replica
from medi_build.encode.passes import EQUAL_FROM, ForwardPass, plan, plan_equal


class Work(NamedTuple):
    """Texts by their lengths, as passes; of many passes some, drawn at random."""

    name: str
    lengths: np.ndarray
    padded: Sequence[ForwardPass]
    equal: Sequence[ForwardPass]


def run(device: str, small: bool) -> Iterator[Line]:
    shape, peak = (T5_TINY, product_rate(device, 256)) if small else (T5_LARGE, product_rate(device, 8192))
    yield line("bf16 product, which the shares are of", peak / 1e12, "TFLOP/s")
    made = transformer(shape, device)
    eager, compiled = replica(made, made), replica(made, Compiled(made, 0, "eager" if small else "inductor"))
    works = [fixed(width, small) for width in ((32,) if small else (32, 128, 320))]
    yield from compiling("by layer", compiled, works, shape)
    for work in (*works, mixed(small)):
        yield from three_ways(work, eager, compiled, shape, peak)
    yield from agreement(eager, compiled, works[len(works) // 2], shape)
    yield from whole_engine(device, shape, compiled, small)
    del eager, compiled, made
    yield from small_network(device, small, peak)
    yield from layers_or_whole(device, small, works[len(works) // 2], peak)


def budget(small: bool) -> int:
    return CPU_BUDGET if small else CUDA_BUDGET


def fixed(width: int, small: bool) -> Work:
    """Some passes of texts of up to one width, and of exactly that."""
    rows = (2 if small else 3) * (budget(small) // width)
    lengths = np.random.default_rng(0).integers(width - width // 8, width, rows)
    same = np.full(rows, width)
    return Work(
        f"{width} tokens",
        np.concatenate([lengths, same]),
        list(plan(lengths, WINDOW, budget(small), fixed=False)),
        [one._replace(rows=one.rows + rows) for one in plan_equal(same, WINDOW, budget(small), enough=0)],
    )


def mixed(small: bool) -> Work:
    """200,000 texts as they are among real ones, of about 110 tokens; some of their passes at random."""
    draw = np.random.default_rng(1)
    lengths = np.clip(draw.lognormal(4.4, 0.8, 400 if small else 200_000), 4, WINDOW).astype(np.int64)
    ways = (
        plan(lengths, WINDOW, budget(small), fixed=False),
        plan_equal(lengths, WINDOW, budget(small), 100 if small else EQUAL_FROM),
    )
    padded, equal = ([way[i] for i in draw.permutation(len(way))[:8]] for way in map(list, ways))
    return Work("mixed lengths", lengths, padded, equal)


def rate(how: Replica, work: Work, passes: Sequence[ForwardPass], shape: Shape) -> tuple[float, float]:
    """Tokens and needed operations per second, of real tokens."""
    device, texts = str(how.device), tokens(work.lengths, shape.words)
    arithmetics = arithmetic(device)

    def once() -> None:
        for one in passes:
            padded = engine._pad(texts, one.rows, one.width, len(one.rows))
            engine._forward(how, arithmetics, padded, bare=one.equal)["unit_embedding"].cpu()

    took = seconds(device, once, rounds=3, warm=1)
    own = np.concatenate([work.lengths[one.rows] for one in passes])
    return own.sum() / took, operations(shape, own) / took


def three_ways(work: Work, eager: Replica, compiled: Replica, shape: Shape, peak: float) -> Iterator[Line]:
    first, needed = rate(eager, work, work.padded, shape)
    yield line(f"{work.name}: padded, eager", first, "tokens/s", ratio=needed / peak, to="the peak")
    for name, how in (("eager", eager), ("compiled", compiled)):
        found, needed = rate(how, work, work.equal, shape)
        yield line(
            f"{work.name}: equal length, {name}",
            found,
            "tokens/s",
            ratio=needed / peak,
            to="the peak",
            note=f"{found / first:.2f}x padded, eager",
        )


def compiling(what: str, how: Replica, works: Sequence[Work], shape: Shape) -> Iterator[Line]:
    """Seconds of the first passes, of lengths that are multiples of 8 and others, over those of the same again."""
    device, took = str(how.device), []
    lengths = np.repeat([work.equal[0].width + more for work in works for more in (0, 5)], 4)
    texts = tokens(lengths, shape.words)
    for _ in range(2):
        begin = time.perf_counter()
        for start in range(0, len(lengths), 4):
            padded = engine._pad(texts, np.arange(start, start + 4), int(lengths[start]), 4)
            engine._forward(how, arithmetic(device), padded, bare=True)
        wait(device)
        took.append(time.perf_counter() - begin)
    kept = not isinstance(how.bare, Compiled) or how.bare._compiled is not None
    yield line(f"compiling {what}", took[0] - took[1], "s")
    yield passed(f"compiling {what} does not fall back", kept, "" if kept else "it fell back to eager")


def agreement(eager: Replica, compiled: Replica, work: Work, shape: Shape) -> Iterator[Line]:
    """Whether the three ways give the same vectors, of the texts of one pass."""
    one, texts, how = work.equal[0], tokens(work.lengths, shape.words), arithmetic(str(eager.device))
    ways = [(eager, one.width + 8, False), (eager, one.width, True), (compiled, one.width, True)]
    rows = one.rows[:32]
    vectors = [
        engine._forward(way, how, engine._pad(texts, rows, width, len(rows)), bare=bare)["unit_embedding"]
        for way, width, bare in ways
    ]
    for name, found in zip(("equal length, eager", "equal length, compiled"), vectors[1:], strict=True):
        lowest = float((vectors[0] * found).sum(dim=1).min())
        yield passed(f"vectors of {name}, as those of padded, eager", lowest > 0.999, f"lowest cosine {lowest:.6f}")


def whole_engine(device: str, shape: Shape, how: Replica, small: bool) -> Iterator[Line]:
    """`engine.run`: planning, copies and all; on one device, and on all GPUs."""
    draw = np.random.default_rng(2)
    values = np.arange(16, 300)[draw.permutation(284)[: 4 if small else 24]]  # of some lengths as many as of 200,000
    texts = tokens(np.repeat(values, 16 if small else 400), shape.words)
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    first = run_engine([how], texts, device)
    yield line("the engine, equal length, compiled", first, "tokens/s")
    if device == "cuda" and len(devices) > 1:
        others = [transformer(shape, one) for one in devices[1:]]
        every = [how, *(replica(made, Compiled(made, 0)) for made in others)]
        every_rate = run_engine(every, texts, device)
        yield line(f"the engine on {len(devices)} GPUs", every_rate, "tokens/s", ratio=every_rate / first, to="one GPU")


def run_engine(replicas: list[Replica], texts: engine.Tokens, device: str) -> float:
    def keep(_rows: np.ndarray, features: engine.Features) -> None:
        features["unit_embedding"].cpu()

    limit = Budget(replicas[0].device)
    how = arithmetic(str(replicas[0].device))
    took = seconds(device, lambda: engine.run(replicas, texts, keep, how, limit), rounds=1, warm=1)
    return int(texts.lengths.sum()) / took


def small_network(device: str, small: bool, peak: float) -> Iterator[Line]:
    """The same for a network of all-MiniLM-L6-v2's shape, which waits for launches and copies sooner."""
    shape = BERT_TINY if small else MINILM
    made = transformer(shape, device)
    compiled = replica(made, Compiled(made, 0, "eager" if small else "inductor"))
    work = mixed(small)
    yield from three_ways(work._replace(name="MiniLM's shape, mixed"), replica(made, made), compiled, shape, peak)


def layers_or_whole(device: str, small: bool, work: Work, peak: float) -> Iterator[Line]:
    """What compiling the whole would cost and bring, of a network with a quarter of the layers, to fit the time."""
    shape, backend = (T5_TINY, "eager") if small else (T5_LARGE._replace(layers=6), "inductor")
    made = transformer(shape, device)
    ways = {
        "by layer": lambda: Compiled(made, 0, backend),
        "as a whole": lambda: torch.compile(made, dynamic=True, backend=backend),
    }
    for name, compiled in ways.items():
        torch._dynamo.reset()
        how = replica(made, compiled())
        yield from compiling(f"{shape.layers} layers, {name}", how, [work], shape)
        found, needed = rate(how, work, work.equal, shape)
        what = f"{shape.layers} layers, {work.name}, compiled {name}"
        yield line(what, found, "tokens/s", ratio=needed / peak, to="the peak")

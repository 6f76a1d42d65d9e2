"""The models that mine: trained on in-batch negatives alone until that gains nothing more."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from teach.prepared import Prepared
from teach.runs import Training
from teach.stack import Job, Shape, Stack, Weights, chosen, judge, train, vectors

SHAPES = {"3x32": Shape(3, 32), "6x64": Shape(6, 64), "6x128": Shape(6, 128)}
"""Encoders by name: layers and tokens of a text that are read."""
STEPS = (100, 200, 400, 800)
GAIN = 0.005
"""Converged: twice as many steps gain less on the queries that are judged."""
IN_BATCH = Training("with-positives", 0.05, 64, 0, 1e-4, 100)


@dataclass
class Converged:
    """The models of some domains, and how they came to be.

    Attributes:
        curves: nDCG@10 by domain and steps; each number of steps is a training of its own, from the embedded encoder.
        steps: what was taken.
        seconds: what each round took.
        weights: by domain.
    """

    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)


def converge(stack: Stack, names: list[str], seconds: float, found: Callable[[str, Weights], None]) -> Converged:
    """Doubles the steps until that gains little; then the shorter training is the domain's.

    Args:
        stack: the encoder.
        names: of domains.
        seconds: start no further round after as many.
        found: is told each domain's model at once.
    """
    begun, result = time.monotonic(), Converged()
    result.curves = {name: {0: _mean(judge(stack, stack.fresh(1), name))} for name in names}
    left, before = names, dict[str, Weights]()
    for steps in STEPS:
        weights = train(stack, stack.fresh(len(left)), [in_batch(stack.prepared, name, steps) for name in left])
        now = {name: chosen(weights, [i]) for i, name in enumerate(left)}
        late = steps == STEPS[-1] or time.monotonic() - begun > seconds
        for name in left:
            curve = result.curves[name]
            last, curve[steps] = curve[max(curve)], _mean(judge(stack, now[name], name))
            settled = name in before and curve[steps] < last + GAIN
            if settled or late:
                result.steps[name] = steps // 2 if settled else steps
                result.weights[name] = before[name] if settled else now[name]
                found(name, result.weights[name])
        result.seconds[steps] = round(time.monotonic() - begun, 1)
        print(f"converge {stack.shape} {steps} steps {result.seconds[steps]} s {result.curves}", flush=True)
        left = [name for name in left if name not in result.steps]
        before = now
        if not left:
            break
    return result


def in_batch(prepared: Prepared, name: str, steps: int) -> Job:
    none = np.zeros((1, len(prepared.domains[name].train), 0), dtype=np.int64)
    return Job(name, none, none[0].astype(np.float32), replace(IN_BATCH, steps=steps))


def both_sides(stack: Stack, weights: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 of the training queries and of the documents, by one model."""
    domain = stack.prepared.domains[name]
    documents = np.arange(domain.documents) + len(domain.relevant)
    asked, told = (vectors(stack, weights, name, numbers)[0].cpu().numpy() for numbers in (domain.train, documents))
    return asked, told


def _mean(ndcg: np.ndarray) -> float:
    return round(float(ndcg.mean()), 5)

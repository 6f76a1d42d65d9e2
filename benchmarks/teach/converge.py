"""The models that mine: trained on in-batch negatives alone until that gains nothing more."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from teach.prepared import Prepared
from teach.runs import Training
from teach.stack import Job, Machine, OutOfTime, Shape, Stack, Weights, chosen, judge, train, vectors

SHAPES = {"3x32": Shape(3, 32), "6x64": Shape(6, 64), "6x128": Shape(6, 128)}
"""Encoders by name: layers and tokens of a text that are read."""
DEEP = ("code", "medmcqa")
"""Domains in which those of six layers are trained."""
STEPS = (100, 200, 400, 800, 1600)
GAIN = 0.005
"""Converged: twice as many steps gain less."""
IN_BATCH = Training("with-positives", 0.05, 64, 0, 1e-4, 100)
LARGEST = "quora"
"""Its vectors by the embedded encoder are not kept, for want of room."""
FILE = 16_000_000
"""Bytes of vectors in a file."""


def own(stack: Stack, names: list[str], steps: int) -> Weights:
    """The models of some domains after as many steps on in-batch negatives, one after the other in the stack."""
    return train(stack, stack.fresh(len(names)), [in_batch(stack.prepared, name, steps) for name in names])


def in_batch(prepared: Prepared, name: str, steps: int) -> Job:
    none = np.zeros((1, len(prepared.domains[name].train), 0), dtype=np.int64)
    return Job(name, none, none[0].astype(np.float32), replace(IN_BATCH, steps=steps))


def converge(folder: Path, out: Path, machine: Machine) -> None:
    """Writes own.json (steps and curves, by encoder and domain), rewritten as it goes, and vectors-N.npz."""
    prepared, store = Prepared(folder), Vectors(out)
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict]] = {}
    try:
        for name in ("3x32", "6x64"):
            stack = Stack(prepared, SHAPES[name], machine)
            names = [domain for domain in prepared.domains if name == "3x32" or domain in DEEP]
            curves = {domain: {0: _mean(judge(stack, stack.fresh(1), domain))} for domain in names}
            found[name] = {"curves": curves, "steps": {}, "seconds": {}}
            _until_converged(stack, names, found[name], store)
            (out / "own.json").write_text(json.dumps(found, indent=1))
        stack = Stack(prepared, SHAPES["6x128"], machine)
        for domain in [name for name in prepared.domains if name != LARGEST]:
            _keep(store, "full", stack, stack.fresh(1), domain)
        store.flush()
    except OutOfTime:
        print("out of time", flush=True)
    finally:
        store.flush()
        (out / "own.json").write_text(json.dumps(found, indent=1))


def _until_converged(stack: Stack, names: list[str], found: dict[str, dict], store: "Vectors") -> None:
    """Doubles the steps; a domain whose model gained little by that is done, with the shorter one."""
    encoder = next(name for name, shape in SHAPES.items() if shape == stack.shape)
    left, before = names, dict[str, Weights]()
    for steps in STEPS if left else ():
        begun = time.monotonic()
        weights = own(stack, left, steps)
        now = {name: chosen(weights, [i]) for i, name in enumerate(left)}
        means = {name: _mean(judge(stack, now[name], name)) for name in left}
        seconds = round(time.monotonic() - begun, 1)
        print(encoder, steps, f"{seconds} s", means, flush=True)
        found["seconds"][steps] = [len(left), seconds]
        for name in left:
            gain = means[name] - found["curves"][name][max(found["curves"][name])]
            found["curves"][name][steps] = means[name]
            if name in before and gain < GAIN:
                found["steps"][name] = steps // 2
                _keep(store, encoder, stack, before[name], name)
            elif steps == STEPS[-1]:
                found["steps"][name] = steps
                _keep(store, encoder, stack, now[name], name)
        left = [name for name in left if name not in found["steps"]]
        before = now
        if not left:
            return


def _keep(store: "Vectors", encoder: str, stack: Stack, weights: Weights, name: str) -> None:
    domain = stack.prepared.domains[name]
    asked = vectors(stack, weights, name, domain.train)[0]
    documents = vectors(stack, weights, name, np.arange(domain.documents) + len(domain.relevant))[0]
    store.add(f"{encoder} {name} queries", asked.cpu().numpy())
    store.add(f"{encoder} {name} documents", documents.cpu().numpy())


def _mean(ndcg: np.ndarray) -> float:
    return round(float(ndcg.mean()), 5)


class Vectors:
    """Unit vectors in files of some size, as int8 with a scale a row."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.held = folder, 0, {}

    def add(self, name: str, rows: np.ndarray) -> None:
        scale = np.abs(rows).max(axis=1, keepdims=True) / 127
        new = {name: np.round(rows / scale).astype(np.int8), f"scale {name}": scale.astype(np.float16)}
        if sum(value.nbytes for value in (*self.held.values(), *new.values())) > FILE:
            self.flush()
        self.held |= new

    def flush(self) -> None:
        if self.held:
            np.savez(self.folder / f"vectors-{self.files}.npz", **self.held)
            self.files, self.held = self.files + 1, {}

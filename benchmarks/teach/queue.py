"""Goes through the plan until it is done or time is up, and writes a line for each run."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from teach import plans
from teach.converge import SHAPES, own
from teach.prepared import Prepared
from teach.runs import Run, list_of, pack, read
from teach.stack import Job, Machine, OutOfTime, Stack, Weights, chosen, joined, judge, train

UNHURRIED = 0.9
"""Of the time that is left, the share that a stack may be expected to take."""


class Queue:
    """Stacks on one machine: encoders and converged models are made when they are first asked for, and kept."""

    def __init__(self, folder: Path, path: Path, machine: Machine) -> None:
        self.prepared, self.path, self.machine = Prepared(folder), path, machine
        self.steps = {name: found["steps"] for name, found in json.loads((folder / "own.json").read_text()).items()}
        self.about = json.loads((folder / "lists.json").read_text())
        self.lists = {name: np.load(folder / f"lists-{name}.npz") for name in self.prepared.domains}
        self.stacks: dict[str, Stack] = {}
        self.converged: dict[tuple[str, str], Weights] = {}
        self.pace: dict[str, float] = {}

    def stack(self, encoder: str) -> Stack:
        if encoder not in self.stacks:
            self.stacks[encoder] = Stack(self.prepared, SHAPES[encoder], self.machine)
        return self.stacks[encoder]

    def own(self, encoder: str, domain: str) -> Weights:
        """The converged model of a domain; those with as many steps are made together."""
        if (encoder, domain) not in self.converged:
            steps = self.steps[encoder][domain]
            names = [name for name, count in self.steps[encoder].items() if count == steps]
            weights = own(self.stack(encoder), names, steps)
            self.converged |= {(encoder, name): chosen(weights, [i]) for i, name in enumerate(names)}
        return self.converged[encoder, domain]

    def start(self, run: Run) -> Weights:
        return self.own(run.encoder, run.domain) if run.training.start == "own" else self.stack(run.encoder).fresh(1)

    def job(self, run: Run) -> Job:
        lists, key = self.lists[run.domain], list_of(run)
        hard = lists[key].astype(np.int64)
        weight = lists[f"weight {key}"] if f"weight {key}" in lists else np.ones(hard.shape[1:])
        return Job(run.domain, hard, weight.astype(np.float32), run.training)

    def carry_out(self, runs: list[Run]) -> None:
        """One stack, all of one domain. What its kind took before says whether there is time for it."""
        kind = f"{runs[0].encoder} {runs[0].training.steps} {runs[0].training.batch}"
        left = self.machine.deadline - time.monotonic()
        if self.pace.get(kind, 0) * len(runs) > UNHURRIED * left:
            raise OutOfTime
        stack = self.stack(runs[0].encoder)
        start = joined([self.start(run) for run in runs])
        begun = time.monotonic()
        found = judge(stack, train(stack, start, [self.job(run) for run in runs]), runs[0].domain)
        self.pace[kind] = (time.monotonic() - begun) / len(runs)
        with self.path.open("a") as file:
            for run, ndcg in zip(runs, found, strict=True):
                file.write(json.dumps(self.line(run, ndcg)) + "\n")
        seconds = round(time.monotonic() - begun, 1)
        print(f"{seconds} s, {left:.0f} s were left: {len(runs)} of {kind}, {runs[0].domain}", flush=True)

    def line(self, run: Run, ndcg: np.ndarray) -> dict[str, Any]:
        about = self.about[f"{run.domain} {list_of(run)}"]
        return {**asdict(run), "ndcg": round(float(ndcg.mean()), 5), **about, "queries": pack(ndcg)}

    def done(self) -> dict[str, dict[str, Any]]:
        return read(self.path)


def run_all(folder: Path, path: Path, machine: Machine) -> None:
    queue = Queue(folder, path, machine)
    for part in plans.plan(lambda: list(queue.done().values())):
        for stack in part.stacks:
            done = queue.done()
            left = [run for run in stack if run.key() not in done]
            try:
                if left:
                    queue.carry_out(left)
            except OutOfTime:
                print(f"no time for {len(left)} runs of {part.name} in {left[0].domain}", flush=True)

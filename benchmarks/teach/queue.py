"""The whole study on one machine: converged models, the processes that mine, and the plan until it or time is over."""

import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from teach import lists, plans
from teach.converge import SHAPES, Converged, both_sides, converge
from teach.prepared import Prepared
from teach.runs import Run, list_of, pack
from teach.stack import Job, Machine, OutOfTime, Stack, Weights, joined, judge, train

UNHURRIED = 0.9
"""Of the time that is left, the share that a stack may be expected to take."""


class Study:
    """One GPU's share of it: what was found so far is in ``out``, at any moment.

    Files: runs.jsonl (a line a run), own.json (the models that mine), errors.log, and a mining-DOMAIN.log in ``work``.
    """

    def __init__(self, folder: Path, out: Path, work: Path, machine: Machine) -> None:
        self.prepared, self.out, self.work, self.machine = Prepared(folder), out, work, machine
        self.stacks: dict[str, Stack] = {}
        self.converged: dict[str, Converged] = {}
        self.lines: dict[str, dict[str, Any]] = {}
        self.tried: set[str] = set()
        self.pace: dict[str, float] = {}

    def stack(self, encoder: str) -> Stack:
        if encoder not in self.stacks:
            self.stacks[encoder] = Stack(self.prepared, SHAPES[encoder], self.machine)
        return self.stacks[encoder]

    def models_that_mine(self) -> None:
        """The embedded encoder first, then what has been trained; their vectors go to the processes that wait."""
        whole = self.stack("6x128")
        for name in self.prepared.domains:
            lists.give(self.work, "full", name, both_sides(whole, whole.fresh(1), name))
        for encoder, names, seconds in (("3x32", plans.ALL, 30.0), ("6x64", plans.DEEP_IN, 5.0)):
            stack = self.stack(encoder)

            def found(name: str, weights: Weights, encoder: str = encoder, stack: Stack = stack) -> None:
                lists.give(self.work, encoder, name, both_sides(stack, weights, name))

            self.converged[encoder] = converge(stack, list(names), seconds, found)
            told = {name: vars(own) | {"weights": None} for name, own in self.converged.items()}
            (self.out / "own.json").write_text(json.dumps(told, indent=1))

    def waiting(self) -> list[list[Run]]:
        """Stacks of the plan, most important first, without the runs that were tried."""
        lines = list(self.lines.values())
        settled = all(run.key() in self.tried for stack in plans.settings().stacks for run in stack)
        stacks = [stack for part in plans.plan(lines if settled else []) for stack in part.stacks]
        left = [[run for run in stack if run.key() not in self.tried] for stack in stacks]
        return [stack for stack in left if stack]

    def ready(self, stack: list[Run]) -> list[tuple[Run, lists.List]] | None:
        """Its runs with their lists; None while one is missing. Those whose list could not be made are tried."""
        found = []
        for run in stack:
            try:
                made = lists.read(self.work, run.domain, list_of(run))
            except RuntimeError as error:
                self.failed(f"no list: {error}")
                self.tried.add(run.key())
                continue
            if made is None:
                return None
            found.append((run, made))
        return found

    def start(self, run: Run) -> Weights:
        own = run.training.start == "own"
        return self.converged[run.encoder].weights[run.domain] if own else self.stack(run.encoder).fresh(1)

    def carry_out(self, chosen: list[tuple[Run, lists.List]]) -> None:
        """One stack. What its kind took before says whether there is time for it."""
        runs = [run for run, _ in chosen]
        encoder, how = runs[0].encoder, runs[0].training
        kind = f"{encoder}, {how.steps} steps of {how.batch}, {runs[0].count} negative(s)"
        begun = time.monotonic()
        left = self.machine.deadline - begun
        if self.pace.get(kind, 0) * len(runs) > UNHURRIED * left:
            raise OutOfTime
        jobs = [Job(run.domain, made.hard, made.weight.astype("f4"), run.training) for run, made in chosen]
        stack = self.stack(encoder)
        weights = train(stack, joined([self.start(run) for run in runs]), jobs)
        trained = time.monotonic() - begun
        found = judge(stack, weights, runs[0].domain)
        seconds = time.monotonic() - begun
        self.pace[kind] = seconds / len(runs)
        with (self.out / "runs.jsonl").open("a") as file:
            for (run, made), ndcg in zip(chosen, found, strict=True):
                line = {**asdict(run), "ndcg": round(float(ndcg.mean()), 5), **made.about, "queries": pack(ndcg)}
                self.lines[run.key()] = line
                file.write(json.dumps(line) + "\n")
        print(
            f"{left:.0f} s left; {seconds:.1f} s ({trained:.1f}) for {len(runs)} of {kind}, {runs[0].domain}",
            flush=True,
        )

    def step(self) -> bool:
        """Carries out the first stack that can be; False where none is left."""
        waiting = self.waiting()
        for stack in waiting:
            chosen = self.ready(stack)
            if chosen is None:
                continue
            self.tried |= {run.key() for run in stack}
            try:
                if chosen:
                    self.carry_out(chosen)
            except OutOfTime:
                print(f"no time for {len(chosen)} runs: {chosen[0][0]}", flush=True)
            except Exception:
                self.failed(f"{len(chosen)} runs, {chosen[0][0]}\n{traceback.format_exc()}")
            return True
        time.sleep(lists.PATIENCE)
        return bool(waiting)

    def failed(self, what: str) -> None:
        with (self.out / "errors.log").open("a") as file:
            file.write(what.rstrip() + "\n")


def run_all(folder: Path, out: Path, work: Path, machine: Machine, worker: list[str]) -> None:
    """Go through the plan. ``worker`` is the command that mines, to which a domain's name is added."""
    for path in (out, work):
        path.mkdir(parents=True, exist_ok=True)
    workers = []
    for name in plans.ALL:
        log = (work / f"mining-{name}.log").open("w")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, *worker, name]
        workers.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
    try:
        study = Study(folder, out, work, machine)
        study.models_that_mine()
        while time.monotonic() < machine.deadline and study.step():
            pass
    except OutOfTime:
        print("out of time before the first run", flush=True)
    finally:
        for process in workers:
            process.kill()
        logs = [path.read_text(errors="replace") for path in sorted(work.glob("mining-*.log"))]
        (out / "mining.log").write_text("\n".join(logs))

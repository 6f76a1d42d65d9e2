"""Kills a command of ours in many ways, finishes it undisturbed, and compares with a run that nothing disturbed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Literal, NamedTuple, Protocol

from medi_build.files import file_digest

ROOT = Path(__file__).resolve().parent.parent.parent
HOOK = Path(__file__).resolve().parent / "hook"
PATIENCE_SECONDS = 600
PAUSE_OF_READER_SECONDS = 0.02

Sight = Literal["whole", "refused"]


class Victim(NamedTuple):
    """A command that may be killed.

    Attributes:
        name: for tables.
        prepare: writes what all runs share into a folder, once.
        begin: writes what is there before a run into the folder of the run.
        command: (shared folder, folder of the run) -> arguments of ``medi``.
        same: folder of the run -> what has to be as in an undisturbed run, by name.
        read: what a reader does with the folder of the run at any moment; returns whether it got a whole result or an
            error that says there is none, and raises AssertionError for anything between.
        leaves: globs below the folder of the run of temporary names that a killed run may leave and the next one clears
            away later, with the reason in the victim's comment.
    """

    name: str
    prepare: Callable[[Path], None]
    begin: Callable[[Path, Path], None]
    command: Callable[[Path, Path], Sequence[str]]
    same: Callable[[Path], Mapping[str, str]]
    read: Callable[[Path], Sight]
    leaves: tuple[str, ...] = ()


class Kill(NamedTuple):
    """When a run dies: before its step of this number, or, where that is 0, at a moment.

    Attributes:
        step: from 1.
        moment: part of the time between the first step and the end of an undisturbed run.
    """

    step: int = 0
    moment: float = 0.0


@dataclass
class Tally:
    """What came of the trials of one victim."""

    victim: str
    steps: int = 0
    at_steps: int = 0
    at_moments: int = 0
    ended_before: int = 0
    reads: dict[str, int] = field(default_factory=lambda: {"whole": 0, "refused": 0})
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """All kills."""
        return self.at_steps + self.at_moments


class Undisturbed(NamedTuple):
    """A run that nothing disturbed: what it made, its steps (event, path), seconds between the first and the end."""

    same: Mapping[str, str]
    steps: list[tuple[str, str]]
    seconds: float


class Running(Protocol):
    """A command that runs, the leader of its process group."""

    pid: int

    def lives(self) -> bool:
        """Whether it has not ended yet."""

    def wait(self) -> int:
        """Its exit code once it has ended, negative for a signal."""


Runner = Callable[[list[str], Mapping[str, str], Path], Running]
"""(arguments of medi, environment to add, file for what it prints) -> the command, started."""


class FreshProcess:
    """``python -m medi_build`` in a Python of its own."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], told: Path) -> None:
        command = [sys.executable, "-m", "medi_build", *arguments]
        with told.open("w") as file:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
            )
        self.pid = self._process.pid

    def lives(self) -> bool:
        """See `Running`."""
        return self._process.poll() is None

    def wait(self) -> int:
        """See `Running`."""
        return self._process.wait(PATIENCE_SECONDS)


class Server:
    """Forks a process that has everything imported already; one command at a time. See `tools.survival.server`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tools.survival.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.pid = 0

    def __call__(self, arguments: list[str], environment: Mapping[str, str], told: Path) -> Running:
        """See `Runner`."""
        order = {"arguments": arguments, "environment": dict(environment), "told": str(told)}
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        self.pid = int(self._server.stdout.readline())
        self._code = Future[int]()
        Thread(target=lambda: self._code.set_result(int(self._server.stdout.readline()))).start()  # type: ignore[union-attr]
        return self

    def lives(self) -> bool:
        """See `Running`."""
        return not self._code.done()

    def wait(self) -> int:
        """See `Running`."""
        return self._code.result(PATIENCE_SECONDS)

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


class Stage:
    """Where the runs of one victim take place."""

    def __init__(self, victim: Victim, folder: Path, runner: Runner = FreshProcess) -> None:
        self.victim, self.folder, self.shared, self._runner = victim, folder, folder / "shared", runner
        self.shared.mkdir(parents=True)
        victim.prepare(self.shared)

    def undisturbed(self) -> Undisturbed:
        """Run the command once with its steps counted and nothing else."""
        run = self._begin("undisturbed")
        assert self._run(run, Kill()) == 0, self._told(run)
        end = time.monotonic()
        lines = [line.split("\t") for line in (run.parent / "log").read_text().splitlines()]
        first = float(lines[0][1])
        steps = [(event, what) for _, _, event, what in lines]
        return Undisturbed(dict(self.victim.same(run)), steps, end - first)

    def trial(self, name: str, kills: Iterable[Kill], whole: Undisturbed, tally: Tally) -> None:
        """Run and kill, as often as there are kills, then run to the end; what is wrong is added to the tally."""
        run, kills = self._begin(name), list(kills)
        faults: list[str] = []
        with _reader(self.victim, run, tally, faults):
            for kill in kills:
                code = self._run(run, kill, whole.seconds)
                if code == 0:
                    tally.ended_before += 1
                elif code != -signal.SIGKILL:
                    faults.append(f"ended with {code}: {self._told(run)}")
                elif kill.step:
                    tally.at_steps += 1
                else:
                    tally.at_moments += 1
            if code := self._run(run, None):
                faults.append(f"cannot be finished, {code}: {self._told(run)}")
        if not faults:
            faults += self._compare(run, whole)
        tally.faults += [f"{name}, killed at {kills}: {fault}" for fault in faults]
        if not faults:
            shutil.rmtree(run.parent)

    def _compare(self, run: Path, whole: Undisturbed) -> list[str]:
        try:
            if self.victim.read(run) != "whole":
                return ["a reader is refused once it has ended"]
        except AssertionError as error:
            return [f"once it has ended: {error}"]
        same = self.victim.same(run)
        names = {name for name in {*same, *whole.same} if same.get(name) != whole.same.get(name)}
        left = [path.relative_to(run).as_posix() for path in run.rglob(".*.tmp")]
        left = [name for name in left if not any(Path(name).match(pattern) for pattern in self.victim.leaves)]
        return [f"{name} differs" for name in sorted(names)] + [f"{name} was left" for name in left]

    def _begin(self, name: str) -> Path:
        run = self.folder / name / "run"
        run.mkdir(parents=True)
        self.victim.begin(self.shared, run)
        return run

    def _run(self, run: Path, kill: Kill | None, seconds: float = 0.0) -> int:
        """One run of the command; ``kill`` None: without counting steps. Returns its exit code."""
        beside = run.parent
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MEDI_CACHE": str(run / "cache")}
        if kill is not None:
            for name in ("steps", "log"):
                (beside / name).unlink(missing_ok=True)
            environment |= {"PYTHONPATH": f"{HOOK}{os.pathsep}{ROOT}", "SURVIVAL_BELOW": f"{run}{os.sep}"}
            environment |= {"SURVIVAL_STEPS": str(beside / "steps"), "SURVIVAL_LOG": str(beside / "log")}
            environment |= {"SURVIVAL_KILL": str(kill.step)}
        process = self._runner(list(self.victim.command(self.shared, run)), environment, beside / "told")
        try:
            if kill is not None and kill.moment:
                _kill_at(process, beside / "steps", kill.moment * seconds)
            return process.wait()
        finally:
            _end_group(process.pid)

    @staticmethod
    def _told(run: Path) -> str:
        return (run.parent / "told").read_text()[-2000:]


def _kill_at(process: Running, steps: Path, seconds: float) -> None:
    """Kill a process and its children some time after its first step."""
    while process.lives() and not (steps.exists() and steps.stat().st_size):
        time.sleep(0.005)
    end = time.monotonic() + seconds
    while process.lives() and time.monotonic() < end:
        time.sleep(0.005)
    if process.lives():
        _end_group(process.pid)


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _reader:  # noqa: N801 - used as `with _reader(...)`
    """A reader beside a run, who looks again and again."""

    def __init__(self, victim: Victim, run: Path, tally: Tally, faults: list[str]) -> None:
        self._victim, self._run, self._tally, self._faults = victim, run, tally, faults
        self._stop = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(PAUSE_OF_READER_SECONDS):
            try:
                self._tally.reads[self._victim.read(self._run)] += 1
            except Exception as error:  # a reader has to get one of two answers
                self._faults.append(f"a reader saw {type(error).__name__}: {error}")
                return


def plan(steps: int, at_steps: int, at_moments: int, seed: int) -> list[list[Kill]]:
    """Trials: kills at steps, spread evenly over all there are, and at random moments; every third moment a chain.

    A chain kills its run again while it goes on from the first kill: three kills of one trial.
    """
    draw = random.Random(seed)
    count = min(at_steps, steps)
    numbers = sorted({1 + round(index * (steps - 1) / max(1, count - 1)) for index in range(count)})
    trials = [[Kill(step=number)] for number in numbers]
    lengths = cycle((1, 1, 3))
    while at_moments > 0:
        length = min(next(lengths), at_moments)
        trials.append([Kill(moment=draw.uniform(0.01, 1.0)) for _ in range(length)])
        at_moments -= length
    return trials


def survive(
    victim: Victim, folder: Path, at_steps: int, at_moments: int, *, seed: int = 0, runner: Runner = FreshProcess
) -> Tally:
    """Run all trials of one victim.

    Args:
        victim: what is killed.
        folder: made; what went wrong stays in it.
        at_steps: kills at steps; no more than there are.
        at_moments: kills at random moments.
        seed: of the moments.
        runner: starts the command.
    """
    start = time.monotonic()
    stage = Stage(victim, folder, runner)
    whole = stage.undisturbed()
    tally = Tally(victim.name, len(whole.steps))
    for number, kills in enumerate(plan(len(whole.steps), at_steps, at_moments, seed)):
        stage.trial(f"trial-{number:03d}", kills, whole, tally)
    tally.seconds = time.monotonic() - start
    return tally


def digests(folder: Path, *, but: Iterable[str] = ()) -> dict[str, str]:
    """Digest of every file below a folder by its relative path, but for those that a glob of ``but`` names."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(name.match(pattern) for pattern in but):
            found[name.as_posix()] = file_digest(path)
    return found

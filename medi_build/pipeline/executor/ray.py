"""Builds datasets on the nodes of a Ray cluster: each is a task that runs what a local process would.

A task that dies with its node is begun anew by the driver, in a folder of its own, not by Ray: half of what an attempt
has handed over never meets the other half of another. Results get their names in the output folder once all of an
attempt is there and its digests are right.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medi_build.dataset.receipt import Receipt
from medi_build.errors import WorkerError
from medi_build.files import write_bytes
from medi_build.pipeline.executor.attempt import Attempt
from medi_build.pipeline.executor.away import Begun, Block, Build, Done, Errand, build_away
from medi_build.pipeline.executor.base import Finished
from medi_build.pipeline.executor.bring import Blocks, blocks_of
from medi_build.pipeline.executor.cluster import Cluster, cancel, reachable
from medi_build.pipeline.executor.ray_errors import cause_of, meant, told
from medi_build.pipeline.executor.ray_share import gpu_share, ray_share
from medi_build.pipeline.unit import UnitJob
from medi_build.progress import Silent
from medi_build.share import Share

ATTEMPTS = 4
"""A dataset whose worker died so often is given up."""
AHEAD = 2
"""Tasks given out for each that can run, so that no worker waits for the next one."""
LOOK_UP_SECONDS = 0.05
HEAD_SECONDS = 20.0
"""A head that nobody can connect to for so long is dead."""


class RayExecutor:
    """Builds datasets on a cluster; it is connected by the caller.

    Attributes:
        jobs: datasets at a time: as many as there are CPUs, or GPUs where those are used.
        share: tasks of the cluster's, or workers on its GPUs beside the task that asks.
    """

    def __init__(
        self, cluster: Cluster, gpus: bool, cache: Path | None, urls: Callable[[Path], str], progress: Silent
    ) -> None:
        """Only remembers.

        Args:
            cluster: connected.
            gpus: whether each dataset gets a GPU.
            cache: downloads, vectors and indexes on every node; None for each node's default.
            urls: where else a file is to be had, or empty.
            progress: told who builds what, and of workers that died.
        """
        self.jobs = max(1, cluster.gpus if gpus else cluster.cpus)
        self.share: Share | None = gpu_share if gpus else ray_share
        self._cluster, self._gpus, self._cache, self._urls, self._progress = cluster, gpus, cache, urls, progress

    def map(self, function: Build, items: Iterable[UnitJob], count: int) -> Generator[Finished[Receipt]]:
        """As `medi_build.pipeline.executor.base.Executor.map`; however it ends, no task goes on."""
        del count
        reader = _Reader(items)
        running: dict[Any, Attempt] = {}
        again: deque[Attempt] = deque()
        watch = _Head(self._cluster.address)
        task = self._task()
        try:
            while running or again or not reader.ended():
                while watch.seen and len(running) < AHEAD * self.jobs and (attempt := _next(again, reader)):
                    running[task.remote(self._errand(attempt), function, self._cluster.here)] = attempt
                for one in self._ready(running):
                    attempt = running[one]
                    try:
                        told = _next_of(one)
                    except _DiedError as died:
                        del running[one]
                        again.append(self._anew(attempt, died))
                        watch.look()
                        continue
                    if isinstance(told, Done):
                        del running[one]
                        attempt.keep(told.receipt)
                        yield Finished(attempt.place, told.receipt, told.seconds)
                    else:
                        attempt.take(told, self._progress)
                watch.check()
        except SystemError as error:  # a signal's own exception, raised while Ray was asked
            raise error.__cause__ or error from None
        finally:
            reader.abandoned = True
            if watch.seen:
                cancel(running)

    def _task(self) -> Any:
        """What is asked for each attempt; made once, as Ray tells the head of each one that is made."""
        import ray

        return _streaming(ray.remote(_task), num_cpus=1, num_gpus=int(self._gpus))

    def _errand(self, attempt: Attempt) -> Errand:
        device = "cuda:0" if self._gpus else "cpu"
        return attempt.errand(self._cache, self._token(attempt.job.work), self._urls, device)

    def _anew(self, attempt: Attempt, died: "_DiedError") -> Attempt:
        name = attempt.job.unit.card.name
        attempt.discard()
        if attempt.number == ATTEMPTS:
            raise WorkerError(
                f"{name}: the worker that built it died {ATTEMPTS} times, the last time of this: {died}. If memory is "
                "short there, start nodes with fewer CPUs; then run the same command again: what is finished is kept"
            ) from died
        self._progress.say(f"{name}: its worker died ({died}); built again")
        return Attempt(attempt.place, attempt.job, attempt.number + 1)

    def _token(self, work: Path) -> tuple[Path, str]:
        """A file that only workers with the driver's disk find."""
        path = (work / "shared").absolute()
        if not path.is_file():
            write_bytes(path, secrets.token_hex(16).encode(), path.parent)
        return path, path.read_text(encoding="utf-8")

    def _ready(self, running: dict[Any, Attempt]) -> Sequence[Any]:
        """Tasks that have something to tell; waits a moment for one."""
        import ray

        # Ray is not let wait: its waiting turns what a signal's handler raises into an error of its own.
        ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0.0) if running else ([], [])
        if not ready:
            time.sleep(LOOK_UP_SECONDS)
        return list(ready)


def _streaming(task: Any, **options: Any) -> Any:
    """A task that hands over what it yields; it waits while several blocks do, which else fill the object store."""
    options |= {"num_returns": "streaming", "max_retries": 0}
    try:
        return task.options(**options, _generator_backpressure_num_objects=4)
    except ValueError:  # Ray keeps this one private; without it what waits is spilled to disk
        return task.options(**options)


def _next(again: deque[Attempt], reader: "_Reader") -> Attempt | None:
    """What to begin now, if anything is there."""
    if again:
        return again.popleft()
    if (taken := reader.take()) is None:
        return None
    return Attempt(*taken, number=1)


class _DiedError(Exception):
    """What ran an attempt is gone, through no fault of the dataset's."""


def _task(errand: Errand, build: Build, driver: str) -> Iterator[Begun | Block | Done]:
    """What Ray runs on a worker."""
    import torch

    torch.set_num_threads(1)
    yield from build_away(errand, build, _served_by(driver))


def _served_by(driver: str) -> Blocks:
    """Files of the driver's, read by a task on its node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(driver, soft=False)
    read = _streaming(ray.remote(blocks_of), num_cpus=0, scheduling_strategy=there)

    def blocks(path: str) -> Iterator[bytes]:
        for one in read.remote(path):
            yield ray.get(one)

    return blocks


def _next_of(task: Any) -> Begun | Block | Done:
    """What a task tells next.

    Raises:
        MediError: the dataset's own.
        WorkerError: no room is left for what it made.
        _DiedError: its worker is gone.
    """
    import ray
    from ray.exceptions import RayError

    try:
        answer: Begun | Block | Done = ray.get(next(task))
    except StopIteration:
        raise _DiedError("it ended early") from None
    except RayError as error:
        if (ours := meant(error)) is not None:
            raise ours from error
        cause = cause_of(error)
        if isinstance(cause, RayError):
            raise _DiedError(told(cause)) from error
        raise
    return answer


class _Head:
    """Watches the cluster's head: what is asked of Ray without it waits for a minute, and then ends this process.

    Attributes:
        seen: whether it was there when somebody last looked.
    """

    def __init__(self, address: str) -> None:
        self._address, self._at, self._looked, self.seen = address, time.monotonic(), time.monotonic(), True

    def look(self) -> None:
        """See whether it is there."""
        self._looked = time.monotonic()
        self.seen = reachable(self._address)
        if self.seen:
            self._at = self._looked

    def check(self) -> None:
        """Look now and then; raise `WorkerError` once it has not been there for `HEAD_SECONDS`."""
        if time.monotonic() - self._looked < HEAD_SECONDS / 10:
            return
        self.look()
        if not self.seen and self._looked - self._at > HEAD_SECONDS:
            raise WorkerError(
                f"the head of the Ray cluster at {self._address} is gone; start the cluster again and run the same "
                "command: finished datasets are kept"
            )


class _Reader:
    """Takes items as they come, in a thread of its own."""

    def __init__(self, items: Iterable[UnitJob]) -> None:
        self._waiting: deque[tuple[int, UnitJob]] = deque()
        self._end: bool | BaseException = False
        self.abandoned = False
        threading.Thread(target=self._read, args=(items,), daemon=True).start()

    def _read(self, items: Iterable[UnitJob]) -> None:
        try:
            for taken in enumerate(items):
                if self.abandoned:
                    return
                self._waiting.append(taken)
            self._end = True
        except BaseException as error:  # raised anew where the items are waited for
            self._end = error

    def take(self) -> tuple[int, UnitJob] | None:
        """The next item and its place, if one is there."""
        return self._waiting.popleft() if self._waiting else None

    def ended(self) -> bool:
        """Whether all came and were taken; raises what the items raised."""
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end and not self._waiting

"""Runs items of work on this machine: in this process and, if there are to be more, in others beside it.

This process works too. The others need a while to start, so a small job is done before they could have helped, and more
of them never make it slower.
"""

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import Generic, TypeVar

from medi_build.errors import WorkerError
from medi_build.pipeline.executor.base import Finished
from medi_build.share import Share
from medi_build.waiting import next_of

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2
"""Items that each other process has been given and not given back, so that it never waits for the next one."""


class LocalExecutor:
    """Maps a function over items, ``jobs`` at a time.

    Attributes:
        jobs: processes, this one among them.
        gpus: GPUs by index, dealt out to the processes in turn; this process has the first. Without any they all see
            the same.
    """

    def __init__(self, jobs: int = 1, gpus: Sequence[int] = ()) -> None:
        self.jobs, self.gpus = jobs, gpus
        self.share: Share | None = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], count: int) -> Generator[Finished[Result]]:
        """Yield what comes of each item as it is done, in whatever order that is.

        Function, items and results have to be picklable if there are several jobs. However this ends (an error, a
        closed iterator, SIGKILL of this process), no other process outlives it.

        Args:
            function: what to do.
            items: taken as they come, in another thread if there are several jobs; one that is waited for keeps nobody
                from working on those that came.
            count: how many they are at most.

        Raises:
            WorkerError: another process was killed from outside.
        """
        others = min(self.jobs, count) - 1
        if others < 1:
            for place, item in enumerate(items):
                yield _timed(function, place, item)
            return
        with _pool(others, self.jobs, self.gpus) as pool:
            hand = _Hand(pool, function, AHEAD * others)
            threading.Thread(target=hand.read, args=(items,), daemon=True).start()
            try:
                yield from hand.results()
            except BrokenProcessPool as error:
                raise WorkerError(
                    "a process that built datasets died: killed from outside, or out of memory. Run the same command "
                    f"again, with a smaller --jobs than {self.jobs} if memory is short"
                ) from error
            finally:
                hand.abandoned = True


class _Hand(Generic[Item, Result]):
    """Hands items to the other processes as they come; those that have to wait are for this one to take."""

    def __init__(self, pool: ProcessPoolExecutor, function: Callable[[Item], Result], most: int) -> None:
        self._pool, self._function, self._most = pool, function, most
        self._waiting: deque[tuple[int, Item]] = deque()
        self._given = 0
        self._counting = threading.Lock()
        self._came = 0
        self._end: bool | BaseException = False
        self.abandoned = False
        self._events: queue.SimpleQueue[Future[Finished[Result]] | None] = queue.SimpleQueue()

    def read(self, items: Iterable[Item]) -> None:
        """Take the items; runs in a thread of its own, which starts the other processes too.

        They inherit that Ctrl-C is not for them, though a terminal sends it to all; where there is no such mask
        (Windows) they see to it themselves.
        """
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for place, item in enumerate(items):
                if self.abandoned:
                    return
                self._waiting.append((place, item))
                self._came += 1
                self._give()
                self._events.put(None)
            self._end = True
        except BaseException as error:  # raised anew where the results are waited for
            self._end = error
        self._events.put(None)

    def results(self) -> Iterator[Finished[Result]]:
        """What comes of the items, those included that this process takes meanwhile."""
        finished = 0
        while not (self._end is True and finished == self._came):
            if isinstance(self._end, BaseException):
                raise self._end
            taken = _taken(self._waiting) if self._events.empty() else None
            if taken is not None:
                yield _timed(self._function, *taken)
                finished += 1
            elif (event := next_of(self._events)) is not None:
                yield event.result()
                finished += 1

    def _give(self) -> None:
        """Hand the next item to the other processes, if they have room for it."""
        with self._counting:
            taken = _taken(self._waiting) if self._given < self._most else None
            self._given += taken is not None
        if taken is None:
            return
        place, item = taken
        try:
            future = self._pool.submit(_timed, self._function, place, item)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        future.add_done_callback(self._back)

    def _back(self, future: "Future[Finished[Result]]") -> None:
        """An item is done: make room for another."""
        with self._counting:
            self._given -= 1
        if not future.cancelled():
            self._events.put(future)
            self._give()


def _taken(waiting: deque[tuple[int, Item]]) -> tuple[int, Item] | None:
    """The next item and its place, None if there is none; several threads may ask."""
    with suppress(IndexError):
        return waiting.popleft()
    return None


def _timed(function: Callable[[Item], Result], place: int, item: Item) -> Finished[Result]:
    begin = time.perf_counter()
    result = function(item)
    return Finished(place, result, time.perf_counter() - begin)


@contextmanager
def _pool(others: int, jobs: int, gpus: Sequence[int]) -> Iterator[ProcessPoolExecutor]:
    """The other processes, which share the processor's cores and the GPUs with this one."""
    import torch

    # Not fork: torch's threads may already be running here, and a forked child would inherit their locks.
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    dealt: SimpleQueue[int] = context.SimpleQueue()
    for number in range(1, others + 1):
        dealt.put(gpus[number % len(gpus)] if gpus else -1)
    threads = torch.get_num_threads()
    share = max(1, threads // jobs)
    pool = ProcessPoolExecutor(others, mp_context=context, initializer=_begin, initargs=(watched, share, dealt))
    try:
        torch.set_num_threads(share)
        yield pool
    finally:
        torch.set_num_threads(threads)
        held.close()
        pool.shutdown(wait=True, cancel_futures=True)
        watched.close()


def _begin(watched: Connection, threads: int, dealt: "SimpleQueue[int]") -> None:
    """Make one of the other processes ready: its end, its GPU if there are several, its share of the cores."""
    _end_with(watched)
    if not hasattr(signal, "pthread_sigmask"):  # then no mask was inherited that keeps Ctrl-C away
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    gpu = dealt.get()
    if gpu >= 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu] if len(visible) > 1 else str(gpu)
    import torch

    torch.set_num_threads(threads)


def _end_with(watched: Connection) -> None:
    """Leave as soon as nobody holds the other end of the pipe: the parent closed it, or is dead."""

    def wait() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

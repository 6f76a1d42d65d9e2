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
from typing import Any, Generic, NamedTuple, TypeVar

from medi_build.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2
"""Items that each other process has been given and not given back, so that it never waits for the next one."""


class Finished(NamedTuple, Generic[Result]):
    """One item that is done: its place among the items, what came of it, and the seconds that it took."""

    place: int
    result: Result
    seconds: float


class LocalExecutor:
    """Maps a function over items, ``jobs`` at a time.

    Attributes:
        jobs: processes, this one among them.
        gpus: GPUs by index, dealt out to the processes in turn; this process has the first. Without any they all see
            the same.
    """

    def __init__(self, jobs: int = 1, gpus: Sequence[int] = ()) -> None:
        self.jobs, self.gpus = jobs, gpus

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Finished[Result]]:
        """Yield what comes of each item as it is done, in whatever order that is.

        Function, items and results have to be picklable if there are several jobs. However this ends (an error, a
        closed iterator, SIGKILL of this process), no other process outlives it.

        Raises:
            WorkerError: another process was killed from outside.
        """
        waiting: deque[tuple[int, Item]] = deque(enumerate(items))
        unfinished = len(waiting)
        others = min(self.jobs, unfinished) - 1
        if others < 1:
            while waiting:
                yield _timed(function, *waiting.popleft())
            return
        done: queue.SimpleQueue[Future[Finished[Result]]] = queue.SimpleQueue()
        with _pool(others, self.jobs, self.gpus) as pool:

            def give(_: Any = None) -> None:
                """Hand the next item to the other processes; each that comes back calls for another."""
                if (taken := _taken(waiting)) is None:
                    return
                place, item = taken
                future: Future[Finished[Result]]
                try:
                    future = pool.submit(_timed, function, place, item)
                    future.add_done_callback(done.put)
                    future.add_done_callback(give)
                except BrokenProcessPool as error:
                    future = Future()
                    future.set_exception(error)
                    done.put(future)

            try:
                with _signals_held_back():
                    for _ in range(AHEAD * others):
                        give()
                for _ in range(unfinished):
                    taken = _taken(waiting) if done.empty() else None
                    yield _timed(function, *taken) if taken else done.get().result()
            except BrokenProcessPool as error:
                raise WorkerError(
                    "a process that built datasets died: killed from outside, or out of memory. Run the same command "
                    f"again, with a smaller --jobs than {self.jobs} if memory is short"
                ) from error


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


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start workers in peace, and have them leave Ctrl-C to their parent, though a terminal sends it to all.

    Workers inherit the mask; where there is none (Windows) they see to it themselves. Here another thread may still
    take the signal, whose handler Python runs in the main thread: it only notes the number, and the signal is raised
    anew once all workers are started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    masks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for first in came[:1]:
        signal.raise_signal(first)


def _end_with(watched: Connection) -> None:
    """Leave as soon as nobody holds the other end of the pipe: the parent closed it, or is dead."""

    def wait() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

"""Where units of work run. An executor has one method: ``map(function, units) -> results in order``."""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from medi_build.errors import WorkerError

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class LocalExecutor:
    """Runs units in this process (``jobs=1``) or in several, always giving results in the order of the units."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def map(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Generator[Result]:
        """Yield ``function(unit)`` for each unit. Function, units and results have to be picklable if jobs > 1.

        However this ends (an error, a closed iterator, SIGKILL of this process), no worker outlives it.

        Raises:
            WorkerError: a worker was killed from outside.
        """
        if self.jobs == 1:
            yield from map(function, units)
            return
        # Not fork: torch's threads may already be running here, and a forked child would inherit their locks.
        context = get_context("spawn")
        watched, held = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_end_with, initargs=(watched,))
        try:
            with _signals_held_back():
                results = pool.map(function, units)
            yield from results
            pool.shutdown(wait=True)
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process that read raw files died: killed from outside, or out of memory. Run the same command "
                f"again, with a smaller --jobs than {self.jobs} if memory is short"
            ) from error
        finally:
            held.close()
            pool.shutdown(wait=True, cancel_futures=True)
            watched.close()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start workers in peace, and have them leave Ctrl-C to their parent, though a terminal sends it to all.

    Workers inherit the mask. Here another thread may still take the signal, whose handler Python runs in the main
    thread: it only notes the number, and the signal is raised anew once all workers are started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
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

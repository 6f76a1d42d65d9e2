"""Where units of work run. An executor has one method: ``map(function, units) -> results in order``."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class LocalExecutor:
    """Runs units in this process (``jobs=1``) or in several, always giving results in the order of the units."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def map(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield ``function(unit)`` for each unit. Function, units and results have to be picklable if jobs > 1."""
        if self.jobs == 1:
            yield from map(function, units)
            return
        # Not fork: torch's threads may already be running here, and a forked child would inherit their locks.
        pool = ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"))
        try:
            yield from pool.map(function, units)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

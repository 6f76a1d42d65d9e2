"""What was made is written by a thread of its own, while the next is made."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

_WAITING = 2
"""Calls that are under way or wait; one more waits for the first of them, so that memory stays bounded."""


@contextmanager
def writing(write: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Yield what takes the arguments of ``write`` and calls it in a thread of its own, one call after the other.

    What it is given must not change any more. At the end of the block all calls have been made, also where the block
    failed.

    Raises:
        Exception: that of an earlier call, by a later one or at the end; those after it are not made.
    """
    waiting: deque[Future[None]] = deque()

    def later(*what: Any, **how: Any) -> None:
        _wait(waiting, _WAITING - 1)
        waiting.append(thread.submit(write, *what, **how))

    with ThreadPoolExecutor(1, "medi-store") as thread:  # which waits for what is left where the block failed
        yield later
        _wait(waiting, 0)


def _wait(waiting: "deque[Future[None]]", most: int) -> None:
    """Until at most so many wait; the error of the first that failed, all after it being given up."""
    while len(waiting) > most:
        try:
            waiting.popleft().result()
        except BaseException:
            while waiting:
                waiting.pop().cancel()
            raise

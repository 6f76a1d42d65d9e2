"""Waiting for another thread in a way that Ctrl-C ends."""

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")
_LOOK_UP_SECONDS = 0.2


def next_of(queue: SimpleQueue[_T]) -> _T:
    """The next item of a queue.

    A signal's handler runs in the main thread once that gets to run. A wait without end keeps it from that where the
    system gave the signal to another thread, and on Windows always.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_LOOK_UP_SECONDS)

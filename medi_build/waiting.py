"""Waiting for another thread in a way that Ctrl-C ends."""

import threading
import time
from collections.abc import Callable
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


def within(seconds: float, request: Callable[[], _T]) -> _T:
    """What a request gives, made in a thread that is left behind if it takes longer.

    Raises:
        TimeoutError: it does; else what the request raises.
    """
    answers: list[_T] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(request())
        except BaseException as error:  # raised anew below
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    end = time.monotonic() + seconds
    while asking.is_alive() and (left := end - time.monotonic()) > 0:
        asking.join(min(left, _LOOK_UP_SECONDS))
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]

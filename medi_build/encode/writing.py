"""Vectors written to a store while the next ones are made."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from medi_build.encode.store import VectorStore

_WAITING = 2
"""Puts that are under way or wait; one more waits for the first of them, so that memory stays bounded."""


@contextmanager
def writing(store: VectorStore | None) -> Iterator[Callable[..., None]]:
    """Yield what takes the arguments of `VectorStore.put` and puts them in a thread of its own, in order.

    The arrays must not change any more. At the end of the block everything is on disk, also where the block failed.

    Args:
        store: None keeps nothing.

    Raises:
        StoreError: of an earlier put, by a later one or at the end; after it nothing more is written.
    """
    if store is None:
        yield lambda *_: None
        return
    waiting: deque[Future[None]] = deque()

    def put(*what: Any) -> None:
        _wait(waiting, _WAITING - 1)
        waiting.append(thread.submit(store.put, *what))

    with ThreadPoolExecutor(1, "medi-store") as thread:  # which waits for what is left where the block failed
        yield put
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

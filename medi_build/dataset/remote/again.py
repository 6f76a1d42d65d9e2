"""Requests that failed for now are made again; what is told of them has no secret in it."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from medi_build.secrets import redacted

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try."""
AT_ONCE = 8
"""Files that are under way at the same time."""
_PASSING = (408, 425, 429)
T = TypeVar("T")


def again(call: Callable[[], T], passing: Callable[[Exception], bool], say: Callable[[str], None]) -> T:
    """The result of a call that is made again while its errors are ``passing``; else the last error."""
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            say(f"{told(error)}; once more in {pause:.0f} s")
            time.sleep(pause)
    return call()


def at_once(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do some work for each item, a few at a time; the first error stops what has not begun, and is raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tasks = [pool.submit(work, item) for item in items]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def is_passing_code(code: int) -> bool:
    """Whether an answer of this HTTP code may be another one after a while."""
    return code >= 500 or code in _PASSING


def told(error: BaseException) -> str:
    """The first line of an error, without secrets."""
    return redacted(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

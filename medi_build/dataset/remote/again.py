"""Requests that failed for now are made again; what is told of them has no secret in it."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from medi_build.secrets import redacted

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try."""
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

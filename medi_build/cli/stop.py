"""How a command is told to end: Ctrl-C or SIGTERM raises `Stopped` wherever it is."""

import signal
import sys
from typing import NoReturn

_AGAIN_SECONDS = 1.0


class Stopped(BaseException):
    """A signal, its number the argument, asked this process to end; not an Exception, which somebody might handle."""


def heed_signals() -> None:
    """From now on SIGINT and SIGTERM raise `Stopped` in the main thread; a second one ends the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def has_ended() -> None:
    """The command has ended as it was told; what Python still does is not to be disturbed."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # who asks twice does not want to wait
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: _insist(number))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
    raise Stopped(number)


def _insist(number: int) -> None:
    """Raise again what a bare ``except`` of some library, or a destructor, swallowed; leave cleaning up alone."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, Stopped):
            return
        error = error.__context__
    raise Stopped(number)

"""How commands end: one table of exit codes, which docs/command-line.md shows."""

import signal
from enum import IntEnum


class Exit(IntEnum):
    """What a command ends with; a signal ends it with 128 and its number."""

    DONE = 0
    FOUND = 1
    USAGE = 2
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


MEANINGS = {
    Exit.DONE: "done; of what checks or compares: nothing was found",
    Exit.FOUND: "an error, told on stderr; or something was found: `medi lint` an instruction to mend, `medi diff` a "
    "difference or a gate that failed; or the answer to a question was no",
    Exit.USAGE: "the command line is not understood: no such option, a value that is none; of `medi diff`, as of "
    "diff(1): any error",
    Exit.INTERRUPTED: "stopped by Ctrl-C (SIGINT); the same command goes on",
    Exit.TERMINATED: "stopped by SIGTERM; the same command goes on",
}
"""In words, for people."""
TROUBLE = Exit.USAGE
"""Of `medi diff`, as diff(1) has it."""

"""Counts what a process and its children change on disk, and kills them all at one of these steps.

Python imports a module of this name at its start, so that a folder on PYTHONPATH is all it takes. It is told by
variables of the environment:

SURVIVAL_STEPS: a file that gets a byte for each step; its length is the number of steps so far, in all processes.
SURVIVAL_LOG: a file that gets a line for each step.
SURVIVAL_BELOW: the folder whose changes count.
SURVIVAL_KILL: number of the step, from 1, before which the whole process group gets SIGKILL; 0 for none.

A step is what an audit hook of Python hears of: a file opened for writing, renamed, linked or removed, a folder made or
removed, a connection made.
"""

import os
import signal
import sys
import time
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PLACES = {
    "open": (0, None), "os.rename": (1, 3), "os.remove": (0, 1), "os.rmdir": (0, 1), "os.mkdir": (0, 2),
    "os.link": (1, 3), "os.symlink": (1, 2), "os.truncate": (0, None),
}  # fmt: skip
"""Audit event -> which of its arguments is the path that changes, and which the folder that path is relative to."""


def _install() -> None:
    below = os.environ["SURVIVAL_BELOW"]
    mortal = int(os.environ["SURVIVAL_KILL"])
    steps, log = (os.open(os.environ[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                  for name in ("SURVIVAL_STEPS", "SURVIVAL_LOG"))  # fmt: skip

    def step(event: str, what: str) -> None:
        os.write(steps, b".")
        number = os.lseek(steps, 0, os.SEEK_CUR)  # behind our own byte: writes that append are one after another
        os.write(log, f"{number}\t{time.monotonic()}\t{event}\t{what}\n".encode(errors="replace"))
        if number == mortal:
            os.killpg(0, signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            step(event, str(arguments[1]))
        if event not in PLACES or (event == "open" and not arguments[2] & WRITES):
            return
        at, relative_to = PLACES[event]
        path, folder = arguments[at], -1 if relative_to is None else arguments[relative_to]
        if isinstance(path, int):  # a file that is open
            path, folder = f"/proc/self/fd/{path}", -1
            path = os.readlink(path) if os.path.islink(path) else ""
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        if path.startswith(below):
            step(event, os.path.relpath(path, below))

    sys.addaudithook(hear)


if "SURVIVAL_STEPS" in os.environ:
    _install()

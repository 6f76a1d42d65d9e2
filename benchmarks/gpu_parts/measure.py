"""What the parts share: a line, and seconds that wait for the device."""

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

Line = dict[str, Any]
"""``what``, and either ``value``, ``unit`` (perhaps ``ratio`` and ``to``, ``note``) or ``skipped`` or ``error``."""


def line(what: str, value: Any, unit: str = "", *, ratio: float | None = None, to: str = "", note: str = "") -> Line:
    """A figure; ``ratio`` is it over that of the line named ``to``, or of what that says."""
    more = {"ratio": ratio, "to": to, "note": note}
    return {"what": what, "value": value, "unit": unit, **{name: told for name, told in more.items() if told}}


def skipped(what: str, why: str) -> Line:
    return {"what": what, "skipped": why}


def passed(what: str, good: bool, note: str = "") -> Line:
    """A check: passed, or an error."""
    return line(what, "passed", note=note) if good else {"what": what, "error": note or "failed"}


def has(package: str) -> bool:
    return find_spec(package) is not None


def wait(device: str) -> None:
    """Until every GPU in use has done what it was asked."""
    if torch.device(device).type == "cuda":
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)


def seconds(device: str, call: Callable[[], object], rounds: int = 3, warm: int = 1) -> float:
    """The median of some rounds, after some that do not count."""
    for _ in range(warm):
        call()
    took = []
    for _ in range(rounds):
        wait(device)
        begin = time.perf_counter()
        call()
        wait(device)
        took.append(time.perf_counter() - begin)
    return statistics.median(took)

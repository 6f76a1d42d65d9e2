"""Pieces of one dataset as tasks of a Ray cluster, for `medi_build.share`."""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from medi_build.errors import MediError
from medi_build.pipeline.executor.cluster import cancel

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2
"""Tasks for each CPU of the cluster that are given out and not taken back."""
RETRIES = 3
"""A piece whose worker died so often is given up."""
LARGE_BYTES = 1 << 20
"""Arrays above this are sent on their own, so that several tasks share one."""


def ray_share(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map a function over items as tasks of the cluster's, results in order; for use inside a task.

    Both are picklable. The function, with all that it holds, and an array that several items hold are sent to a node
    once; items are taken as there is room for them. A task that dies with its node is run again by Ray.
    """
    import ray

    run = ray.remote(_call).options(num_cpus=1, max_retries=RETRIES)
    shared, arrays = ray.put(function), dict[int, Any]()
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[Any] = deque()
    rest = iter(items)
    try:
        while True:
            waiting.extend(run.remote(shared, *_sent(item, arrays)) for item in islice(rest, most - len(waiting)))
            if not waiting:
                return
            try:
                result: Result = ray.get(waiting[0])
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, MediError) else error) from None
            waiting.popleft()
            yield result
    finally:
        cancel(waiting)


def _sent(item: Any, arrays: dict[int, Any]) -> list[Any]:
    """What goes to a task for an item: a named tuple's type and values, large arrays as what Ray knows of them.

    ``arrays`` remembers those as long as somebody holds the array.
    """
    import ray

    if not hasattr(item, "_fields"):
        return [None, item]
    values = []
    for value in item:
        if isinstance(value, np.ndarray) and value.nbytes > LARGE_BYTES:
            if id(value) not in arrays:
                arrays[id(value)] = ray.put(value)
                weakref.finalize(value, arrays.pop, id(value), None)
            values.append(arrays[id(value)])
        else:
            values.append(value)
    return [type(item), *values]


def _call(function: Callable[[Item], Result], kind: Any, *values: Any) -> Result:
    import torch

    torch.set_num_threads(1)
    return function(values[0] if kind is None else kind(*values))

"""Pieces of one dataset on a Ray cluster, for `medi_build.share`: tasks on its CPUs, or workers on its GPUs."""

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from medi_build.pipeline.executor.cluster import cancel
from medi_build.pipeline.executor.ray_errors import meant

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2
"""Tasks for each CPU of the cluster, or GPU, that are given out and not taken back."""
RETRIES = 3
"""A piece whose worker died so often is given up."""
WORTH_SECONDS = 5.0
"""A map that is over sooner starts no workers: each would have to load its libraries and the model."""
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
            except ray.exceptions.RayError as error:
                raise (meant(error) or error) from None
            waiting.popleft()
            yield result
    finally:
        cancel(waiting)


def gpu_share(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """As `ray_share`, for a task that holds a GPU: it does pieces itself, and so do workers on GPUs that are free.

    Ray takes no GPU from a task that waits. As this one never only waits while there is a piece that nobody does, any
    number of such tasks end on any number of GPUs. Workers are there as long as the map is; the pieces of one that died
    are done by others.
    """
    rest, begin = iter(items), time.monotonic()
    for item in rest:
        yield function(item)
        if time.monotonic() - begin >= WORTH_SECONDS:
            break
    left = list(islice(rest, 1))
    if not left:
        return
    team = _Team(function)
    try:
        yield from team.map(chain(left, rest))
    finally:
        team.dismiss()


class _Piece(NamedTuple):
    number: int
    item: Any


class _Team(Generic[Item, Result]):
    """This process and, on every other GPU of the cluster once it is free, a worker."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        import ray

        self._gpus = max(1, int(ray.cluster_resources().get("GPU", 1)))
        worker = ray.remote(_Worker).options(num_cpus=1, num_gpus=1)
        self._function, sent = function, ray.put(function)
        self._workers = [worker.remote(sent) for _ in range(self._gpus - 1)]
        self._starting = {one.there.remote(): one for one in self._workers}
        self._ready: list[Any] = []
        self._arrays = dict[int, Any]()
        self._running: dict[Any, tuple[_Piece, Any]] = {}
        self._again: deque[_Piece] = deque()
        self._done: dict[int, Result | Exception] = {}

    def map(self, items: Iterable[Item]) -> Iterator[Result]:
        """What comes of each item, in order."""
        import ray

        pieces, told = (_Piece(*one) for one in enumerate(items)), 0
        while True:
            self._hear()
            self._hand_out(pieces)
            if told in self._done:
                result = self._done.pop(told)
                if isinstance(result, Exception):
                    raise result
                told += 1
                yield result
            elif (piece := self._next(pieces)) is not None:
                self._done[piece.number] = self._function(piece.item)
            elif self._running:
                ray.wait(list(self._running))
            else:
                return

    def dismiss(self) -> None:
        """End the workers, whatever they do."""
        import ray

        for worker in self._workers:
            ray.kill(worker)

    def _next(self, pieces: Iterator[_Piece]) -> _Piece | None:
        """What to do next, if there is anything and not too much waits for being asked for."""
        if self._again:
            return self._again.popleft()
        if len(self._running) + len(self._done) >= AHEAD * self._gpus:
            return None
        return next(pieces, None)

    def _hand_out(self, pieces: Iterator[_Piece]) -> None:
        busy = Counter(id(worker) for _, worker in self._running.values())
        for worker in self._ready * AHEAD:
            if busy[id(worker)] < AHEAD and (piece := self._next(pieces)) is not None:
                busy[id(worker)] += 1
                self._running[worker.do.remote(*_sent(piece.item, self._arrays))] = piece, worker

    def _hear(self) -> None:
        """See which workers are there, what they have done, and which of them died."""
        import ray

        asked = [*self._starting, *self._running]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=0.0) if asked else ([], [])
        for one in answered:
            if one in self._starting:
                self._ready.append(self._starting.pop(one))
                continue
            piece, worker = self._running.pop(one)
            try:
                self._done[piece.number] = ray.get(one)
            except ray.exceptions.RayTaskError as error:
                self._done[piece.number] = meant(error) or error
            except ray.exceptions.RayError:  # gone with its node, or for want of memory
                self._again.append(piece)
                self._ready = [other for other in self._ready if other is not worker]


class _Worker:
    """Holds a GPU, and what it has loaded there, for one map."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def there(self) -> None:
        """Answers once it is."""

    def do(self, kind: Any, *values: Any) -> Any:
        """One piece."""
        return _call(self._function, kind, *values)


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

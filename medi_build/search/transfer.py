"""Arrays between host and GPU, beside the work there: vectors on their way up, small tensors on their way down.

On the CPU the same is done without pinned memory and streams, so that what is built on it runs there, too.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from medi_build.arrays import Ints, Vectors
from medi_build.devices import Device
from medi_build.search.dense_pass import refuse

STAGING_BYTES = 16 << 20
"""Of each of the two pinned buffers that vectors pass through: pinning takes long, so they are small."""


@dataclass(frozen=True)
class Block:
    """Vectors on the device.

    Attributes:
        first: number of the first.
        count: how many there are.
        vectors: float16 [count, d], and further rows of zeros up to a multiple of what `Upload` was told.
        norm: a bound of their norms.
    """

    first: int
    count: int
    vectors: Any
    norm: float


class Upload:
    """Vectors that a thread copies to a device, block by block; a context, which ends the thread.

    A block can be used as soon as it is there, and stays as long as this object does.
    """

    def __init__(
        self, vectors: Vectors, rows: Ints, device: Device, name: str, *, block: int, multiple: int = 1
    ) -> None:
        """Begin.

        Args:
            vectors: float16 [n, d], an array or a memory map.
            rows: which of them, in this order.
            device: where to.
            name: of the vectors, for the error that some are NaN or infinity.
            block: vectors of a block, a multiple of ``multiple``.
            multiple: zeros are added at the end to make their number one of this.
        """
        import torch

        self._vectors, self._rows, self._name = vectors, rows, name
        self._device, self._stopped = torch.device(device), Event()
        padded = -(-len(rows) // multiple) * multiple
        self._tensor = torch.empty((padded, vectors.shape[1]), dtype=torch.float16, device=self._device)
        self._side: Any = None
        self._staging: tuple[_Staging, ...] = ()
        if self._device.type == "cuda":
            self._side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._side.wait_stream(torch.cuda.current_stream(self._device))  # what used this memory before
            self._tensor.record_stream(self._side)
            self._staging = tuple(_Staging(vectors.shape[1]) for _ in range(2))
        self._thread = ThreadPoolExecutor(1)
        starts = range(0, padded, block)
        self._blocks: list[Future[Block]] = [self._thread.submit(self._bring, first, block) for first in starts]

    def __enter__(self) -> "Upload":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __len__(self) -> int:
        """How many vectors there are."""
        return len(self._rows)

    def close(self) -> None:
        """End the thread, whatever is still to come, and let the memory go."""
        self._stopped.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._blocks, self._tensor = [], self._tensor[:0].clone()

    def __iter__(self) -> Iterator[Block]:
        """The blocks, each as soon as it is there.

        Raises:
            MiningError: a vector holds NaN or infinity.
        """
        for block in self._blocks:
            yield block.result()

    def whole(self) -> Any:
        """All vectors, float16 [n, d], once they are there.

        Raises:
            MiningError: a vector holds NaN or infinity.
        """
        for _ in self:
            pass
        return self._tensor[: len(self._rows)]

    def _bring(self, first: int, block: int) -> Block:
        """Copy a block; it is there when this returns."""
        import torch

        target = self._tensor[first : first + block]
        count = min(len(target), len(self._rows) - first)
        with torch.cuda.stream(self._side) if self._side else nullcontext():
            self._copy(first, target[:count])
            target[count:] = 0
            lengths = torch.linalg.vector_norm(target, dim=1, dtype=torch.float32)
            norm = 1.001 * float(lengths.max())  # enlarged for its own rounding; waits for the stream
            if not np.isfinite(norm):
                refuse(target[:count], self._name, self._rows[first : first + count])
        return Block(first, count, target, norm)

    def _copy(self, first: int, target: Any) -> None:
        numbers = self._rows[first : first + len(target)]
        if not self._staging:
            target.numpy()[:] = self._vectors[numbers]
            return
        step = len(self._staging[0].rows)
        for turn, start in enumerate(range(0, len(target), step)):
            if self._stopped.is_set():
                return
            self._staging[turn % 2].send(self._vectors, numbers[start : start + step], target[start : start + step])


class _Staging:
    """A pinned buffer, and when it may be filled again."""

    def __init__(self, dimensions: int) -> None:
        import torch

        count = max(1, STAGING_BYTES // (2 * dimensions))
        self._tensor = torch.empty((count, dimensions), dtype=torch.float16, pin_memory=True)
        self._sent: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.rows = self._tensor.numpy()

    def send(self, vectors: Vectors, numbers: Ints, target: Any) -> None:
        """Copy rows with these numbers, on the current stream."""
        self._sent.synchronize()
        if int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1:  # ascending, so one behind the other
            np.copyto(self.rows[: len(numbers)], vectors[numbers[0] : numbers[-1] + 1])
        else:
            np.take(vectors, numbers, axis=0, out=self.rows[: len(numbers)], mode="clip")
        target.copy_(self._tensor[: len(numbers)], non_blocking=True)
        self._sent.record()


class Fetched:
    """Tensors on their way to the host; meanwhile the device can be given further work."""

    def __init__(self, *tensors: Any) -> None:
        import torch

        device = tensors[0].device
        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._there: Any = None
        if device.type == "cuda":
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record(torch.cuda.current_stream(device))

    def arrays(self) -> list[Any]:
        """Them as numpy arrays, once they are there."""
        if self._there is not None:
            self._there.synchronize()
        return [tensor.numpy() for tensor in self._tensors]

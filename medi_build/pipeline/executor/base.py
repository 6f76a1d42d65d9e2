"""What every executor gives: a map over units that yields each as it is done."""

from collections.abc import Callable, Generator, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from medi_build.dataset.receipt import Receipt
from medi_build.pipeline.unit import UnitJob
from medi_build.share import Share

Result = TypeVar("Result")


class Finished(NamedTuple, Generic[Result]):
    """One item that is done: its place among the items, what came of it, and the seconds that it took."""

    place: int
    result: Result
    seconds: float


class Executor(Protocol):
    """Builds datasets somewhere.

    Attributes:
        jobs: datasets at a time.
        share: does the pieces of a dataset that is split, for `build_unit`; None where none is.
    """

    jobs: int
    share: Share | None

    def map(
        self, function: Callable[[UnitJob], Receipt], items: Iterable[UnitJob], count: int
    ) -> Generator[Finished[Receipt]]:
        """Yield what comes of each job as it is done, in whatever order that is; its files are in its ``out`` then.

        Args:
            function: what to do; picklable.
            items: taken as they come; one that is waited for keeps nobody from working on those that came.
            count: how many they are at most.

        Raises:
            MediError: of the function's; `WorkerError` where what worked for this process died for good.
        """
        ...

"""Tells a person how far a build is: bars on a terminal, plain lines elsewhere, nothing when used as a library."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Silent:
    """Says nothing; also the interface that the others fill. One that goes to another process says nothing there."""

    def __reduce__(self) -> tuple[type["Silent"], tuple[()]]:
        """As what it is pickled."""
        return Silent, ()

    def start(self, datasets: int) -> None:
        """A build of that many datasets begins."""

    def stage(self, dataset: str, stage: str) -> None:
        """A dataset enters a stage (fetch, adapt, mine, write)."""

    def advance(self, done: int, total: int) -> None:
        """Inside the current stage, ``done`` of ``total`` steps are made (texts encoded, bytes fetched)."""

    def finish(self, dataset: str, rows: int, seconds: float, resumed: bool) -> None:
        """A dataset is written, or was found written by an earlier run."""

    def close(self) -> None:
        """The build is over, or broke."""


class Lines(Silent):
    """One line per finished dataset, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._done = 0

    def start(self, datasets: int) -> None:
        """Remember how many there are."""
        self._total = datasets

    def finish(self, dataset: str, rows: int, seconds: float, resumed: bool) -> None:
        """Print the line."""
        self._done += 1
        how = "already built" if resumed else f"{seconds:.1f} s"
        self._console.print(f"[{self._done}/{self._total}] {dataset}: {rows:,} records, {how}", markup=False)


class Bars(Silent):
    """Two live bars: the datasets, and the current stage."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<58.58}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._all = self._bars.add_task("datasets", total=None)
        self._stage = self._bars.add_task("", total=None)

    def start(self, datasets: int) -> None:
        """Show the bars."""
        self._bars.update(self._all, total=datasets)
        self._bars.start()

    def stage(self, dataset: str, stage: str) -> None:
        """Name the dataset and the stage."""
        self._bars.remove_task(self._stage)  # a reset would keep the old total
        self._stage = self._bars.add_task(f"{stage}  {dataset}", total=None)

    def advance(self, done: int, total: int) -> None:
        """Move the stage's bar."""
        self._bars.update(self._stage, completed=done, total=total)

    def finish(self, dataset: str, rows: int, seconds: float, resumed: bool) -> None:
        """Move the datasets' bar."""
        self._bars.advance(self._all)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()


def for_console(console: Console) -> Silent:
    """Bars where somebody watches, lines where it is a log."""
    return Bars(console) if console.is_terminal else Lines(console)

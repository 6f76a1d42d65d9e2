"""Tells a person how far a build is: bars on a terminal, plain lines elsewhere, nothing when used as a library."""

import time
from threading import Lock

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

LINE_SECONDS = 30.0
"""A log gets a line about running downloads this often."""


class Silent:
    """Says nothing; also the interface that the others fill. One that goes to another process says nothing there."""

    def __reduce__(self) -> tuple[type["Silent"], tuple[()]]:
        """As what it is pickled."""
        return Silent, ()

    def start(self, datasets: int) -> None:
        """A build of that many datasets begins."""

    def stage(self, dataset: str, stage: str) -> None:
        """A dataset enters a stage (adapt, mine, write)."""

    def advance(self, done: int, total: int | None) -> None:
        """Inside the current stage, ``done`` of ``total`` steps are made (texts encoded); None: nobody knows."""

    def downloaded(self, done: int, total: int) -> None:
        """Beside all that, so many bytes are fetched of as many as are known to come; from any thread."""

    def say(self, message: str) -> None:
        """Something that a person should know; from any thread."""

    def finish(self, dataset: str, rows: int, seconds: float, resumed: bool) -> None:
        """A dataset is written, or was found written by an earlier run."""
        self.done(f"{dataset}: {rows:,} records, {'already built' if resumed else f'{seconds:.1f} s'}")

    def done(self, message: str) -> None:
        """One of those that `start` was told of is finished; what to say of it in a log."""

    def close(self) -> None:
        """The build is over, or broke."""


class Lines(Silent):
    """One line per finished dataset, and now and then one about downloads, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._done = 0
        self._lock = Lock()
        self._told_at, self._told_bytes = 0.0, 0

    def start(self, datasets: int) -> None:
        """Remember how many there are."""
        self._total = datasets

    def done(self, message: str) -> None:
        """Print the line."""
        with self._lock:
            self._done += 1
            self._console.print(f"[{self._done}/{self._total}] {message}", markup=False, soft_wrap=True)

    def downloaded(self, done: int, total: int) -> None:
        """Print how far downloads are and how fast, if that was not said lately."""
        with self._lock:
            now = time.monotonic()
            took = now - (self._told_at or now)
            if took >= LINE_SECONDS:
                speed = (done - self._told_bytes) / took / 1e6
                self._console.print(f"downloads: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB, {speed:,.1f} MB/s")
            if took >= LINE_SECONDS or not self._told_at:
                self._told_at, self._told_bytes = now, done

    def say(self, message: str) -> None:
        """Print it."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)


class _Count(ProgressColumn):
    """How many of how many; for the bar of the downloads in bytes, and how fast."""

    def __init__(self) -> None:
        super().__init__()
        self._counted, self._bytes, self._speed = MofNCompleteColumn(), DownloadColumn(), TransferSpeedColumn()

    def render(self, task: Task) -> Text:
        """The cell of one bar."""
        if not task.fields.get("bytes"):
            return self._counted.render(task)
        return Text(" ").join([self._bytes.render(task), self._speed.render(task)])


class Bars(Silent):
    """Live bars: the datasets, the current stage, and the downloads where there are any."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=16),
            _Count(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
        )
        self._all = self._bars.add_task("datasets", total=None)
        self._stage = self._bars.add_task("", total=None)
        self._downloads: TaskID | None = None

    def start(self, datasets: int) -> None:
        """Show the bars."""
        self._bars.update(self._all, total=datasets)
        self._bars.start()

    def stage(self, dataset: str, stage: str) -> None:
        """Name the dataset and the stage."""
        self._bars.remove_task(self._stage)  # a reset would keep the old total
        self._stage = self._bars.add_task(f"{stage}  {dataset}", total=None)

    def advance(self, done: int, total: int | None) -> None:
        """Move the stage's bar."""
        self._bars.update(self._stage, completed=done, total=total)

    def done(self, message: str) -> None:
        """Move the datasets' bar."""
        self._bars.advance(self._all)

    def downloaded(self, done: int, total: int) -> None:
        """Move the downloads' bar."""
        if self._downloads is None:
            self._downloads = self._bars.add_task("downloads", total=total, bytes=True)
        self._bars.update(self._downloads, completed=done, total=total)

    def say(self, message: str) -> None:
        """Print it above the bars."""
        self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()


def for_console(console: Console) -> Silent:
    """Bars where somebody watches, lines where it is a log."""
    return Bars(console) if console.is_terminal else Lines(console)

"""Fetches what many datasets lack, a few files at a time, while whoever asked for them builds what is there."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from medi_build.errors import FetchError
from medi_build.ingest.fetch import fetch
from medi_build.ingest.http import Stopped, Watch
from medi_build.ingest.remotes import Remote
from medi_build.progress import Silent
from medi_build.waiting import next_of

AT_ONCE = 4
AT_ONCE_PER_HOST = 2
"""Few enough that no host takes it for an attack."""
_LAST_WORDS_SECONDS = 1.0
"""How long a stop waits for the threads; one that waits for a silent server ends by itself, or with the process."""
_SHORT_WAIT_SECONDS = 1.0
"""A wait of less is not told."""


@dataclass
class _Transfer:
    """A file, or members of an archive, and the datasets that wait for them."""

    remotes: list[Remote] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    @property
    def name(self) -> str:
        return self.remotes[0].transfer

    @property
    def host(self) -> str:
        return self.remotes[0].host

    def told(self) -> str:
        """Whom a message about it concerns."""
        more = len(self.datasets) - 1
        return self.datasets[0] + (f" and {more:,} more" if more else "")


class Downloads:
    """Background threads that fetch; a context manager that stops them.

    The files that are known to be large come last, so that most datasets can be built early. A file that cannot be had
    keeps no other from coming: `check` tells all of them at the end.
    """

    def __init__(self, wanted: Mapping[str, Sequence[Remote]], cache_dir: Path, progress: Silent) -> None:
        """Begin to fetch.

        Args:
            wanted: dataset -> the files that it lacks, at least one.
            cache_dir: as in `fetch`.
            progress: told of bytes, of waits and of what arrived.
        """
        self._cache_dir = cache_dir
        self._progress = progress
        self._waiting = sorted(_transfers(wanted), key=lambda one: one.total)
        self._all = tuple(self._waiting)
        self._lacks = {name: set(map(_group, remotes)) for name, remotes in wanted.items()}
        self._arrived: SimpleQueue[str | Exception | None] = SimpleQueue()
        self._failed: list[str] = []
        self._busy: list[str] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in self._waiting[:AT_ONCE]]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what still runs; a later fetch goes on from there."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._arrived.put(None)
        for thread in self._threads:
            thread.join(_LAST_WORDS_SECONDS / len(self._threads))

    def arrivals(self) -> Iterator[str]:
        """Datasets as soon as their last file is there, each once; ends when all came or will not come."""
        left = len(self._all)
        while left:
            name = next_of(self._arrived)
            if isinstance(name, Exception):
                raise name
            if name is None:
                if self._stop.is_set():
                    return
                left -= 1
            else:
                yield name

    def check(self) -> None:
        """Raise `FetchError` if something could not be had, telling all of it."""
        if self._failed:
            raise FetchError(
                f"{len(self._failed)} download(s) failed; what arrived is kept and what could be built is built:\n"
                + "\n".join(f"  {failure}" for failure in self._failed)
            )

    def _work(self) -> None:
        """One thread: transfer after transfer until none is left."""
        try:
            while (transfer := self._next()) is not None:
                try:
                    fetch(transfer.remotes, self._cache_dir, _Told(self, transfer))
                except FetchError as error:
                    self._failed.append(f"{transfer.told()}: {error}")
                    self.say(transfer, f"{error}; the others go on")
                else:
                    self._hand_over(transfer)
                with self._changed:
                    self._busy.remove(transfer.host)
                    self._changed.notify_all()
                self._arrived.put(None)
        except Stopped:
            pass  # whoever waited has left, and `__exit__` has told the other threads
        except Exception as error:  # a fault of ours: told where the datasets are waited for
            self._arrived.put(error)

    def _next(self) -> _Transfer | None:
        """The first transfer whose host has room; waits for room."""
        with self._changed:
            while self._waiting and not self._stop.is_set():
                for transfer in self._waiting:
                    if self._busy.count(transfer.host) < AT_ONCE_PER_HOST:
                        self._waiting.remove(transfer)
                        self._busy.append(transfer.host)
                        return transfer
                self._changed.wait()
        return None

    def _hand_over(self, transfer: _Transfer) -> None:
        self.say(transfer, f"fetched {transfer.name}")
        with self._changed:
            for name in transfer.datasets:
                self._lacks[name].discard(_group(transfer.remotes[0]))
                if not self._lacks[name]:
                    self._arrived.put(name)

    def advance(self, transfer: _Transfer, done: int, total: int) -> None:
        """A transfer is so far; raises `Stopped` once nobody waits for it any more."""
        if self._stop.is_set():
            raise Stopped
        with self._changed:
            transfer.done, transfer.total = done, total or max(done, transfer.total)
            self._progress.downloaded(sum(one.done for one in self._all), sum(one.total for one in self._all))

    def wait(self, transfer: _Transfer, seconds: float, why: str) -> None:
        """A transfer waits."""
        if seconds >= _SHORT_WAIT_SECONDS:
            self.say(transfer, f"waiting {seconds:,.0f} s for {transfer.name}: {why}")
        if self._stop.wait(seconds):
            raise Stopped

    def say(self, transfer: _Transfer, message: str) -> None:
        """Something that a person should know of a transfer."""
        self._progress.say(f"{transfer.told()}: {message}")


@dataclass(frozen=True)
class _Told(Watch):
    """The ear that one transfer talks to."""

    downloads: Downloads
    transfer: _Transfer

    def advance(self, done: int, total: int) -> None:
        self.downloads.advance(self.transfer, done, total)

    def wait(self, seconds: float, why: str) -> None:
        self.downloads.wait(self.transfer, seconds, why)

    def say(self, message: str) -> None:
        self.downloads.say(self.transfer, message)


def _group(remote: Remote) -> tuple[str, ...]:
    """What remote files that come as one have in common: the archive, or the file, its name and what is pinned."""
    return (remote.archive,) if remote.archive else (remote.key, remote.name, remote.sha256)


def _transfers(wanted: Mapping[str, Sequence[Remote]]) -> list[_Transfer]:
    """What has to be fetched, each once, in the order in which it is first wanted."""
    transfers: dict[tuple[str, ...], _Transfer] = {}
    for name, remotes in wanted.items():
        for remote in remotes:
            transfer = transfers.setdefault(_group(remote), _Transfer())
            if name not in transfer.datasets:
                transfer.datasets.append(name)
            if (remote.key, remote.name) not in ((one.key, one.name) for one in transfer.remotes):
                transfer.remotes.append(remote)
    for transfer in transfers.values():
        transfer.total = sum(remote.size for remote in transfer.remotes)
    return list(transfers.values())

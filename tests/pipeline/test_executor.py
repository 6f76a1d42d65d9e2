"""The executor maps real functions over real processes."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from medi_build.errors import InputError, WorkerError
from medi_build.pipeline.executor.local import LocalExecutor

pytestmark = pytest.mark.slow


class Seen(NamedTuple):
    """What an item saw where it ran."""

    item: int
    process: int
    threads: int
    gpus: str | None


def look(item: int) -> Seen:
    """Take long enough for the other processes to have started before all is done."""
    time.sleep(0.5)
    return Seen(item, os.getpid(), torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_each_item_is_done_once_and_shares_the_threads(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = list(LocalExecutor(jobs).map(look, range(100, 100 + 12 * jobs), 12 * jobs))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert sorted(one.place for one in found) == list(range(12 * jobs))
    assert all(one.result.item == 100 + one.place and one.seconds >= 0.5 for one in found)
    assert len({one.result.process for one in found}) == jobs
    assert os.getpid() in {one.result.process for one in found}
    assert {one.result.threads for one in found} == {4 // jobs}
    assert {one.result.gpus for one in found} == {None}


@pytest.mark.parametrize(("visible", "wanted"), [(None, {None, "1"}), ("4,7", {"4,7", "7"})])
def test_each_other_process_sees_a_gpu_of_its_own(
    visible: str | None, wanted: set[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [one.result for one in LocalExecutor(2, range(2)).map(look, range(24), 24)]
    assert {seen.gpus for seen in found} == wanted
    assert {seen.gpus for seen in found if seen.process == os.getpid()} == {visible}


def test_fewer_items_than_jobs_start_no_process_in_vain() -> None:
    assert [one.result.process for one in LocalExecutor(8).map(look, [1], 1)] == [os.getpid()]
    assert list(LocalExecutor(2).map(look, [], 0)) == []


def echo(item: int) -> tuple[int, int]:
    return item, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_there_is_done_while_the_rest_is_waited_for(jobs: int) -> None:
    """The last item comes only once the others are done: whoever waits for all items first waits for ever."""
    seen = threading.Event()

    def items() -> Iterator[int]:
        yield from range(4)
        assert seen.wait(60)
        yield 4

    done = []
    for one in LocalExecutor(jobs).map(echo, items(), 9):  # four that were counted on never come
        done.append(one.result[0])
        if len(done) == 4:
            seen.set()
    assert done[-1] == 4 and sorted(done) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_items_is_raised(jobs: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("a bad item")

    with pytest.raises(InputError, match="a bad item"):
        list(LocalExecutor(jobs).map(echo, items(), 3))


def fail_at_seven(item: int) -> int:
    time.sleep(0.2)
    if item == 7:
        raise InputError("seven is a bad row")
    return item


def die_elsewhere(parent: int) -> int:
    """End the process as the kernel does when memory runs out, unless it is this test's."""
    time.sleep(0.5)
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize(
    ("function", "items", "error", "message"),
    [
        (fail_at_seven, range(30), InputError, "seven is a bad row"),
        (die_elsewhere, [os.getpid()] * 40, WorkerError, "a process that built datasets died.*smaller --jobs than 2"),
    ],
)
def test_an_error_ends_all_processes(
    function: Callable[[int], int], items: list[int], error: type[Exception], message: str
) -> None:
    before = children()
    with pytest.raises(error, match=message):
        list(LocalExecutor(2).map(function, items, len(items)))
    assert [child for child in children() if child not in before and _is_worker(child)] == []


def test_whoever_stops_listening_ends_all_processes() -> None:
    before = children()
    with closing(LocalExecutor(2).map(look, range(50), 50)) as results:
        next(results)
    assert [child for child in children() if child not in before and _is_worker(child)] == []


def _is_worker(child: str) -> bool:
    """The resource tracker of multiprocessing stays for the life of this process."""
    return b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()

"""Several files at a time over real sockets, for datasets that are told as soon as they are whole."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medi_build.errors import FetchError
from medi_build.ingest import downloads
from medi_build.ingest.downloads import Downloads
from medi_build.ingest.remotes import Remote
from medi_build.progress import Silent
from tests.loopback import Fault, Server, serving


class Heard(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.bytes: list[tuple[int, int]] = []
        self.said: list[str] = []

    def downloaded(self, done: int, total: int) -> None:
        self.bytes.append((done, total))

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files |= {f"/{name}": name.encode() * 50_000 for name in "abcdefgh"}
        yield server


def remotes(server: Server, names: str, host: str = "127.0.0.1") -> list[Remote]:
    return [Remote(name, "pairs", f"http://{host}:{server.server_port}/{name}") for name in names]


def got(wanted: dict[str, Sequence[Remote]], cache: Path, heard: Heard | None = None) -> list[str]:
    """Names of the datasets as they arrive, whose files are all there then."""
    names = []
    with Downloads(wanted, cache, heard or Heard()) as coming:
        for name in coming.arrivals():
            assert all(remote.local(cache).is_file() for remote in wanted[name])
            names.append(name)
        coming.check()
    return names


def test_a_dataset_arrives_with_its_last_file_and_shared_files_come_once(server: Server, tmp_path: Path):
    wanted = {"one": remotes(server, "az"), "two": remotes(server, "ab"), "three": remotes(server, "c")}
    server.files["/z"] = b"z" * 400_000
    server.faults["/z"] = [Fault(pause=0.05)]
    heard = Heard()
    names = got(wanted, tmp_path, heard)
    assert names[-1] == "one" and sorted(names) == ["one", "three", "two"]
    assert sorted(path for _, path, _ in server.asked) == ["/a", "/b", "/c", "/z"]
    size = sum(len(server.files[f"/{name}"]) for name in "abcz")
    assert heard.bytes[-1] == (size, size)
    assert [done for done, _ in heard.bytes] == sorted(done for done, _ in heard.bytes)
    assert any(message.startswith("one and 1 more: fetched http://") for message in heard.said)


def test_what_cannot_be_had_keeps_nothing_else_from_coming_and_is_told(server: Server, tmp_path: Path):
    del server.files["/b"], server.files["/d"]
    wanted = {"one": remotes(server, "ab"), "two": remotes(server, "b"), "three": remotes(server, "c"),
              "four": remotes(server, "de")}  # fmt: skip
    with pytest.raises(FetchError) as caught:
        got(wanted, tmp_path)
    first, *failures = str(caught.value).splitlines()
    assert first.startswith("2 download(s) failed; what arrived is kept")
    assert [line.split(":")[0] for line in sorted(failures)] == ["  four", "  one and 1 more"]
    assert all("HTTP 404" in line and "may be out of date" in line for line in failures)
    server.files |= {"/b": b"b", "/d": b"d"}
    server.asked.clear()
    assert sorted(got(wanted, tmp_path)) == ["four", "one", "three", "two"]
    assert sorted(path for _, path, _ in server.asked) == ["/b", "/d"]


def test_no_host_is_asked_for_more_than_two_files_at_a_time(server: Server, tmp_path: Path):
    server.faults = {f"/{name}": [Fault(pause=0.1)] for name in "abcdefgh"}
    far = {name: remotes(server, name, "localhost") for name in "abcd"}
    near = {name: remotes(server, name) for name in "efgh"}
    assert sorted(got({**far, **near}, tmp_path)) == list("abcdefgh")
    assert set(server.most_at_work.values()) == {2} and len(server.most_at_work) == 2


def test_files_known_to_be_large_come_last(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloads, "AT_ONCE", 1)
    big, small = Remote("a", "pairs", f"{server.url}/a", size=10**10), Remote("b", "pairs", f"{server.url}/b")
    assert got({"big": [big], "small": [small]}, tmp_path) == ["small", "big"]


def test_a_person_reads_what_is_waited_for(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medi_build.ingest.http.PAUSE_SECONDS", 0.0)
    server.faults["/a"] = [Fault(code=429, retry_after="1")]
    heard = Heard()
    got({"one": remotes(server, "a")}, tmp_path, heard)
    assert heard.said[0] == f"one: waiting 1 s for {server.url}/a: HTTP 429 Too Many Requests, the server asks for it"


@pytest.mark.parametrize(
    "fault", [Fault(pause=0.2), Fault(code=429, retry_after="3000")], ids=["slow", "waiting"]
)  # fmt: skip
def test_whoever_stops_listening_stops_the_threads_and_a_later_fetch_goes_on(
    server: Server, tmp_path: Path, fault: Fault
):
    server.files["/a"] = b"a" * 3_000_000
    server.faults["/a"] = [fault]
    started = threading.Event()
    heard = Heard()
    heard.downloaded = lambda done, total: started.set()  # type: ignore[method-assign]
    heard.say = lambda message: started.set()  # type: ignore[method-assign]
    before = threading.active_count()
    with Downloads({"one": remotes(server, "a")}, tmp_path, heard) as coming:
        assert started.wait(30)
        threads = coming._threads
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert list(coming.arrivals()) == []
    assert threading.active_count() <= before + 1  # the server's own
    assert got({"one": remotes(server, "a")}, tmp_path) == ["one"]


def test_a_fault_of_ours_is_raised_where_the_datasets_are_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(downloads, "fetch", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        got({"one": remotes(server, "a")}, tmp_path)


def test_nothing_wanted_is_nothing_fetched(tmp_path: Path):
    assert got({}, tmp_path) == []

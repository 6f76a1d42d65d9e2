"""Transfers over real sockets that are refused, put off, moved and cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from medi_build.errors import FetchError
from medi_build.ingest.fetch import lacking
from medi_build.ingest.http import MOST_WAITING_SECONDS, download, retry_after
from medi_build.ingest.sizes import ask
from tests.ingest.cards import Told, card
from tests.loopback import Fault, Server, serving

BODY = bytes(range(256)) * 1024


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files["/file"] = BODY
        yield server


def get(server: Server, folder: Path, told: Told | None = None, path: str = "/file", known: bool = False) -> bytes:
    download(server.url + path, folder / "part", told or Told(), digest_known=known)
    return (folder / "part").read_bytes()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), (" 0 ", 0.0), (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("²", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None)],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None):
    assert retry_after(header) == seconds


def test_retry_after_a_date():
    asked = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert asked is not None and 90 < asked <= 100


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_asks_to_wait_is_waited_for_and_the_person_told(server: Server, tmp_path: Path, code: int):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    server.faults["/file"] = [Fault(code=code, retry_after="30"), Fault(code=code, retry_after=later)]
    told = Told()
    assert get(server, tmp_path, told) == BODY
    (first, why), (second, _) = told.waits
    assert first == 30.0 and 590 < second <= 600
    assert why.startswith(f"HTTP {code} ") and why.endswith(", the server asks for it")


def test_pauses_grow_the_same_way_every_time_and_end(server: Server, tmp_path: Path):
    for _ in range(2):
        server.faults["/file"] = [Fault(code=503)] * 6
        told = Told()
        with pytest.raises(FetchError, match=r"HTTP 503 .*; 6 tries brought nothing more.*put the file into --data"):
            get(server, tmp_path, told)
        assert [seconds for seconds, _ in told.waits] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert get(server, tmp_path) == BODY


def test_what_is_waited_for_a_file_is_bounded(server: Server, tmp_path: Path):
    server.faults["/file"] = [Fault(code=429, retry_after="2000")] * 2
    told = Told()
    with pytest.raises(FetchError, match=r"asks to wait 2,000 s, of 3,600 s of waiting in all 1,600 are left"):
        get(server, tmp_path, told)
    assert sum(seconds for seconds, _ in told.waits) == 2000 < MOST_WAITING_SECONDS


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("whole", [True, False], ids=["url", "path"])
def test_a_moved_file_is_followed_and_gone_on_with(server: Server, tmp_path: Path, code: int, whole: bool):
    server.files["/new"] = server.files.pop("/file")
    moved = Fault(code=code, location=server.url + "/new" if whole else "/new")
    server.faults |= {"/file": [moved] * 2, "/new": [Fault(cut=5000)]}
    assert get(server, tmp_path) == BODY
    assert [(path, span) for _, path, span in server.asked if path == "/new"] == [
        ("/new", None),
        ("/new", "bytes=5000-"),
    ]


def test_a_circle_is_no_way_and_neither_is_a_file_of_this_machine(server: Server, tmp_path: Path):
    server.faults["/file"] = [Fault(code=302, location="/file")] * 20
    with pytest.raises(FetchError, match="HTTP 302"):
        get(server, tmp_path)
    for place in (f"file://{tmp_path}/secret", "ftp://127.0.0.1:9/secret"):
        (tmp_path / "secret").write_text("secret")
        server.faults["/file"] = [Fault(code=302, location=place)] * 6
        with pytest.raises(FetchError, match=r"HTTP 302|unknown url type"):
            get(server, tmp_path)
        assert not (tmp_path / "part").exists()


def test_bytes_of_one_version_never_stand_beside_the_validator_of_another(server: Server, tmp_path: Path):
    """The new version is cut before its first byte: what is there then must not be taken for a part of it."""
    server.faults["/file"] = [Fault(cut=5000), Fault(code=404)]
    with pytest.raises(FetchError, match="404"):
        get(server, tmp_path)
    server.files["/file"] = BODY[::-1]
    server.faults["/file"] = [Fault(cut=0), Fault(code=404)]
    with pytest.raises(FetchError, match="404"):
        get(server, tmp_path)
    assert get(server, tmp_path) == BODY[::-1]


def test_a_server_without_ranges_is_asked_for_all_again(server: Server, tmp_path: Path):
    server.ranges = False
    server.cut = [5000, 7000]
    assert get(server, tmp_path, known=True) == BODY


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that gives these bytes to whoever connects."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as raw:
        Thread(target=raw.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{raw.server_address[1]}/file"
        raw.shutdown()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc", "invalid literal"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[here\r\n\r\n", "Invalid IPv6 URL"),
        (b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-7/8\r\nContent-Length: 3\r\n\r\nabc", "another part"),
        ("HTTP/1.1 206 Partial\r\nContent-Range: bytes ²-7/8\r\n\r\nabc".encode("latin-1"), "another part"),
    ],
)
def test_a_server_that_talks_nonsense_gives_nothing(tmp_path: Path, answer: bytes, message: str):
    with answering(answer) as url:
        with pytest.raises(FetchError, match=message):
            download(url, tmp_path / "part", Told(), digest_known=False)
        assert not (tmp_path / "part").exists()


def test_a_size_that_is_nonsense_is_none(tmp_path: Path):
    with answering(b"HTTP/1.1 302 Found\r\nLocation: http://[here\r\n\r\n") as url:
        one = card("pairs/one", ("file",), download={"url": url})
        [answer] = ask(lacking(one, ("file",))).values()
    assert (answer.state, answer.why) == ("unknown", "Invalid IPv6 URL")

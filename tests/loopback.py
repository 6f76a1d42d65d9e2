"""A small file server on the loopback interface, with ranges, validators and faults on request."""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one GET; the next of the same path meets the next fault, or none.

    Attributes:
        code: answer with it instead of the file.
        retry_after: header of that answer.
        location: header of that answer.
        cut: close the connection after so many bytes of the body.
        flip: so many of the body's first bytes are wrong.
        pause: seconds before each block of the body.
        gate: the body is sent once this is set; the whole answer to HEAD and to the hub's questions.
    """

    code: int = 0
    retry_after: str = ""
    location: str = ""
    cut: int = -1
    flip: int = 0
    pause: float = 0.0
    gate: Event | None = None


class Server(ThreadingHTTPServer):
    """Serves ``files`` (bytes, or the path of a file) by their paths in the URL.

    ``cut`` and ``refuse`` are faults of whatever is asked for next, ``faults`` those of single paths, ``head_faults``
    those of HEAD, which stay. Of the hub it plays the sizes of all files of a repository, too; a fault of a HEAD there
    is under ``/api/datasets/OWNER/NAME``.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes | Path] = {}
        self.cut: list[int] = []
        self.refuse: list[int] = []
        self.faults: dict[str, list[Fault]] = {}
        self.head_faults: dict[str, Fault] = {}
        self.gated: set[str] = set()
        self.error_code = "EntryNotFound"
        self.tags = True
        self.ranges = True
        self.asked: list[tuple[str, str, str | None]] = []
        self.at_work: dict[str, int] = {}
        self.most_at_work: dict[str, int] = {}
        self._lock = Lock()
        self._tags: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tag(self, path: str) -> str:
        """The validator of a file as it is now; that of a file on disk is taken once."""
        content = self.files[path]
        if isinstance(content, bytes):
            return f'"{hashlib.sha256(content).hexdigest()}"'
        if path not in self._tags:
            with content.open("rb") as file:
                self._tags[path] = f'"{hashlib.file_digest(file, hashlib.sha256).hexdigest()}"'
        return self._tags[path]

    @contextmanager
    def working(self, host: str) -> Iterator[None]:
        """Count how many bodies go to one host at a time."""
        with self._lock:
            self.at_work[host] = self.at_work.get(host, 0) + 1
            self.most_at_work[host] = max(self.most_at_work.get(host, 0), self.at_work[host])
        try:
            yield
        finally:
            with self._lock:
                self.at_work[host] -= 1

    def next_fault(self, path: str) -> Fault:
        with self._lock:
            if self.refuse:
                return Fault(code=self.refuse.pop(0))
            if self.cut:
                return Fault(cut=self.cut.pop(0))
            return self.faults[path].pop(0) if self.faults.get(path) else Fault()


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers until the block ends."""
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        span = self.headers.get("Range")
        self.server.asked.append((self.command, self.path, span))
        if self.path.startswith("/api/datasets/") and self.path not in self.server.files:
            return self.answer_for_hub()
        if not body and (met := self.server.head_faults.get(self.path)):
            if met.gate:
                met.gate.wait(120)
            if met.code:
                return self.refuse(met)
        fault = self.server.next_fault(self.path) if body or self.server.refuse else Fault()
        if fault.code or self.path not in self.server.files:
            return self.refuse(fault)
        content = self.server.files[self.path]
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        tag = self.server.tag(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-", span) if span and self.server.ranges else None
        start = int(asked.group(1)) if asked else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= size and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.server.tags:
            self.send_header("ETag", tag)
        revision = re.search(r"/resolve/([0-9a-f]{40})/", self.path)
        self.send_header("X-Repo-Commit", revision.group(1) if revision else COMMIT)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if body:
            with self.server.working(self.headers["Host"]):
                self.send(content, start, fault)
            self.close_connection = True
        return None

    def answer_for_hub(self) -> None:
        """Names and sizes of the files of a dataset repository, or whether it may be read."""
        owner, name, *rest = urlsplit(self.path).path.removeprefix("/api/datasets/").split("/")
        repository, place = f"{owner}/{name}", f"/datasets/{owner}/{name}/resolve/"
        if met := self.server.head_faults.get(f"/api/datasets/{repository}"):
            if met.gate:
                met.gate.wait(120)
            return self.refuse(met)
        if rest == ["auth-check"]:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if rest and rest[0] != "revision":
            return self.refuse(Fault())
        revision = rest[1] if rest else ""
        files = {}
        for path, content in self.server.files.items():
            at, _, inside = path.removeprefix(place).partition("/")
            if path.startswith(place) and revision in ("", at):
                files[inside] = len(content) if isinstance(content, bytes) else content.stat().st_size
        if not files:
            return self.refuse(Fault(code=404))
        info = {
            "id": repository, "sha": COMMIT, "gated": "manual" if repository in self.server.gated else False,
            "siblings": [{"rfilename": path, "size": size} for path, size in files.items()],
        }  # fmt: skip
        body = json.dumps(info).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def refuse(self, fault: Fault) -> None:
        self.send_response(fault.code or 404)
        if fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        if fault.location:
            self.send_header("Location", fault.location)
        if fault.code in (0, 403, 404):
            self.send_header("X-Error-Code", self.server.error_code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes | Path, start: int, fault: Fault) -> None:
        if fault.gate:
            fault.gate.wait(120)
        left, flip = fault.cut, fault.flip
        for block in blocks(content, start):
            piece = block if left < 0 else block[:left]
            wrong = bytes(byte ^ 1 for byte in piece[:flip])
            time.sleep(fault.pause)
            try:
                self.wfile.write(wrong + piece[len(wrong) :])
            except OSError:
                return  # whoever asked went away
            flip -= len(wrong)
            left -= len(piece) if left > 0 else 0
            if left == 0:
                return

    def log_message(self, *_: object) -> None:
        pass


def blocks(content: bytes | Path, start: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[at : at + BLOCK] for at in range(start, len(content), BLOCK))
        return
    with content.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK):
            yield block

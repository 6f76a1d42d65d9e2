"""A small file server on the loopback interface, with ranges, validators and faults on request."""

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves ``files`` with ranges and validators; ``cut`` closes a connection after so many bytes of a body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.refuse: list[int] = []
        self.error_code = "EntryNotFound"
        self.tags = True
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        span = self.headers.get("Range")
        self.server.asked.append((self.command, self.path, span))
        content = self.server.files.get(self.path)
        if self.server.refuse or content is None:
            self.send_response(self.server.refuse.pop(0) if self.server.refuse else 404)
            self.send_header("X-Error-Code", self.server.error_code)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = int(re.fullmatch(r"bytes=(\d+)-", span).group(1)) if span else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.tags:
            self.send_header("ETag", tag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            end = start + self.server.cut.pop(0) if self.server.cut else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True
        return None

    def log_message(self, *_: object) -> None:
        pass

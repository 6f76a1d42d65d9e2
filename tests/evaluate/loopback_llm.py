"""An OpenAI-compatible server on the loopback interface, with faults on request."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """What the next POST meets: another code, another body, or silence until the gate is set."""

    code: int = 200
    body: bytes | None = None
    retry_after: str = ""
    gate: Event | None = None


class Server(ThreadingHTTPServer):
    """Answers each prompt with what ``answer`` makes of it; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.faults: list[Fault] = []
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.stop_after: int | None = None
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [prompt_in(body) for body in self.asked]


@contextmanager
def serving(answer: Callable[[str], str]) -> Iterator[Server]:
    with Server(answer) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append(body)
            server.paths.append(self.path)
            server.keys.append(self.headers.get("Authorization"))
            fault = server.faults.pop(0) if server.faults else Fault()
            silent = server.stop_after is not None and len(server.asked) > server.stop_after
        if fault.gate or silent:
            (fault.gate or Event()).wait(60)
        chat = self.path.endswith("/chat/completions")
        text = server.answer(prompt_in(body))
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        data = fault.body if fault.body is not None else json.dumps({"choices": [choice]}).encode()
        try:
            self.send_response(fault.code)
            if fault.retry_after:
                self.send_header("Retry-After", fault.retry_after)
            if fault.code == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            return  # whoever asked went away

    def log_message(self, *_: object) -> None:
        pass


def prompt_in(body: dict[str, Any]) -> str:
    return str(body["prompt"] if "prompt" in body else body["messages"][0]["content"])

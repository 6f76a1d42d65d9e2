"""The server: Datasette with pages of ours, on this machine's loopback alone."""

import asyncio
import errno
import os
import re
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pluggy
import uvicorn
from datasette.app import Datasette
from datasette.database import Database
from datasette.plugins import pm
from datasette.utils.asgi import Response

from medi_build.browse.guard import LOOPBACK, App, Guard
from medi_build.browse.pages import DATABASE
from medi_build.dataset.report.samples import visible
from medi_build.errors import MediError, OptionError
from medi_build.pages import render

hookimpl = pluggy.HookimplMarker("datasette")
HERE = Path(__file__).parent
SETTINGS = {
    "sql_time_limit_ms": 10_000,
    "default_allow_sql": False,
    "allow_download": False,
    "allow_facet": False,
    "suggest_facets": False,
    "num_sql_threads": 3,
}
MAPPED = 4 << 30
"""Bytes of the file that are mapped into memory, if it has so many."""


class Pages(Protocol):
    """Pages that can be served."""

    def routes(self) -> list[tuple[str, Any]]:
        """Paths, as regular expressions, and what answers them."""


class _Plugin:
    """What Datasette asks us; it takes plugins for modules, which have a name."""

    __name__ = __name__

    def __init__(self, pages: Pages, guard: Guard) -> None:
        self._guard = guard
        self._routes = [
            *pages.routes(),
            (r"^/style\.css$", _style),
            (r"^/keys\.js$", _script),
            (r"^/favicon\.ico$", _icon),
        ]

    @hookimpl
    def register_routes(self) -> list[tuple[str, Any]]:
        return self._routes

    @hookimpl
    def asgi_wrapper(self) -> Callable[[App], App]:
        return lambda inner: self._guard.app(inner, self._is_page)

    @hookimpl
    def skip_csrf(self) -> bool:
        return True  # the guard and the pages check tokens of their own, which need no cookie of Datasette's

    @hookimpl
    def prepare_connection(self, conn: Any) -> None:
        conn.execute(f"PRAGMA mmap_size = {MAPPED}")

    @hookimpl
    def handle_exception(self, exception: Exception) -> Response | None:
        if isinstance(exception, MediError):
            return Response.text(visible(str(exception)), status=500)
        return None

    def _is_page(self, path: str) -> bool:
        return any(re.match(regex, path) for regex, _ in self._routes)


@contextmanager
def application(pages: Pages, guard: Guard, file: Path | None) -> Iterator[App]:
    """The pages as an application, behind the guard; ``file`` is the SQLite file that they ask, if they ask one."""
    plugin = _Plugin(pages, guard)
    pm.register(plugin)
    try:
        # What Datasette would count and digest at the start of a large file is told to it: nothing of it is shown.
        told = {DATABASE: {"hash": "0" * 64, "size": 0, "file": str(file), "tables": {}}} if file else {}
        served = Datasette(
            inspect_data=told,
            template_dir=str(HERE),
            settings=SETTINGS,
            memory=file is None,
        )
        if file is not None:
            served.add_database(Database(served, str(file), is_mutable=False), name=DATABASE)
        yield served.app()
    finally:
        pm.unregister(plugin)


@contextmanager
def bound(port: int) -> Iterator[socket.socket]:
    """A socket on the loopback; port 0 is any that is free.

    Raises:
        OptionError: the port is in use, or not ours to take.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        if os.name == "posix":  # a port that was left a moment ago is free
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((LOOPBACK, port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be taken ({error.strerror or error})"
            raise OptionError(f"--port {port}: {why}; give another, or --port 0 for any that is free") from error
        yield taken


def serve(
    pages: Callable[[Guard], Pages], file: Path | None, port: int, tell: Callable[[str], None], *, opens: bool
) -> None:
    """Serve until Ctrl-C, which is no error here; to be called in the main thread.

    Args:
        pages: makes them; they need the guard's token in their forms.
        file: the SQLite file that they ask.
        port: 0 for any that is free.
        tell: is given the address, once it answers.
        opens: open it in a browser.

    Raises:
        OptionError: the port is in use.
    """
    with bound(port) as taken:
        own = int(taken.getsockname()[1])
        guard = Guard(own)
        address = f"http://{LOOPBACK}:{own}/?token={guard.token}"
        with application(pages(guard), guard, file) as app:
            config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
            server = uvicorn.Server(config)

            async def run() -> None:
                serving = asyncio.create_task(server.serve(sockets=[taken]))
                while not server.started and not serving.done():
                    await asyncio.sleep(0.02)
                if server.started:
                    tell(address)
                    if opens:
                        await asyncio.to_thread(webbrowser.open, address)
                await serving

            before = signal.signal(signal.SIGINT, lambda *_: None)  # uvicorn ends at it, and then raises it again
            try:
                asyncio.run(run())
            finally:
                signal.signal(signal.SIGINT, before)


async def _style() -> Response:
    own = (HERE / "style.css").read_text(encoding="utf-8")
    shared = (render.HERE / "page.css").read_text(encoding="utf-8")
    return Response(shared + own, content_type="text/css; charset=utf-8")


async def _icon() -> Response:
    return Response("", status=204)


async def _script() -> Response:
    return Response((HERE / "keys.js").read_text(encoding="utf-8"), content_type="text/javascript; charset=utf-8")

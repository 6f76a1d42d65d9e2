"""Who may ask: this machine alone, by this server's name, with the token that was printed when it started."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

LOOPBACK = "127.0.0.1"
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'; "
        b"base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Stands before the pages.

    The rules of a browser keep other pages out only together with these checks: ``Host`` names this server (a name that
    was made to point here later does not); the path is one of ours, whatever else Datasette has; and a cookie has the
    token, which came with the first address. So no other user of the machine sees the records or marks one.

    Attributes:
        token: of this run.
        form_token: what a form has to bring beside it; no other page can read it.
    """

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(18)
        self.form_token = hmac.digest(self.token.encode(), b"form", hashlib.sha256).hex()
        self._hosts = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}
        self._cookie = f"medi-browse-{port}"

    def app(self, inner: App, is_page: Callable[[str], bool]) -> App:
        """The pages behind the checks; ``is_page`` tells whether a path is one of ours."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return

            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    own = {name for name, _ in _HEADERS}
                    kept = [one for one in message.get("headers", ()) if one[0].lower() not in own]
                    message = {**message, "headers": [*kept, *_HEADERS]}
                await send(message)

            refusal = self._refusal(scope, is_page)
            if refusal is None:
                await inner(scope, receive, sent)
            else:
                await _answer(sent, *refusal)

        return guarded

    def knows_form(self, given: str) -> bool:
        """Whether a form came from one of our pages."""
        return hmac.compare_digest(given.encode(), self.form_token.encode())

    def _refusal(
        self, scope: Scope, is_page: Callable[[str], bool]
    ) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        """Status, text and headers of the answer to who may not go on; None for who may."""
        headers = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 403, "This server answers under its own address alone.", []
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if scope["method"] not in ("GET", "HEAD") and any(one != f"http://{hosts[0]}" for one in origins):
            return 403, "This form came from another page.", []
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if given and hmac.compare_digest(given[0].encode(), self.token.encode()):
            cookie = f"{self._cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return 303, "", [(b"set-cookie", cookie.encode()), (b"location", b"/")]
        if not any(hmac.compare_digest(one.encode(), self.token.encode()) for one in self._cookies(headers)):
            return 403, "Open the address that `medi browse` printed: it has the token of this run.", []
        if not is_page(scope["path"]):
            return 404, "There is no such page.", []
        return None

    def _cookies(self, headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
        found = []
        for name, value in headers:
            if name == b"cookie":
                try:
                    cookie = SimpleCookie(value.decode("latin-1")).get(self._cookie)
                except CookieError:
                    continue
                found += [cookie.value] if cookie is not None else []
        return found


async def _answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = text.encode()
    about = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})

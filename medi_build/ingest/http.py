"""One file over HTTP: resumed where an earlier transfer broke off, from the standard library alone."""

import http.client
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from medi_build.errors import FetchError

TIMEOUT_SECONDS = 60
ATTEMPTS = 6
"""A transfer is given up after so many tries in a row that brought no new byte."""
PAUSE_SECONDS = 1.0
"""Before the second of such tries; before the next twice as much each time."""
MOST_WAITING_SECONDS = 3600.0
"""All pauses of a transfer together; a server that asks for more is not waited for."""
_BLOCK_BYTES = 1 << 20
_PASSING = (408, 425, 429)


class Stopped(BaseException):
    """Raised by a `Watch` to end a transfer; not an Exception, so that nothing on the way takes it for an error."""


class Watch:
    """What a transfer tells while it runs. One that wants to know, or to stop it, has methods of its own."""

    def advance(self, done: int, total: int) -> None:
        """So many bytes are done of so many (0 where the server does not tell). May raise `Stopped`."""

    def wait(self, seconds: float, why: str) -> None:
        """Let some time pass before the next try. May raise `Stopped`."""
        time.sleep(seconds)

    def say(self, message: str) -> None:
        """Something that a person should know."""


class Patience:
    """How often and how long one transfer tries again: the same pauses every time, as long as the server asks for."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._fruitless = 0
        self._waited = 0.0

    def again(self, problem: str, progressed: bool, asked: float | None = None) -> None:
        """Wait before the next try.

        Args:
            problem: why the last one ended.
            progressed: whether it brought bytes.
            asked: seconds that the server wants to be left alone; None if it says nothing.

        Raises:
            FetchError: it was tried often enough, or the server asks for too long a wait.
        """
        self._fruitless = 0 if progressed else self._fruitless + 1
        if self._fruitless == ATTEMPTS:
            raise FetchError(f"{problem}; {ATTEMPTS} tries brought nothing more")
        pause = max(PAUSE_SECONDS * 2 ** (self._fruitless - 1) if self._fruitless else 0.0, asked or 0.0)
        left = MOST_WAITING_SECONDS - self._waited
        if pause > left:
            raise FetchError(
                f"{problem}; the server asks to wait {pause:,.0f} s, of {MOST_WAITING_SECONDS:,.0f} s of waiting "
                f"in all {left:,.0f} are left"
            )
        self._waited += pause
        why = f"{problem}, the server asks for it" if asked and asked >= pause else problem
        self._watch.wait(pause, why)


def download(url: str, part: Path, watch: Watch, digest_known: bool) -> None:
    """Bring the whole of ``url`` into ``part``, going on from the bytes that are there already.

    What is there is only kept if it belongs to the same file: the server's validator (``ETag`` or
    ``Last-Modified``) stands beside it and is sent along as ``If-Range``. A server without one is asked for the rest
    only if ``digest_known``, for then the caller notices a mixture of two files.

    Raises:
        FetchError: the server refuses, keeps breaking off, or the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url}: only http:// and https:// can be fetched; put the file into --data by hand")
    patience = Patience(watch)
    while True:
        before = _size(part)
        asked = None
        try:
            if _attempt(url, part, watch, digest_known):
                _validator_file(part).unlink(missing_ok=True)
                return
            problem = f"the connection closed after {_size(part)} bytes"
        except HTTPError as error:
            if not is_passing(error.code):
                raise FetchError(f"{url}: HTTP {error.code} {error.reason}; {_advice(error.code)}") from error
            problem, asked = f"HTTP {error.code} {error.reason}", retry_after(error.headers.get("Retry-After"))
        except (URLError, http.client.HTTPException, OSError, ValueError) as error:  # ValueError: a header is nonsense
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        try:
            patience.again(problem, _size(part) > before, asked)
        except FetchError as error:
            raise FetchError(
                f"{url}: {error}. Run the same command again to go on from {_size(part)} bytes, or put the file into "
                "--data by hand"
            ) from error


def ask_size(url: str, timeout: float) -> int:
    """Bytes of what a URL gives, 0 if the server does not tell; nothing of it is read.

    That HEAD is refused means nothing unless GET is refused, too: some servers know GET alone.

    Raises:
        HTTPError, URLError, HTTPException, OSError: as they come.
    """
    headers, opener = {"User-Agent": "medi-build", "Accept-Encoding": "identity"}, opener_to_web()
    whole, first_byte = (
        Request(url, headers=headers, method="HEAD"),
        Request(url, headers=headers | {"Range": "bytes=0-0"}),
    )
    try:
        with opener.open(whole, timeout=timeout) as response:
            return _whole_size(response.headers)
    except HTTPError as error:
        error.close()
        if is_passing(error.code):
            raise
    with opener.open(first_byte, timeout=timeout) as response:
        return _whole_size(response.headers)


def _whole_size(headers: http.client.HTTPMessage) -> int:
    """Bytes of the file behind an answer, which may be a part of it; 0 if it does not say."""
    text: str = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def is_passing(code: int) -> bool:
    """Whether an answer of this code may be another one after a while."""
    return code >= 500 or code in _PASSING


def retry_after(header: str | None) -> float | None:
    """Seconds that ``Retry-After`` asks for, a number or a date (RFC 9110, 10.2.3); None if it says nothing."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _attempt(url: str, part: Path, watch: Watch, digest_known: bool) -> bool:
    """One request; tell whether ``part`` is complete now."""
    start = _size(part)
    validator = _validator_file(part).read_text(encoding="utf-8") if _validator_file(part).is_file() else ""
    headers = {"User-Agent": "medi-build", "Accept-Encoding": "identity"}
    if start and (validator or digest_known):
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
    try:
        opener, request = opener_to_web(), Request(url, headers=headers)
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True
        part.unlink()  # longer than the file: not a part of it
        return False
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and _range_start(response.headers) == start
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and not resumed:
            raise http.client.HTTPException("the server sent another part of the file than the one asked for")
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        watch.advance(done, total)
        if not resumed:  # in this order: bytes of one version must never stand beside the validator of another
            _write(part, "wb", b"")
            _write(_validator_file(part), "wb", _validator(response.headers).encode())
        while block := response.read(_BLOCK_BYTES):
            _write(part, "ab", block)
            done += len(block)
            watch.advance(done, total)
    return total in (0, done)


def opener_to_web(*, follow: bool = True) -> OpenerDirector:
    """Goes through the environment's proxies to nowhere but http and https, and follows what was moved unless told."""
    opener = OpenerDirector()
    handlers = [ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor, UnknownHandler]
    for handler in [*handlers, HTTPRedirectHandler] if follow else handlers:
        opener.add_handler(handler())
    return opener


def _write(path: Path, mode: str, data: bytes) -> None:
    try:
        with path.open(mode) as file:
            file.write(data)
    except OSError as error:
        raise FetchError(
            f"{path}: cannot be written ({error.strerror or error}); make room, then run the same command again: "
            "the transfer goes on where it stopped"
        ) from error


def _validator(headers: http.client.HTTPMessage) -> str:
    """What identifies this version of the file; weak tags do not vouch for single bytes (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _range_start(headers: http.client.HTTPMessage) -> int:
    """First byte of ``Content-Range: bytes 100-199/200``; -1 if there is none."""
    unit, _, span = headers.get("Content-Range", "").partition(" ")
    first = span.split("-")[0]
    return int(first) if unit == "bytes" and first.isascii() and first.isdigit() else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _advice(code: int) -> str:
    if code in (401, 403):
        return "access is restricted; get the file by hand and put it into --data"
    return "the address in the card may be out of date; put the file into --data by hand"

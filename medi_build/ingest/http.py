"""One file over HTTP: resumed where an earlier transfer broke off, from the standard library alone."""

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from medi_build.errors import FetchError

Advance = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 where the server does not tell)."""

TIMEOUT_SECONDS = 60
ATTEMPTS = 4
"""A transfer is given up after so many tries in a row that brought no new byte."""
PAUSE_SECONDS = 1.0
"""Before the second fruitless try; twice and three times that before the next."""
_BLOCK_BYTES = 1 << 20
_PASSING = (408, 425, 429)


def download(url: str, part: Path, advance: Advance, digest_known: bool) -> None:
    """Bring the whole of ``url`` into ``part``, going on from the bytes that are there already.

    What is there is only kept if it belongs to the same file: the server's validator (``ETag`` or
    ``Last-Modified``) stands beside it and is sent along as ``If-Range``. A server without one is asked for the rest
    only if ``digest_known``, for then the caller notices a mixture of two files.

    Raises:
        FetchError: the server refuses, keeps breaking off, or the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url}: only http:// and https:// can be fetched; put the file into --data by hand")
    failures = 0
    while True:
        before = _size(part)
        try:
            if _attempt(url, part, advance, digest_known):
                _validator_file(part).unlink(missing_ok=True)
                return
            problem = f"the connection closed after {_size(part)} bytes"
        except HTTPError as error:
            if error.code < 500 and error.code not in _PASSING:
                raise FetchError(f"{url}: HTTP {error.code} {error.reason}; {_advice(error.code)}") from error
            problem = f"HTTP {error.code} {error.reason}"
        except (URLError, http.client.HTTPException, OSError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise FetchError(
                f"{url}: {problem}; {ATTEMPTS} tries brought nothing more. Run the same command again to go on from "
                f"{_size(part)} bytes, or put the file into --data by hand"
            )
        time.sleep(PAUSE_SECONDS * failures)


def _attempt(url: str, part: Path, advance: Advance, digest_known: bool) -> bool:
    """One request; tell whether ``part`` is complete now."""
    start = _size(part)
    validator = _validator_file(part).read_text(encoding="utf-8") if _validator_file(part).is_file() else ""
    headers = {"User-Agent": "medi-build", "Accept-Encoding": "identity"}
    if start and (validator or digest_known):
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True
        part.unlink()  # longer than the file: not a part of it
        return False
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and _range_start(response.headers) == start
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        if not resumed:
            _write(_validator_file(part), "wb", _validator(response.headers).encode())
            _write(part, "wb", b"")
        while block := response.read(_BLOCK_BYTES):
            _write(part, "ab", block)
            done += len(block)
            advance(done, total)
    return total in (0, done)


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
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _advice(code: int) -> str:
    if code in (401, 403):
        return "access is restricted; get the file by hand and put it into --data"
    return "the address in the card may be out of date; put the file into --data by hand"

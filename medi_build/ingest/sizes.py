"""Asks the servers whether files are there and how large they are, without fetching one: all at once, and not for long.

A server that is busy, broken or silent says nothing about its files; only one that says no is believed.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple
from urllib.error import HTTPError, URLError

from medi_build.ingest.http import ask_size
from medi_build.ingest.remotes import Remote
from medi_build.secrets import redacted

AT_ONCE = 8
TIMEOUT_SECONDS = 10.0
"""For one question."""
PATIENCE_SECONDS = 30.0
"""For all of them; what is not answered by then is unknown."""
_LOOK_UP_SECONDS = 0.2


class Answer(NamedTuple):
    """What a server says of a file.

    Attributes:
        state: ``found``; ``missing`` (404, 410, no such repository, revision or file); ``refused`` (401, 403, gated);
            ``unknown`` (no answer that tells).
        size: bytes; 0 if they are not told.
        why: in words, empty where it is found.
    """

    state: Literal["found", "missing", "refused", "unknown"]
    size: int = 0
    why: str = ""


_Question = Callable[[], dict[str, Answer]]


def ask(remotes: Iterable[Remote], patience: float = PATIENCE_SECONDS) -> dict[str, Answer]:
    """What the servers say of the files' transfers: `Remote.transfer` -> answer, one for each.

    A repository of the hub is asked once for all of its files, any other file by HEAD.

    Args:
        remotes: the files; several of one transfer are one question.
        patience: seconds after which the questions that are open are given up.
    """
    wanted = list(remotes)
    answers: dict[str, Answer] = {}
    came: SimpleQueue[dict[str, Answer] | Exception] = SimpleQueue()
    questions = _questions(wanted)
    count = len(questions)
    for _ in range(min(AT_ONCE, count)):
        threading.Thread(target=_work, args=(questions, came), daemon=True).start()
    end = time.monotonic() + patience
    while count and (left := end - time.monotonic()) > 0:
        try:
            one = came.get(timeout=min(left, _LOOK_UP_SECONDS))  # short, so that Ctrl-C is heard
        except Empty:
            continue
        if isinstance(one, Exception):
            raise one
        answers |= one
        count -= 1
    questions.clear()
    late = Answer("unknown", why=f"no answer in {patience:,.0f} s")
    return {remote.transfer: answers.get(remote.transfer, late) for remote in wanted}


def _work(questions: list[_Question], came: "SimpleQueue[dict[str, Answer] | Exception]") -> None:
    while questions:
        try:
            question = questions.pop(0)
        except IndexError:  # another thread took the last one
            return
        try:
            came.put(question())
        except Exception as error:  # a fault of ours: raised where the answers are waited for
            came.put(error)


def _questions(remotes: Sequence[Remote]) -> list[_Question]:
    repositories: dict[tuple[str, str], list[Remote]] = {}
    for remote in remotes:
        if remote.hub:
            repositories.setdefault((remote.hub, remote.revision), []).append(remote)
    urls = {remote.transfer: remote.url for remote in remotes if not remote.hub}
    return [
        *(partial(_ask_hub, *one) for one in repositories.items()),
        *(partial(_ask_url, *one) for one in urls.items()),
    ]


def _ask_url(transfer: str, url: str) -> dict[str, Answer]:
    try:
        return {transfer: Answer("found", ask_size(url, TIMEOUT_SECONDS))}
    except HTTPError as error:
        error.close()
        return {transfer: _refusal(error.code, f"HTTP {error.code} {error.reason}")}
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        return {transfer: Answer("unknown", why=str(getattr(error, "reason", error)) or type(error).__name__)}


def _ask_hub(repository: tuple[str, str], remotes: Sequence[Remote]) -> dict[str, Answer]:
    from huggingface_hub import errors

    try:
        sizes = _sizes_on_hub(*repository)
    except errors.GatedRepoError:
        why = "the repository is gated; accept its terms on the hub and log in with `hf auth login`"
        answer = Answer("refused", why=why)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        answer = Answer("missing", why=type(error).__name__.removesuffix("Error"))
    except Exception as error:  # the hub's library lets those of its HTTP client through, whichever it uses
        told = redacted(next(iter(str(error).splitlines()), "")) or type(error).__name__
        answer = _refusal(getattr(getattr(error, "response", None), "status_code", 0), told)
    else:
        absent = Answer("missing", why="the repository has no such file")
        found = {path: Answer("found", size) for path, size in sizes.items()}
        return {remote.transfer: found.get(remote.path, absent) for remote in remotes}
    return {remote.transfer: answer for remote in remotes}


def _sizes_on_hub(name: str, revision: str) -> Mapping[str, int]:
    """Path -> bytes of all files of a dataset repository that may be read."""
    from huggingface_hub import HfApi

    api, known = HfApi(), None if revision == "unconfirmed" else revision
    info = api.dataset_info(name, revision=known, files_metadata=True, timeout=TIMEOUT_SECONDS)
    if info.gated:  # which hides the files, not their names
        api.auth_check(name, repo_type="dataset")
    return {file.rfilename: file.size or 0 for file in info.siblings or []}


def _refusal(code: int, why: str) -> Answer:
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return Answer("missing", why=why)
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Answer("refused", why=why)
    return Answer("unknown", why=why)

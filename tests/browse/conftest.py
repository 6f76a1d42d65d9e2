"""A build of hostile and of plain texts, its pages as an application, and what asks them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from medi_build.browse.guard import App, Guard
from medi_build.browse.marks_file import MarksFile
from medi_build.browse.pages import RecordPages, Source
from medi_build.browse.records_file import groups, records_file
from medi_build.browse.serve import application
from medi_build.dataset.reader import BuiltDataset, open_dataset
from tests.dataset.built import write_built

HOSTILE = (
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "</bdi></details></main><h1>out</h1>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnihtemos \u0007 bell \u0000 nul",
    "w" * 1_000_000,
    "😀" * 400,
    "quote \" ' & < javascript:alert(1)",
    "'; DROP TABLE records; --",
)
PORT = 8475


def records() -> list[dict[str, Any]]:
    """Two datasets, one of hostile texts."""
    return [
        {
            "task_id": task,
            "id": f"toy/{task}/{number}",
            **{side: ["Represent it:", f"{text} {side}"] for side in ("query", "pos", "neg")},
            "hard_negatives": [f"{text} further"],
            "hard_negative_scores": [0.1],
            "hard_negative_ranks": [4],
            "pos_score": 0.5 + number / 1000,
            "neg_score": 0.6 if task == 2 and number % 2 else 0.2,
            "miner": "given" if number % 5 == 0 else "dense",
            "source_file": f"<b>{task}</b>.jsonl",
            "source_row": number + 1,
        }
        for task, texts in ((1, HOSTILE), (2, [f"plain number {number}" for number in range(40)]))
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltDataset:
    return open_dataset(write_built(tmp_path_factory.mktemp("browse") / "built", records()))


@pytest.fixture(scope="session")
def file(built: BuiltDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records_file(built, tmp_path_factory.mktemp("cache"), lambda *_: None)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


class Asking:
    """Sends requests to an application, as a browser with the cookie would unless it is told otherwise."""

    def __init__(self, app: App, guard: Guard, marks: MarksFile) -> None:
        self._app, self.guard, self.marks = app, guard, marks

    def __call__(
        self,
        path: str,
        method: str = "GET",
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        cookie: bool = True,
    ) -> Answer:
        given = {"host": f"127.0.0.1:{PORT}"} | ({"cookie": f"medi-browse-{PORT}={self.guard.token}"} if cookie else {})
        given |= {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
        return asyncio.run(self._ask(path, method, urlencode(form or {}).encode(), given | (headers or {})))

    async def _ask(self, path: str, method: str, body: bytes, headers: dict[str, str]) -> Answer:
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": plain,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        told = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], told, b"".join(one.get("body", b"") for one in sent[1:]).decode())


@pytest.fixture
def ask(built: BuiltDataset, file: Path, tmp_path: Path) -> Iterator[Asking]:
    guard, marks = Guard(PORT), MarksFile(tmp_path / "marks.jsonl")
    pages = RecordPages(Source("built", built, groups(file), marks, guard, tmp_path / "none"))
    with application(pages, guard, file) as app:
        yield Asking(app, guard, marks)


Ask = Callable[..., Answer]

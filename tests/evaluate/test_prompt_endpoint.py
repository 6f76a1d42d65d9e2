"""An endpoint on the loopback interface: what it is asked, what it may answer, and who is asked again."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.complete import Asked, answers_path, complete
from medi_build.evaluate.prompt_retrieval.endpoint import AT_ONCE, Endpoint, _UntilStopped
from medi_build.ingest import http
from tests.evaluate.loopback_llm import Fault, Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda prompt: f"answer to {prompt}") as running:
        yield running


def asked(*prompts: str) -> list[Asked]:
    return [Asked(prompt, (), ("\n\n",), 5) for prompt in prompts]


def test_completions_are_asked_as_the_api_wants_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(server.url, "some/model")
    endpoint.check()
    assert complete(endpoint, asked("a", "b", "a"), tmp_path) == (["answer to a", "answer to b", "answer to a"], 0)
    assert sorted(server.prompts) == ["a", "b"]  # what stands there twice is asked once
    body = server.asked[server.prompts.index("a")]
    assert body == {
        "model": "some/model", "prompt": "a", "max_tokens": 5, "temperature": 0, "stop": ["\n\n"],
    }  # fmt: skip
    assert set(server.paths) == {"/v1/completions"}
    assert set(server.keys) == {None}
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    complete(endpoint, asked("c"), tmp_path)
    assert server.keys[-1] == "Bearer secret"
    assert "secret" not in answers_path(tmp_path, endpoint).read_text()
    assert "secret" not in str(endpoint.about)


@pytest.mark.parametrize(
    "path", ["", "/v1", "/v1/", "/v1/completions", "/v1/chat/completions", "/proxy/chat/completions"]
)
def test_addresses(server: Server, tmp_path: Path, path: str) -> None:
    endpoint = Endpoint(server.url.removesuffix("/v1") + path, "model")
    assert complete(endpoint, asked("a"), tmp_path) == (["answer to a"], 0)
    [used] = server.paths
    assert used == (path if path.endswith("completions") else "/v1/completions")
    assert ("messages" in server.asked[0]) == ("chat" in path)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "http://host/v1?key=1"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(EvaluationError, match="has to be an address such as"):
        Endpoint(url, "model")


def test_what_was_answered_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    endpoint = Endpoint(server.url, "model")
    complete(endpoint, asked("a", "b"), tmp_path)
    told: list[tuple[int, int]] = []
    answers, kept = complete(endpoint, asked("b", "c", "a"), tmp_path, lambda *at: told.append(at))
    assert (answers, kept) == (["answer to b", "answer to c", "answer to a"], 2)
    assert server.prompts[2:] == ["c"]
    assert told == [(2, 3), (3, 3)]
    complete(endpoint, [Asked("a", (), (), 6)], tmp_path)  # another question: it may be longer
    complete(Endpoint(server.url, "other"), asked("a"), tmp_path)  # another model
    complete(Endpoint(f"{server.url}/chat/completions", "model"), asked("a"), tmp_path)
    assert len(server.asked) == 6


def test_a_line_that_a_kill_cut_off_is_asked_again(server: Server, tmp_path: Path) -> None:
    endpoint = Endpoint(server.url, "model")
    complete(endpoint, asked("a", "b"), tmp_path)
    path = answers_path(tmp_path, endpoint)
    path.write_bytes(path.read_bytes()[:-7])
    assert complete(endpoint, asked("a", "b"), tmp_path) == (["answer to a", "answer to b"], 1)
    assert complete(endpoint, asked("a", "b"), tmp_path)[1] == 2
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(EvaluationError, match=r"model\.jsonl:1: is no answer that was kept"):
        complete(endpoint, asked("a"), tmp_path)


def test_a_busy_server_is_waited_for(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(_UntilStopped, "wait", lambda self, seconds, why: waits.append(seconds))
    server.faults = [Fault(429, retry_after="7"), Fault(503), Fault(500)]
    assert complete(Endpoint(server.url, "model"), asked("a"), tmp_path) == (["answer to a"], 0)
    assert waits == [7.0, 0.002, 0.004]


def test_a_server_that_stays_busy_is_given_up_and_answers_are_kept(server: Server, tmp_path: Path) -> None:
    endpoint = Endpoint(server.url, "model")
    complete(endpoint, asked("a"), tmp_path)
    server.faults = [Fault(503)] * 6
    with pytest.raises(EvaluationError, match=r"HTTP 503 .*; 6 tries brought nothing more; answers so far are kept"):
        complete(endpoint, asked("b"), tmp_path)
    assert complete(endpoint, asked("a", "b"), tmp_path)[1] == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(body=b"<html>hello</html>"), r"answered without a text in choices\[0\]\.text: '<html>hello"),
        (Fault(body=b'{"choices": []}'), "answered without a text"),
        (Fault(body=b'{"choices": [{"text": null}]}'), "answered without a text"),
        (Fault(body=b'{"choices": [{"message": {"content": "a"}}]}'), "OpenAI-compatible endpoint for completions"),
        (Fault(body=b"[]"), "answered without a text"),
        (Fault(401, b'{"error": "no key"}'), r'HTTP 401 .*: \{"error": "no key"\}; set OPENAI_API_KEY'),
        (Fault(404), "the model's name there as --llm"),
        (Fault(400, b"context length exceeded"), "context length exceeded; see what it says; .* smaller --budget"),
        (Fault(302), "HTTP 302"),
    ],
)
def test_nonsense_and_refusals_are_told_at_once(server: Server, tmp_path: Path, fault: Fault, told: str) -> None:
    server.faults = [fault]
    with pytest.raises(EvaluationError, match=told):
        complete(Endpoint(server.url, "model"), asked("a"), tmp_path)
    assert len(server.asked) == 1


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.stop_after = 0
    with pytest.raises(EvaluationError, match="timed out; 6 tries brought nothing more"):
        complete(Endpoint(server.url, "model", timeout=0.05), asked("a"), tmp_path)


def test_nobody_there_is_told_before_anything_is_asked() -> None:
    with serving(str) as gone:
        url = gone.url
    with pytest.raises(EvaluationError, match=r"does not answer .*; start the server"):
        Endpoint(url, "model").check()


def test_a_few_are_asked_at_a_time(server: Server, tmp_path: Path) -> None:
    gate: Any = Event()
    server.faults = [Fault(gate=gate)] * 50
    going = Endpoint(server.url, "model").answers(asked(*map(str, range(20))))
    opened = Event()

    def open_gate() -> None:
        while len(server.asked) < AT_ONCE:
            opened.wait(0.01)
        opened.wait(0.1)  # time for one too many
        at_first.append(len(server.asked))
        gate.set()

    from threading import Thread

    at_first: list[int] = []
    Thread(target=open_gate, daemon=True).start()
    assert sorted(number for number, _ in going) == list(range(20))
    assert at_first == [AT_ONCE]

"""Servers asked for files and sizes: real requests to a server on this machine."""

from collections.abc import Iterator
from threading import Event

import pytest

from medi_build.ingest.remotes import Remote
from medi_build.ingest.sizes import ask
from tests.loopback import COMMIT, Fault, Server, serving

REPOSITORY = "/datasets/someone/pairs/resolve"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        yield server


def at(server: Server, *paths: str) -> list[Remote]:
    return [Remote(path, "pairs", f"{server.url}/{path}") for path in paths]


def on_hub(*paths: str, revision: str = COMMIT, name: str = "someone/pairs") -> list[Remote]:
    return [Remote(path, "pairs", path, hub=name, revision=revision) for path in paths]


def states(answers: dict[str, object]) -> list[tuple[str, int]]:
    return [(one.state, one.size) for one in answers.values()]  # type: ignore[attr-defined]


def test_each_file_is_asked_for_by_head_and_nothing_is_fetched(server: Server) -> None:
    server.files = {"/a": b"12345", "/b": b"", "/all.tar": b"x" * 1000}
    members = [Remote(name, "pairs", name, archive=f"{server.url}/all.tar") for name in ("one", "two")]
    answers = ask([*at(server, "a", "b"), *members])
    assert list(answers) == [f"{server.url}/{name}" for name in ("a", "b", "all.tar")]
    assert states(answers) == [("found", 5), ("found", 0), ("found", 1000)]
    assert sorted(server.asked) == [("HEAD", path, None) for path in ("/a", "/all.tar", "/b")]


def test_only_a_server_that_says_no_is_believed(server: Server) -> None:
    server.files = dict.fromkeys(("/closed", "/busy", "/limited", "/asked"), b"12")
    server.head_faults = {"/busy": Fault(code=503), "/limited": Fault(code=429), "/closed": Fault(code=401)}
    server.faults = {"/closed": [Fault(code=401)]}
    answers = ask(at(server, "closed", "busy", "limited", "absent"))
    assert states(answers) == [("refused", 0), ("unknown", 0), ("unknown", 0), ("missing", 0)]
    assert [one.why.split()[1] for one in answers.values()] == ["401", "503", "429", "404"]
    [nowhere] = ask([Remote("x", "pairs", "http://127.0.0.1:9/x")]).values()
    assert nowhere.state == "unknown" and "refused" in nowhere.why


@pytest.mark.parametrize("code", [403, 404, 405])
def test_a_head_that_is_refused_means_nothing_where_get_is_not(server: Server, code: int) -> None:
    server.files = {"/a": b"12345"}
    server.head_faults = {"/a": Fault(code=code)}
    assert states(ask(at(server, "a"))) == [("found", 5)]


def test_what_was_moved_is_followed(server: Server) -> None:
    server.files = {"/new": b"12345"}
    server.head_faults = {"/old": Fault(code=301, location="/new")}
    assert states(ask(at(server, "old"))) == [("found", 5)]


def test_a_server_that_does_not_answer_is_not_waited_for(server: Server) -> None:
    server.files = {"/a": b"1", "/silent": b"12345", "/b": b"12"}
    gate = Event()
    server.head_faults = {"/silent": Fault(gate=gate)}
    answers = ask(at(server, "a", "silent", "b"), patience=0.5)
    gate.set()
    assert states(answers) == [("found", 1), ("unknown", 0), ("found", 2)]
    assert answers[f"{server.url}/silent"].why == "no answer in 0 s"


def test_a_repository_is_asked_once_for_all_its_files(server: Server) -> None:
    server.files = {f"{REPOSITORY}/{COMMIT}/data/{name}": b"x" * size for name, size in (("a", 7), ("b", 0), ("c", 9))}
    answers = ask(on_hub("data/a", "data/b", "data/gone"))
    assert states(answers) == [("found", 7), ("found", 0), ("missing", 0)]
    asked = [path.partition("?")[0] for _, path, _ in server.asked if "/datasets/" in path]
    assert asked == [f"/api/datasets/someone/pairs/revision/{COMMIT}"]


def test_a_repository_that_is_gated_gone_or_busy(server: Server) -> None:
    server.files = {f"/datasets/someone/{name}/resolve/{COMMIT}/a": b"1" for name in ("gated", "busy", "pairs")}
    server.gated = {"someone/gated"}
    server.head_faults = {"/api/datasets/someone/busy": Fault(code=503)}
    server.error_code = "RepoNotFound"
    remotes = [one for name in ("gated", "busy", "gone") for one in on_hub("a", name=f"someone/{name}")]
    gated, busy, gone = ask(remotes).values()
    assert gated.state == "refused" and "hf auth login" in gated.why
    assert busy.state == "unknown" and "503" in busy.why
    assert gone.state == "missing"
    assert states(ask(on_hub("a", revision="unconfirmed"))) == [("found", 1)]


def test_the_hub_s_own_offline_mode_says_nothing_about_files(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from huggingface_hub import close_session

    close_session()
    try:
        [answer] = ask(on_hub("a")).values()
    finally:
        monkeypatch.undo()
        close_session()
    assert answer.state == "unknown" and server.asked == []

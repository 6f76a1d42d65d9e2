"""Builds whose files arrive while they run: real downloads, real encoder, real processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from medi_build.dataset.verify import verify
from medi_build.errors import FetchError, MissingInputError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from medi_build.progress import Silent
from tests.loopback import Fault, Server, serving

pytestmark = pytest.mark.slow

SETS = ("doors", "lamps", "pumps")


def lines(thing: str) -> bytes:
    faults = ["makes a noise", "does not start", "is too hot", "leaks water", "shows an error"]
    rows = [
        [f"The {thing} in room {room} {fault}", f"Room {room}: {thing} {fault}"]
        for room in range(9)
        for fault in faults
    ]
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files = {f"/{name}.jsonl": lines(name) for name in SETS}
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors that the builds of this file share."""
    return tmp_path_factory.mktemp("cache")


def content(folder: Path, url: str) -> Path:
    """Three cards whose files the server has."""
    sources = folder / "content" / "sources"
    sources.mkdir(parents=True)
    ids = [f"{100_000 + number}\tour_team/{name}\n" for number, name in enumerate(SETS)]
    (sources / "task_ids.tsv").write_text("task_id\tname\n" + "".join(ids))
    for name in SETS:
        (sources / f"{name}.yaml").write_text(
            f"name: our_team/{name}\ndescription: tickets\noptions: {{adapter: pairs}}\n"
            f"files: {{train: [{name}.jsonl]}}\ndownload: {{url: '{url}'}}\n"
            "licence: {spdx: unconfirmed, commercial_use: unknown}\ncitation: ours\n"
            "instruction: {template: similarity, fields: {target: tickets, text_type: ticket}}\n"
        )
    return folder / "content"


def options(folder: Path, url: str, cache: Path, **changes: object) -> BuildOptions:
    """A build with downloads of its own and vectors that others made."""
    own = folder / "cache"
    if not own.exists():
        own.mkdir()
        (cache / "vectors").mkdir(exist_ok=True)
        (own / "vectors").symlink_to(cache / "vectors")
    overlay = folder / "content" if (folder / "content").exists() else content(folder, url)
    given = {"out": folder / "out", "cache": own, "content": overlay, "sources": ("our_team/*",)}
    return BuildOptions(**{**given, **changes})  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    """Of all files but manifest and card, which say where files came from: each server has a port of its own."""
    but = ("lock", "manifest.json", "README.md")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def from_disk(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, str]:
    """The build when all files are there at the start."""
    folder = tmp_path_factory.mktemp("disk")
    data = folder / "data" / "our_team"
    data.mkdir(parents=True)
    for name in SETS:
        (data / f"{name}.jsonl").write_bytes(lines(name))
    build(options(folder, "http://127.0.0.1:9/", cache, data=data.parent))
    return digests(folder / "out")


class Seen(Silent):
    """The datasets in the order in which they were finished; opens a gate after so many."""

    def __init__(self, gate: threading.Event, after: int) -> None:
        self.finished: list[str] = []
        self.gate, self.after = gate, after

    def finish(self, dataset: str, rows: int, seconds: float, resumed: bool) -> None:
        self.finished.append(dataset)
        if len(self.finished) == self.after:
            self.gate.set()


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_there_is_built_while_the_rest_comes_and_the_order_changes_no_byte(
    server: Server, tmp_path: Path, cache: Path, from_disk: dict[str, str], jobs: int
) -> None:
    """One dataset lies on disk, one comes at once, and one only after these two are built."""
    gate = threading.Event()
    server.faults["/doors.jsonl"] = [Fault(gate=gate)]
    (tmp_path / "data" / "our_team").mkdir(parents=True)
    (tmp_path / "data" / "our_team" / "pumps.jsonl").write_bytes(lines("pumps"))
    seen = Seen(gate, 2)
    build(options(tmp_path, server.url, cache, jobs=jobs, data=tmp_path / "data"), seen)
    assert sorted(seen.finished[:2]) == ["our_team/lamps", "our_team/pumps"]
    assert digests(tmp_path / "out") == from_disk


def test_one_file_that_cannot_be_had_fails_the_build_at_its_end_and_a_rerun_resumes(
    server: Server, tmp_path: Path, cache: Path, from_disk: dict[str, str]
) -> None:
    del server.files["/lamps.jsonl"]
    with pytest.raises(FetchError, match=r"1 download\(s\) failed.*\n  our_team/lamps: http.*HTTP 404"):
        build(options(tmp_path, server.url, cache))
    receipts = tmp_path / "out" / ".medi" / "receipts"
    kept = {path.name: path.stat().st_mtime_ns for path in receipts.iterdir()}
    assert sorted(kept) == ["100000.json", "100002.json"]
    assert not (tmp_path / "out" / "manifest.json").exists()
    server.files["/lamps.jsonl"] = lines("lamps")
    build(options(tmp_path, server.url, cache))
    assert {name: (receipts / name).stat().st_mtime_ns for name in kept} == kept
    assert digests(tmp_path / "out") == from_disk
    assert verify(tmp_path / "out").rows == 3 * 45


def test_files_that_nobody_can_fetch_are_told_before_any_work(server: Server, tmp_path: Path, cache: Path) -> None:
    card = content(tmp_path, server.url) / "sources" / "lamps.yaml"
    card.write_text(card.read_text().replace("[lamps.jsonl]", "['lamps-*.jsonl']"))
    with pytest.raises(MissingInputError, match=r"our_team/lamps: lamps-\*\.jsonl"):
        build(options(tmp_path, server.url, cache))
    assert server.asked == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_build_that_waits_for_its_last_file(
    server: Server, tmp_path: Path, cache: Path, jobs: str
) -> None:
    server.faults["/pumps.jsonl"] = [Fault(code=429, retry_after="3000")]
    own = options(tmp_path, server.url, cache)
    arguments = [
        "--sources",
        "our_team/*",
        "--content",
        own.content,
        "--cache",
        own.cache,
        "--out",
        own.out,
        "-j",
        jobs,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "medi_build", "build", *map(str, arguments)],
        env={**os.environ, "COLUMNS": "200"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    told = ""
    while "[2/3]" not in told:
        told += process.stderr.readline()
    assert "our_team/pumps: waiting 3,000 s" in told
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT, stderr
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr

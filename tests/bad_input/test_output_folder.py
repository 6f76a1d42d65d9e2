"""An output folder in use, not to be written to, with files that are none of ours, or on a full disk."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from medi_build.dataset.verify import verify
from medi_build.errors import DatasetError, MediError, OutputError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.bad_input.team import GOOD, TASK, Team


def test_an_output_folder_in_use_by_another_build(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    (team.out / ".medi").mkdir(parents=True)
    with FileLock(team.out / ".medi" / "lock"), pytest.raises(OutputError, match="another build is running in it"):
        team.build()
    assert team.build().manifest.rows == 24


def test_an_output_folder_that_cannot_be_written(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    locked = Path("/sys") if os.geteuid() == 0 else team.data.parent / "locked"
    locked.mkdir(mode=0o555, exist_ok=True)
    with pytest.raises(OutputError, match=f"--out {locked}/out: cannot be written"):
        team.build(out=locked / "out")


@pytest.mark.parametrize("text", ["{broken", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "files": 3}'])
def test_a_manifest_that_is_none_of_ours(team: Team, text: str) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    team.build()
    (team.out / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        verify(team.out)
    assert team.build().manifest.rows == verify(team.out).rows == 24


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A limit on the size of files stands in for a full disk: the write fails in the same way."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
def test_a_disk_that_fills_at_any_file_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """Each limit, just below the size of one file of a good build, stops the build somewhere else."""

    def options(name: str, cache: str) -> BuildOptions:
        return BuildOptions(tmp_path / name, ("medmcqa/sample", TASK), cache=tmp_path / cache, limit_per_dataset=20)

    def sizes(folder: Path) -> list[int]:
        return sorted({path.stat().st_size for path in folder.rglob("*") if path.is_file()} - {0})

    rows = build(options("whole", "warm")).manifest.rows
    limits = [(size - 1, "warm") for size in sizes(tmp_path / "whole")]
    limits += [(sizes(tmp_path / "warm" / "vectors")[-1] - 1, "cold")]
    messages = []
    for number, (limit, cache) in enumerate(limits):
        tried = options(f"out{number}", cache)
        with files_up_to(limit), pytest.raises(MediError, match=r"cannot be written|File too large") as caught:
            build(tried)
        messages.append(str(caught.value))
        assert not (tried.out / "manifest.json").exists()
        assert not list(tried.out.rglob("*.tmp"))
        if number % 4 == 0:
            assert build(tried).manifest.rows == verify(tried.out).rows == rows
    for part in ("examples.arrow", "vectors", "data/", "medi-data.json"):
        assert any(part in message for message in messages), f"no limit stopped the build at {part}"


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "tasks.csv", "medi-data.json"])
def test_a_disk_that_fills_in_the_last_step(team: Team, name: str) -> None:
    """Writing to /dev/full gives the error of a full disk."""
    (team.folder / "t.jsonl").write_bytes(GOOD)
    (team.out / ".medi").mkdir(parents=True)
    (team.out / f".{name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"{name}: cannot be written .No space left on device.; make room"):
        team.build()
    assert not (team.out / "manifest.json").exists()
    assert not list(team.out.rglob("*.tmp"))
    assert team.build().manifest.rows == verify(team.out).rows == 24

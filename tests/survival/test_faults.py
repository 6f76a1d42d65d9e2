"""What disks, clocks and people do to files between two runs: the next run repairs it, or tells it in one error."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medi_build.dataset.verify import verify
from medi_build.errors import DatasetError, OutputError
from tests.bad_input.team import GOOD, Team
from tools.survival.harness import digests
from tools.survival.victims import build_words, built, toy_data, train_words


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """A disk of its own for a folder; gives a function that mounts it anew with other options."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs to mount a tmpfs; tests/bad_input/test_output_folder.py has a full disk by RLIMIT_FSIZE")
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,{more}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def medi(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "medi_build", *words], capture_output=True, text=True, check=False)


@pytest.mark.long
def test_a_build_on_a_disk_that_is_full_and_then_is_not(tmp_path: Path) -> None:
    whole, disk = tmp_path / "whole", tmp_path / "disk"
    whole.mkdir()
    assert medi(*build_words(whole)).returncode == 0
    with small_disk(disk, 120) as remount:
        shutil.copytree(whole / "cache", tmp_path / "cache")
        words = [str(tmp_path / "cache") if word == str(disk / "cache") else word for word in build_words(disk)]
        done = medi(*words)
        assert done.returncode == 1
        assert "cannot be written (No space left on device)" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (disk / "out" / "manifest.json").exists()
        assert not list(disk.rglob("*.tmp"))
        remount("size=20m")
        assert medi(*words).returncode == 0
        assert built(disk) == built(whole)
        remount("ro")
        assert verify(disk / "out").datasets == 4
        assert medi(*words).returncode == 1
        done = medi(*words, "--seed", "9")
        assert "cannot be written (Read-only file system)" in done.stderr
        assert "Traceback" not in done.stderr
        assert verify(disk / "out").datasets == 4


@pytest.mark.long
def test_a_training_on_a_disk_that_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    toy_data(tmp_path)
    with small_disk(disk, 300) as remount:
        done = medi(*train_words(tmp_path, disk))
        assert done.returncode == 1
        assert "make room" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (disk / "out" / "modules.json").exists()
        remount("size=60m")
        assert medi(*train_words(tmp_path, disk)).returncode == 0
        assert (disk / "out" / "modules.json").exists()


@pytest.fixture
def done(team: Team) -> dict[str, str]:
    """A finished build's files."""
    (team.folder / "t.jsonl").write_bytes(GOOD)
    team.build()
    return files(team)


def files(team: Team) -> dict[str, str]:
    return digests(team.out, but=("lock",))


def only(team: Team, pattern: str) -> Path:
    return next(iter(sorted(team.out.glob(pattern))))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


PARTS = (
    "data/*.parquet",
    ".medi/json/*",
    ".medi/receipts/*",
    "manifest.json",
    "medi-data.json",
    "README.md",
    "tasks.csv",
)


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink])
@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_is_cut_or_gone_is_made_again(
    team: Team, done: dict[str, str], part: str, damage: Callable[[Path], None]
) -> None:
    damage(only(team, part))
    if not part.startswith(".medi"):
        with pytest.raises(DatasetError):
            verify(team.out)
    team.build()
    assert files(team) == done
    verify(team.out)


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_is_found_by_verify_and_never_copied_on(team: Team, done: dict[str, str], part: str) -> None:
    flip(only(team, part))
    if part in ("data/*.parquet", "manifest.json", "medi-data.json", "README.md", "tasks.csv"):
        with pytest.raises(DatasetError):
            verify(team.out)
    (team.out / "manifest.json").unlink(missing_ok=True)  # as after a kill just before the end
    if part == ".medi/json/*":
        with pytest.raises(
            OutputError, match=r"something changed it, or the disk is failing\. Run the same command again"
        ):
            team.build()
        assert not (team.out / "medi-data.json").exists()
    team.build()
    assert files(team) == done or part == "data/*.parquet"
    if part == "data/*.parquet":
        with pytest.raises(DatasetError, match="parquet"):
            verify(team.out)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["vectors", "indexes"])
@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_cache_costs_time_and_no_byte(
    team: Team, tmp_path: Path, where: str, damage: Callable[[Path], None]
) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    cache = tmp_path / "own-cache"
    team.build(cache=cache)
    whole = files(team)
    damaged = [path for path in (cache / where).rglob("*") if path.is_file() and path.stat().st_size]
    assert damaged
    for path in damaged:
        if path.name != "encoder.json":
            damage(path)
    shutil.rmtree(team.out)
    team.build(cache=cache)
    assert files(team) == whole


@pytest.mark.parametrize("when", [4_000_000_000, 86_400])
def test_times_in_the_future_or_long_ago_change_nothing(
    team: Team, done: dict[str, str], monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    for path in [*team.out.rglob("*"), *team.data.rglob("*"), *team.cache.rglob("*")]:
        os.utime(path, (when, when))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e8)  # the clock was set back three years
    team.build()
    assert files(team) == done
    (team.folder / "t.jsonl").write_bytes(GOOD + b'\n["one more query", "and its positive"]')
    os.utime(team.folder / "t.jsonl", (when, when))
    assert team.build().manifest.rows == 25, "a changed file of the same age counts as changed"


def test_an_output_folder_that_is_a_link(team: Team, done: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(team.out)
    team.build(out=tmp_path / "link")
    assert files(team) == done
    assert (tmp_path / "link").is_symlink()
    verify(tmp_path / "link")


@pytest.mark.parametrize("part", PARTS)
def test_what_a_link_in_place_of_a_file_points_to_is_never_written(
    team: Team, done: dict[str, str], tmp_path: Path, part: str
) -> None:
    theirs, path = tmp_path / "theirs", only(team, part)
    theirs.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(theirs)
    team.build()
    assert theirs.read_bytes() == b"precious"
    assert files(team) == done
    assert not path.is_symlink()


def test_a_folder_in_place_of_a_file_is_one_error(team: Team, done: dict[str, str]) -> None:
    path = only(team, "data/*.parquet")
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match=f"{path.name}: cannot be written"):
        team.build()
    path.rmdir()
    team.build()
    assert files(team) == done

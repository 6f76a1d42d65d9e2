"""Systems and locales that are not at hand, played by taking away what they lack."""

import ast
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medi_build.devices import cores
from medi_build.encode import segments
from medi_build.files import atomic_file
from medi_build.search.bm25 import BM25
from tests.conftest import ROOT

CODE = ROOT / "medi_build"
PLAIN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_cores_are_asked_for_where_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    assert cores() == 2
    monkeypatch.delattr(os, "process_cpu_count")
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 7


def test_bm25_ranks_where_no_affinity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series([[*"abcabd"], [*"bcd"], [*"xyz"], [*"ax"]])
    wanted = BM25.build(texts).topk(texts, 3)
    for name in ("sched_getaffinity", "process_cpu_count"):
        monkeypatch.delattr(os, name, raising=False)
    found = BM25.build(texts).topk(texts, 3)
    np.testing.assert_array_equal(found.ids, wanted.ids)


@pytest.mark.parametrize("count", [7, 8, 9, 64])
def test_large_results_find_room_without_fallocate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(segments, "_SPILL_BYTES", 100)
    monkeypatch.setattr(segments, "_ZEROS", 64)
    room = segments.room(tmp_path, count, 8)
    assert isinstance(room, np.memmap)
    assert room.shape == (count, 8) and not room.any()
    room[:] = 1.5
    assert (room == 1.5).all()


def test_a_full_disk_is_an_error_without_fallocate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(segments, "_SPILL_BYTES", 100)
    old, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            segments.room(tmp_path, 1000, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=15_999))
    assert segments.room(tmp_path, 999, 8).shape == (999, 8)
    with pytest.raises(OSError) as caught:
        segments.room(tmp_path, 1000, 8)
    assert caught.value.errno == errno.ENOSPC


def test_files_are_written_where_folders_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = os.open

    def refuse_folders(path: os.PathLike[str], flags: int, *arguments: int, **options: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_folders)
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    with atomic_file(tmp_path / "new" / "file") as file:
        file.write(b"whole")
    assert (tmp_path / "new" / "file").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


WITHOUT_MASKS = """
import signal
del signal.pthread_sigmask  # also in the other process, which runs this file anew
import os, time
from medi_build.pipeline.executor.local import LocalExecutor

def look(_):
    time.sleep(0.5)
    return os.getpid(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    seen = {one.result for one in LocalExecutor(2).map(look, range(24), 24)}
    print(sorted(ignores for _, ignores in seen))
"""


@pytest.mark.slow
def test_other_processes_leave_ctrl_c_to_their_parent_without_signal_masks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_MASKS, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[False, True]\n"), done.stderr


@pytest.mark.parametrize("path", sorted(CODE.rglob("*.py")), ids=lambda path: path.relative_to(CODE).as_posix())
def test_every_file_of_text_is_opened_as_utf_8_by_name(path: Path) -> None:
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = getattr(getattr(call.func, "value", None), "id", "")
        if name not in ("read_text", "write_text", "open") or owner == "os":
            continue
        texts = [str(node.value) for node in call.args if isinstance(node, ast.Constant)]
        variable = name == "open" and call.args and isinstance(call.args[0], ast.Name) and owner != ""
        binary = name == "open" and (variable or any("b" in text and set(text) <= set("rwxab+") for text in texts))
        named = any(keyword.arg == "encoding" for keyword in call.keywords)
        assert named or binary, f"{path.name}:{call.lineno} opens text in whatever encoding the locale has"


def in_ascii(*arguments: object) -> str:
    """What the command prints where the locale knows ASCII alone; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "medi_build", *map(str, arguments)],
        env={**os.environ, **PLAIN_ASCII},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("ascii")


def test_commands_run_where_the_locale_knows_ascii_alone(tmp_path: Path) -> None:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    text = (ROOT / "pipelines" / "quickstart.yaml").read_text(encoding="utf-8").replace("quickstart", "own")
    text = text.replace("Builds the sample data", "Küche ・ 台所, builds the sample data")
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    printed = in_ascii("ls", "pipelines", "--content", tmp_path)
    assert r"K\xfcche" in printed and r"\u53f0" in printed
    assert in_ascii("validate", "--content", tmp_path)
    assert "Next:" in in_ascii("--help")

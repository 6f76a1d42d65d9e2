"""A build that is stopped leaves no worker, and the next one goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medi_build.dataset.verify import verify
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build


def alive(group: int) -> list[str]:
    """Processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_stopped_by_a_signal_no_worker_stays_and_the_next_run_goes_on(tmp_path: Path, cache: Path) -> None:
    """One folder, stopped three times in the middle of a build with two workers, then finished."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "medi_build", "build", "--offline", "--out", str(out), "--cache", str(cache)]
    command += ["--sources", "medmcqa/sample,super_ni/*_sample_*", "--limit-per-dataset", "20", "-j", "2"]
    for number, to_group in ((signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(alive(process.pid)) < 3 and time.monotonic() < deadline:  # itself and two workers
            time.sleep(0.05)
        assert process.poll() is None
        (os.killpg if to_group else os.kill)(process.pid, number)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), stderr
        if number != signal.SIGKILL:  # a worker that was just starting may complain about a parent that is gone
            assert "Traceback" not in stderr
            assert f"stopped by {number.name}; what is finished is kept" in stderr
        assert not (out / "manifest.json").exists()
        while alive(process.pid):
            assert time.monotonic() < deadline, f"{number.name} left {alive(process.pid)} behind"
            time.sleep(0.05)
    build(BuildOptions(out, ("medmcqa/sample", "super_ni/*_sample_*"), cache=cache, limit_per_dataset=20))
    assert verify(out).datasets == 9


LIBRARY = """
import os, signal, sys, time
from medi_build import cli
def command():
    {what}
cli.app = command
cli.main()
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("try: os.kill(os.getpid(), signal.SIGTERM)\n    except: pass\n    time.sleep(60)", ""),
        (
            "try: os.kill(os.getpid(), signal.SIGTERM)\n    finally: time.sleep(2.5); print('cleaned up')",
            "cleaned up\n",
        ),
    ],
    ids=["swallowed", "cleaning-up"],
)
def test_a_library_that_swallows_a_signal_does_not_hold_it_up_and_cleaning_up_is_not_cut_off(
    what: str, told: str
) -> None:
    program = LIBRARY.format(what=what)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGTERM, told), ended.stderr
    assert "stopped by SIGTERM" in ended.stderr and "Traceback" not in ended.stderr

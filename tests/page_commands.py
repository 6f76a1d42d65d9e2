"""The command blocks of a page of the docs, run in their order from an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)


def script(page: str) -> str:
    """What a shell runs of the page ``docs/{page}``: its bash and Python blocks, but those said not to be run."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = []
    for skipped, language, block in BLOCK.findall(text):
        if not skipped:
            parts.append(block if language == "bash" else f"python - <<'END_OF_BLOCK'\n{block}END_OF_BLOCK\n")
    return "\n".join(parts)


def run_page(page: str, tmp_path: Path, timeout: float) -> tuple[Path, str]:
    """Run a page; returns the folder it ran in and all that was printed. A command that fails fails the test."""
    tools, work = tmp_path / "bin", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    for name, module in (("medi", "-m medi_build"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (tools / name).chmod(0o755)
    (work / "examples").symlink_to(ROOT / "examples")
    ran = subprocess.run(
        ["bash", "-euxc", script(page)],
        cwd=work,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "120",
             "MEDI_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1",
             "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
    )  # fmt: skip
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told[-6000:]
    return work, told

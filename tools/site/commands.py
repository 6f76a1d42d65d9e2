"""The command blocks of a page of the docs, run in their order from an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tools.site.repository import ROOT

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)


def script(page: str) -> str:
    """What a shell runs of the page ``docs/{page}``: its bash and Python blocks, but those said not to be run."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = []
    for skipped, language, block in BLOCK.findall(text):
        if not skipped:
            parts.append(block if language == "bash" else f"python - <<'END_OF_BLOCK'\n{block}END_OF_BLOCK\n")
    return "\n".join(parts)


def run_page(page: str, folder: Path, timeout: float) -> tuple[Path, str]:
    """Run a page below a folder that is empty, without network.

    Args:
        page: its path below docs/.
        folder: gets the folder that the commands run in, and what else they need.
        timeout: in seconds.

    Returns:
        The folder that the commands ran in, and all that they printed.

    Raises:
        RuntimeError: a command failed; the end of what was printed.
    """
    tools, work = folder / "bin", folder / "work"
    tools.mkdir()
    work.mkdir()
    for name, module in (("medi", "-m medi_build"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (tools / name).chmod(0o755)
    (work / "examples").symlink_to(ROOT / "examples")
    own = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
        "MEDI_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    ran = subprocess.run(
        ["bash", "-euxc", script(page)],
        cwd=work,
        env={**os.environ, **own},
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
    )
    told = ran.stdout + ran.stderr
    if ran.returncode:
        raise RuntimeError(f"docs/{page}: {told[-6000:]}")
    return work, told

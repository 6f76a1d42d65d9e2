"""docs/a-teams-month.md, command for command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "a-teams-month.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_page_runs_from_an_empty_folder(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, module in (("medi", "-m medi_build"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (tools / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 7
    ran = subprocess.run(
        ["bash", "-euxc", "\n".join(blocks)],
        cwd=work,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "120",
             "MEDI_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
        timeout=900,
    )  # fmt: skip
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told[-6000:]
    assert "1 to build" in told
    assert "text_type" in told  # what the dry run gives as the reason
    assert (work / "out" / "for-sentence-transformers" / "prompts.json").is_file()
    assert (work / "out" / "v1" / "manifest.json").is_file()

"""docs/a-teams-month.md, command for command."""

from pathlib import Path

import pytest

from tools.site.commands import run_page, script

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_page_runs_from_an_empty_folder(tmp_path: Path) -> None:
    assert script("a-teams-month.md").count("medi ") > 15
    work, told = run_page("a-teams-month.md", tmp_path, timeout=7200)
    assert "1 to build" in told
    assert "text_type" in told  # what the dry run gives as the reason
    assert (work / "out" / "for-sentence-transformers" / "prompts.json").is_file()
    assert (work / "out" / "v1" / "manifest.json").is_file()

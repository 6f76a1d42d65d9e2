"""What a shell completes, asked as bash asks; and that asking loads nothing large."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medi_build.cli import complete
from medi_build.content.load import load_content
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.refs import set_branch, set_tag
from tests.dataset.built import write_built


def completed(*words: str, folder: Path | None = None) -> list[str]:
    """The last word is the one that is being written."""
    environment = os.environ | {
        "_MEDI_COMPLETE": "complete_bash",
        "COMP_WORDS": "medi " + " ".join(words),
        "COMP_CWORD": str(len(words)),
    }
    program = (
        "import sys; sys.argv = ['medi']\nfrom medi_build.cli import main\ntry:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'polars', 'pyarrow', 'pyiceberg', 'transformers', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=folder, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_commands_and_options() -> None:
    assert completed("eval", "m") == ["mteb"]
    assert completed("build", "--dry") == ["--dry-run"]
    assert completed("build", "--qui") == ["--quiet"]


def test_names_of_the_content() -> None:
    content = load_content()
    assert set(completed("build", "--pipeline", "")) == set(content.pipelines)
    assert set(completed("new-source", "x/y", "--template", "")) == set(content.templates)
    assert completed("show", "kilt/n") == [name for name in content.cards if name.startswith("kilt/n")]
    assert completed("build", "--sources", "all,-kil")[0] == "all,-kilt"
    assert "all,-kilt/nq" in completed("build", "--sources", "all,-kil")


def test_names_of_a_teams_own_content(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "weekly.yaml").touch()
    assert completed("build", "--content", str(tmp_path), "--pipeline", "we") == ["weekly"]


def test_versions_and_folders(tmp_path: Path) -> None:
    house, built = tmp_path / "warehouse", write_built(tmp_path / "built", [{"task_id": 1}])
    commit(house, built, "first", "v1", "main")
    set_tag(house, "v2", "main")
    set_branch(house, "trial", "main")
    assert completed("log", "--warehouse", str(house), "") == ["main", "trial", "v1", "v2"]
    assert completed("verify", "v", folder=tmp_path) == ["v1", "v2"]
    assert completed("diff", "v1", "b", folder=tmp_path) == ["built"]
    assert completed("report", f"{tmp_path}/bu") == [f"{tmp_path}/built"]


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_a_warehouse_that_cannot_be_read_completes_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "catalog.db").write_bytes(content)
    assert complete._ref_names(tmp_path) == []

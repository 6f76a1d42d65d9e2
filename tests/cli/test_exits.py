"""Exit codes: one table in the code, the same in the documentation, and true."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.cli.exits import MEANINGS, TROUBLE, Exit
from tests.commands import run_main
from tests.conftest import ROOT
from tests.dataset.built import write_built


def test_the_documentation_has_the_table() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))
    assert rows == {str(int(code)): told for code, told in MEANINGS.items()}
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ls", "pipelines"], Exit.DONE),
        (["--help"], Exit.DONE),
        (["validate"], Exit.DONE),
        (["show", "no/such"], Exit.FOUND),
        (["verify", "DAMAGED"], Exit.FOUND),
        (["diff", "BUILT", "BUILT"], Exit.DONE),
        (["diff", "BUILT", "OTHER"], Exit.FOUND),
        (["diff", "BUILT", "OTHER", "--fail-on", "rows<-5%"], Exit.DONE),
        (["diff", "BUILT", "OTHER", "--fail-on", "rows>+1"], Exit.FOUND),
        (["diff", "BUILT", "nowhere"], TROUBLE),
        (["build", "--no-such-option"], Exit.USAGE),
        (["no-such-command"], Exit.USAGE),
        (["build", "--jobs", "many"], Exit.USAGE),
    ],
)
def test_commands_end_as_the_table_says(
    words: list[str], code: Exit, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [{side: ["", f"{side} {number}"] for side in ("query", "pos", "neg")} for number in range(5)]
    rows = [{"task_id": 1, "id": f"toy/1/{number}", **one} for number, one in enumerate(texts)]
    write_built(tmp_path / "BUILT", rows[:3])
    write_built(tmp_path / "OTHER", rows)
    damaged = write_built(tmp_path / "DAMAGED", rows)
    (damaged / "medi-data.json").write_bytes((damaged / "medi-data.json").read_bytes()[:-1] + b" ")
    monkeypatch.chdir(tmp_path)
    found, told = run_main(capsys, monkeypatch, *words)
    assert (found or 0) == code
    assert bool(told) == (code != Exit.DONE and (words[0] != "diff" or code == TROUBLE)), told


def test_ls_and_lint_of_what_is_well_end_as_done() -> None:
    assert CliRunner().invoke(app, ["lint", "--pipeline", "quickstart"]).exit_code == Exit.DONE

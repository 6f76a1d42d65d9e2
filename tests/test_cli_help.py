"""Every command says how to use it with one example whose flags exist; lists are readable at 80 columns."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medi_build.cli import app
from tests.conftest import ROOT


def commands() -> dict[str, object]:
    """Full name -> command, for every command that is not a group of others."""
    found: dict[str, object] = {}

    def walk(prefix: str, command: object) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[prefix] = command
        for name, inner in (below or {}).items():
            walk(f"{prefix} {name}".strip(), inner)

    walk("", typer.main.get_command(app))
    return found


COMMANDS = commands()


def test_the_commands_that_are_promised_are_there() -> None:
    promised = {"build", "ls sources", "ls templates", "ls pipelines", "show", "validate", "new-source", "verify"}
    assert promised <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_with_flags_that_exist(name: str) -> None:
    command = COMMANDS[name]
    text = " ".join(str(command.help).split())  # type: ignore[attr-defined]
    [example] = re.findall(r"Example: `(medi [^`]*)`", text)
    assert example.startswith(f"medi {name}")
    flags = {option for parameter in command.params for option in parameter.opts}  # type: ignore[attr-defined]
    used = {word.split("=")[0] for word in example.split() if word.startswith("-") and not word.startswith("-kilt")}
    assert used <= flags, f"{used - flags} of the example are no flags of medi {name}"
    printed = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"})
    assert printed.exit_code == 0
    assert "Example:" in printed.output


@pytest.mark.parametrize("listing", ["sources", "templates", "pipelines"])
def test_a_list_in_a_pipe_has_a_line_for_each_fact(listing: str) -> None:
    """On a terminal it is broken at 80 columns: `tests/cli/test_width.py`."""
    printed = CliRunner().invoke(app, ["ls", listing])
    assert printed.exit_code == 0
    head, number, fact = r"\S", r" {1,5}\d+  \S", r" {8}\S"
    lines = printed.output.splitlines()
    assert [line for line in lines if not re.match(f"{head}|{number}|{fact}", line)] == []
    assert max(map(len, lines)) > 80


def test_show_prints_the_card_as_it_is_written() -> None:
    printed = CliRunner().invoke(app, ["show", "medmcqa", "--data", str(ROOT / "nowhere")])
    assert printed.output.startswith("medmcqa  (task id ")
    assert "\noptions:\n  adapter: medmcqa\n" in printed.output


def test_a_new_source_leaves_nothing_behind_when_it_is_refused(tmp_path: Path) -> None:
    content = tmp_path / "content"
    for arguments in (["kilt/nq", "--file", "a.jsonl"], ["our/x", "--file", ""], ["x", "--file", "a.jsonl"]):
        assert CliRunner().invoke(app, ["new-source", *arguments, "--content", str(content)]).exit_code == 1
    assert not content.exists()
    good = CliRunner().invoke(app, ["new-source", "our/x", "--file", "it's [odd], #1.jsonl", "--content", str(content)])
    assert good.exit_code == 0
    again = CliRunner().invoke(app, ["new-source", "our/y", "--file", "y.jsonl", "--content", str(content)])
    assert again.exit_code == 0
    ids = (content / "sources" / "task_ids.tsv").read_text().splitlines()
    assert [line.split("\t")[1] for line in ids] == ["name", "our/x", "our/y"]


def test_medi_alone_names_the_next_step() -> None:
    printed = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    text = " ".join(printed.output.split())
    assert "builds the samples that come along into out/quickstart" in text
    assert "medi build --pipeline medi --data DIR --out out/medi" in text


def test_a_build_as_it_stands_says_that_these_are_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["build", "--sources", "medmcqa/sample", "--limit-per-dataset", "3"]
    printed = CliRunner().invoke(app, few)
    assert printed.exit_code == 0, printed.output
    lines = printed.stdout.splitlines()
    assert lines[0] == lines[-1]
    assert "samples" in lines[0] and "pipeline quickstart" in lines[0]
    assert lines[0].endswith("medi build --pipeline medi --data DIR --out out/medi")
    assert (tmp_path / "out" / "quickstart" / "manifest.json").is_file()
    own = tmp_path / "content" / "pipelines"
    own.mkdir(parents=True)
    text = (ROOT / "pipelines" / "quickstart.yaml").read_text(encoding="utf-8").replace("name: quickstart", "name: own")
    (own / "own.yaml").write_text(text, encoding="utf-8")
    printed = CliRunner().invoke(app, [*few, "--pipeline", "own", "--content", "content"])
    assert printed.exit_code == 0, printed.output
    assert "samples" not in printed.stdout
    assert (tmp_path / "out" / "own" / "manifest.json").is_file()

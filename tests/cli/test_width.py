"""On a terminal of 80 columns nothing is wider, nothing is cut away, and NO_COLOR is heard; a pipe gets plain lines."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.cli.console import Lines, new_table
from medi_build.dataset.versions.commit import commit
from tests.dataset.built import write_built
from tests.evaluate.test_compare import BASE, BETTER, save
from tests.test_cli_help import COMMANDS

COLUMNS = 80
MARK = "=== "
LISTINGS = (
    "ls pipelines", "ls templates", "ls sources --sources kilt,medmcqa", "plan --offline", "plan --offline --all",
    "build --dry-run --offline --sources medmcqa/sample,kilt/sample_nq", "log", "tag", "branch", "verify BUILT",
    "gc --dry-run", "diff BUILT OTHER", "diff v1 OTHER", "blame toy/a_name_of_some_length/0 BUILT",
    "compare-release BUILT --with OTHER/medi-data.json", "validate", "lint --pipeline quickstart", "show no/such",
    "export BUILT --format jsonl --out EXPORT", "contamination BUILT --against TEXTS.txt",
)  # fmt: skip
CHILD = f"""
import logging, sys
from medi_build.cli import app
for name in ("torchao", "torch.utils._pytree"):  # as main() does
    logging.getLogger(name).setLevel(logging.ERROR)
from medi_build.cli.console import print_error
from medi_build.errors import MediError
for words in sys.argv[1:]:
    print({MARK!r} + words, flush=True)
    try:
        app(words.split(), standalone_mode=False)
    except MediError as error:
        print_error(type(error).__name__, str(error))
"""
CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("width")
    for name, count in (("BUILT", 30), ("OTHER", 33)):
        rows = [
            {
                "task_id": task, "id": f"toy/a_name_of_some_length/{number}",
                **{side: ["", f"the text of a {side}, which is some words long, number {number} of {task}"] for side in
                   ("query", "pos", "neg")},
            }
            for task in range(1, 4)
            for number in range(count)
        ]  # fmt: skip
        write_built(folder / name, rows)
    commit(
        folder / "warehouse", folder / "BUILT", "a message of some length that tells what is new in it", "v1", "main"
    )
    (folder / "TEXTS.txt").write_text(
        "the text of a query, which is some words long, number 3 of 1\n", encoding="utf-8"
    )
    return folder


def on_a_terminal(place: Path, *commands: str, **variables: str) -> str:
    """What commands print where stdout and stderr are a terminal of `COLUMNS`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", **variables}
    command = [sys.executable, "-c", CHILD, *commands]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=place, env=environment) as child:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    assert child.returncode == 0, b"".join(parts)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_listings_fit_a_terminal_of_80_columns(place: Path) -> None:
    told = CODES.sub("", on_a_terminal(place, *LISTINGS))
    assert told.count(MARK) == len(LISTINGS)
    for part in told.split(MARK)[1:]:
        command, *lines = part.split("\n")
        wide = [line for line in map(last_written, lines) if cell_len(line) > COLUMNS]
        assert wide == [], command
        assert len("".join(lines).split()) > 3, command
        assert not [line for line in lines if re.search(r"[\d:/]…", line)], command


def last_written(line: str) -> str:
    """What stands on a line in the end, where something wrote over it."""
    return line.rsplit("\r", 1)[-1]


def test_a_table_that_is_too_wide_becomes_a_list(place: Path) -> None:
    """Three models beside each other take more than 80 columns of figures alone."""
    for name, values in (("a", BASE), ("b", BETTER), ("c", BASE[::-1])):
        save(place / "results", name, values, task="a_task_with_a_name_of_some_length")
    told = CODES.sub("", on_a_terminal(place, "eval compare results --samples 100"))
    assert [line for line in told.splitlines() if cell_len(line) > COLUMNS] == []
    head, figures = told.split("a_task_with_a_name_of_some_length\n")
    assert "a_task" not in head
    entry = " ".join(figures.split("average")[0].split())
    assert entry.startswith(f"metric ndcg_at_10; A {100 * BASE.mean():.2f}; B {100 * BETTER.mean():.2f}; C ")
    assert "B - A +" in entry and "C - A " in entry


def test_no_color_is_heard_and_colours_are_there_without_it(place: Path) -> None:
    coloured = on_a_terminal(place, "show no/such", "diff BUILT OTHER")
    plain = on_a_terminal(place, "show no/such", "diff BUILT OTHER", NO_COLOR="1")
    assert re.search(r"\x1b\[1;31merror", coloured), "the error is red"
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain), "no colour; bold and dim are none"
    assert CODES.sub("", coloured) == CODES.sub("", plain)


def test_a_pipe_gets_plain_and_unbroken_lines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, ["log"])
    assert "\x1b" not in done.stdout
    assert "a message of some length that tells what is new in it" in done.stdout
    rows = [line for line in CliRunner().invoke(app, ["diff", "BUILT", "OTHER"]).stdout.splitlines() if "toy/" in line]
    assert any(line.split()[:3] == ["toy/1", "30", "33"] for line in rows)


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS), "eval", "ls", "cache", "versions"])
def test_help_fits_80_columns_with_all_its_words(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    lines = done.stdout.splitlines()
    assert [line for line in lines if cell_len(line) > COLUMNS] == []
    assert "…" not in done.stdout
    shown = letters(done.stdout)
    for parameter in getattr(COMMANDS.get(name), "params", []):
        words = (getattr(parameter, "help", None) or "").split()
        assert not words or all(letters(word) in shown for word in words), parameter.name
        assert all(option in done.stdout for option in parameter.opts[:1] if option.startswith("--")), parameter.name


def letters(text: str) -> str:
    """Without frames, white space and marks of emphasis: words that are broken over lines stand whole again."""
    return re.sub(r"[\s│╭╮╰╯─`*]+", "", text)


def test_where_there_is_no_terminal_nothing_is_broken_and_brackets_are_text() -> None:
    told, file = "a [bold]message[/] of [many] words " * 9, io.StringIO()
    console = Lines(file=file, width=80)
    console.print(told)
    table = new_table("name")
    table.add_row("[red]cell[/]")
    console.print(table)
    assert file.getvalue().startswith(told + "\n") and "[red]cell[/]" in file.getvalue()

"""``--json`` prints JSON and nothing else, with keys that stay; ``--quiet`` says nothing but errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.cli.console import OUT
from medi_build.dataset.versions.commit import commit
from tests.dataset.built import write_built
from tests.test_cli_help import COMMANDS

COMMIT = {"id", "parent", "time", "tags", "branches", "message", "manifest", "digest", "rows", "datasets"}
LISTINGS: dict[str, tuple[list[str], set[str]]] = {
    "ls sources": (
        ["--sources", "kilt"],
        {"name", "task_id", "licence", "commercial_use", "rows", "cap", "revision", "template"},
    ),
    "ls templates": ([], {"name", "description", "fields", "phrasings"}),
    "ls pipelines": ([], {"name", "description", "sources", "encoder", "mining", "seed"}),
    "show": (["medmcqa/sample"], {"name", "task_id", "card", "kind", "raw_rows", "ledger", "records"}),
    "validate": ([], {"cards", "templates", "pipelines", "datasets", "rows", "to_mend"}),
    "lint": (["--pipeline", "quickstart"], set()),
    "verify": (["BUILT"], {"name", "whole", "faults", "rows", "datasets", "shards"}),
    "plan": (["--offline"], {"pipeline", "datasets", "transfers", "rows", "bytes", "disks", "encoder", "seconds"}),
    "log": ([], COMMIT),
    "tag": ([], {"name", "commit"}),
    "branch": ([], {"name", "commit"}),
    "gc": (["--dry-run"], {"dry_run", "commits", "files", "bytes"}),
    "cache ls": (["--store", "STORE"], set()),
    "cache gc": (["--store", "STORE", "--older-than-days", "1"], set()),
    "diff": (["BUILT", "BUILT"], {"same", "old", "new", "equal", "datasets", "settings", "examples", "gates"}),
    "blame": (["toy/1/0", "BUILT"], {"record", "dataset", "commits"}),
    "compare-release": (["BUILT", "--with", "BUILT/medi-data.json"], {"matches", "unresolved", "only_built"}),
    "export": (
        ["BUILT", "--format", "jsonl", "--out", "EXPORT"],
        {"rows", "notes", "left_out", "empty", "fresh", "out"},
    ),
    "build": (["--dry-run", "--offline", "--sources", "medmcqa/sample"], {"dataset", "what", "why"}),
    "contamination": (["BUILT", "--against", "AGAINST.txt"], set()),
}
"""Command -> further words, and keys that its JSON has, or each of its elements."""
ELSEWHERE = {
    "eval mteb",
    "eval billboard",
    "eval triplets",
    "eval prompt-retrieval",
    "eval robustness",
    "eval compare",
    "explain",
}
"""Seen by the tests of these suites, and of builds with explanations."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build, a warehouse that has it, a text."""
    sides = ("query", "pos", "neg")
    rows = [
        {"task_id": 1, "id": f"toy/1/{number}", **{side: ["", f"{side} {number}"] for side in sides}}
        for number in range(3)
    ]
    built = write_built(tmp_path / "BUILT", rows)
    commit(tmp_path / "warehouse", built, "first", "v1", "main")
    (tmp_path / "AGAINST.txt").write_text("an evaluation text that no record has in it\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}  # type: ignore[attr-defined]


def test_every_command_takes_quiet_and_every_listing_json() -> None:
    assert [name for name in COMMANDS if "--quiet" not in flags(name)] == []
    assert {name for name in COMMANDS if "--json" in flags(name)} == set(LISTINGS) | ELSEWHERE


@pytest.mark.parametrize("name", LISTINGS)
def test_json_is_all_that_is_printed(name: str, place: Path) -> None:
    words, keys = LISTINGS[name]
    more = ["--json", "-"] if name == "contamination" else ["--json"]
    done = CliRunner().invoke(app, [*name.split(), *words, *more])
    assert done.exit_code == 0, done.output
    found: Any = json.loads(done.stdout)
    one = found[0] if isinstance(found, list) and found else found
    assert keys <= set(one)
    quiet = CliRunner().invoke(app, ["--quiet", *name.split(), *words, *more])
    assert quiet.stderr == "" and type(json.loads(quiet.stdout)) is type(found)


def test_a_fault_is_in_the_json_and_on_stderr(place: Path) -> None:
    (place / "BUILT" / "medi-data.json").write_bytes(b"")
    done = CliRunner().invoke(app, ["verify", "BUILT", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert not told["whole"] and "medi-data.json: has 0 bytes" in told["faults"][0]["what"]


@pytest.mark.parametrize("words", [["--quiet", "ls", "pipelines"], ["ls", "pipelines", "--quiet"]])
def test_quiet_says_nothing_and_only_this_time(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert "quickstart" in CliRunner().invoke(app, ["ls", "pipelines"]).stdout
    assert not OUT.quiet


def test_a_quiet_build_is_a_whole_one(tmp_path: Path) -> None:
    words = ["build", "--sources", "medmcqa/sample", "--limit-per-dataset", "3", "--offline", "--no-report"]
    words += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path)]
    command = [sys.executable, "-m", "medi_build", *words, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "manifest.json").is_file()
    again = CliRunner().invoke(app, [*words, "--json"])
    assert {"out", "rows", "digest", "datasets"} <= set(json.loads(again.stdout))

"""The examples run offline with the encoder that comes with us, and say what their titles promise."""

import csv
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "custom_embeddings",
        "similarity",
        "retrieval",
        "clustering",
        "own_pairs",
    }


def test_own_pairs_are_whole_but_for_two(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    subprocess.run([sys.executable, str(EXAMPLES / "own_pairs.py"), str(file)], check=True)
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sum(not (row["report"] and row["note"]) for row in rows) == 2
    notes = Counter(row["note"] for row in rows if row["report"] and row["note"])
    assert len(notes) == 300
    assert set(notes.values()) == {2}


def test_custom_embeddings(run) -> None:
    out = run("custom_embeddings")
    assert "4 vectors of 384 numbers" in out
    cosine = float(re.search(r"two instructions: cosine ([\d.]+)", out)[1])  # type: ignore[index]
    assert 0 < cosine < 0.999


def test_similarity(run) -> None:
    nearest = re.findall(r"nearest '(.*)'|nearest \"(.*)\"", run("similarity"))
    assert [a or b for a, b in nearest] == ["At seven o'clock the ferry departs.", "Let the dough rest for an hour."]


def test_retrieval(run) -> None:
    assert "Copper reacts slowly" in run("retrieval").splitlines()[1]


def test_clustering(run) -> None:
    groups = [set(group.split("\n  ")[1:]) for group in run("clustering").strip().split("group ")[1:]]
    subjects = [("bread", "dough"), ("telescope", "galaxy"), ("football", "goalkeeper")]
    assert sorted(map(len, groups)) == [3, 3, 3]
    for group in groups:
        assert any(all(any(word in text.lower() for word in words) for text in group) for words in subjects)

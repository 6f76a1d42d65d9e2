"""Gates: the grammar, what each measure looks at, and what ``medi diff`` makes of them."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.diff import Counts, DatasetDifference, Difference
from medi_build.dataset.fact_changes import FactChange
from medi_build.dataset.gates import FACTS, MEASURES, WHOLE, check_gates, parse_gates
from medi_build.dataset.row_changes import RowChanges
from medi_build.errors import OptionError
from tests.versions.records import edited, record, two


def changed(name: str, old: Counts, new: Counts, rows: RowChanges, *facts: FactChange) -> DatasetDifference:
    return DatasetDifference(name, "changed", old, new, rows, facts)


def failures(text: str, *datasets: DatasetDifference, **given: Any) -> dict[str, str]:
    """Where a single gate fails among datasets, and what was seen there; the whole is made of these datasets."""
    sides = []
    for side in ("old", "new"):
        there = [counts for one in datasets if (counts := getattr(one, side))]
        sides.append(Counts(*(sum(getattr(one, name) for one in there) for name in ("rows", "read", "dropped"))))
    difference = Difference(*sides, datasets, 0, given.get("settings", ()), ())
    [outcome] = check_gates(difference, parse_gates(text))
    return dict(outcome.failures)


SHRUNK = changed(
    "a", Counts(1000, 2000, 100, 10, 0.5), Counts(940, 2100, 210, 28, 0.62), RowChanges(0, 60, 47, {}, 94, {})
)
GREW = changed("b", Counts(1000, 1000, 0), Counts(1020, 1000, 0), RowChanges(20, 0, 0, {}, 0, {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rows<-5%", {"a": "-60 rows (-6.00 %)"}),
        ("rows<-6%", {}),
        ("rows<-59", {"a": "-60 rows (-6.00 %)"}),
        ("rows<-60", {}),
        ("rows<-1.9%", {"a": "-60 rows (-6.00 %)", WHOLE: "-40 rows (-2.00 %)"}),
        ("rows>+1.5%", {"b": "+20 rows (+2.00 %)"}),
        ("rows", {"a": "-60 rows (-6.00 %)", "b": "+20 rows (+2.00 %)", WHOLE: "-40 rows (-2.00 %)"}),
        ("read>+4%", {"a": "+100 rows (+5.00 %)"}),
        ("added>+10", {"b": "+20 rows (+2.00 %)", WHOLE: "+20 rows (+1.00 %)"}),
        ("removed>+5%", {"a": "+60 rows (+6.00 %)"}),
        ("changed>+4.9%", {"a": "+47 rows (+5.00 %)"}),
        ("changed>+5%", {}),
        ("negatives>+9%", {"a": "+94 rows (+10.00 %)"}),
        ("negatives>+4%", {"a": "+94 rows (+10.00 %)", WHOLE: "+94 rows (+4.85 %)"}),
        ("dropped>+4.9%", {"a": "+5.00 percentage points"}),
        ("dropped>+3%", {"a": "+5.00 percentage points", WHOLE: "+3.44 percentage points"}),
        ("dropped>+0.049", {"a": "+5.00 percentage points"}),
        ("false_negatives>+1%", {"a": "+1.98 percentage points"}),
        ("false_negatives>+2%", {}),
        ("length_auc>+0.1", {"a": "+0.1200"}),
        ("length_auc>+13%", {}),
        ("length_auc<-0.1", {}),
    ],
)
def test_a_limit_is_held_against_each_dataset_and_all_together(text: str, expected: dict[str, str]) -> None:
    assert failures(text, SHRUNK, GREW) == expected


CAME = DatasetDifference("new", "added", None, Counts(50, 60, 30), None, ())
WENT = DatasetDifference("old", "removed", Counts(50, 60, 0), None, None, ())
STAYS = changed("stays", Counts(1000, 1000, 0), Counts(1000, 1000, 0), RowChanges(0, 0, 1, {}, 0, {}))


@pytest.mark.parametrize(
    ("text", "dataset", "expected"),
    [
        ("rows<-5%", WENT, {"old": "-50 rows (-100.00 %)"}),
        ("removed>+99%", WENT, {"old": "+50 rows (+100.00 %)"}),
        ("datasets", WENT, {"old": "removed"}),
        ("rows<-4%", WENT, {"old": "-50 rows (-100.00 %)", WHOLE: "-50 rows (-4.76 %)"}),
        ("rows>+5.1%", CAME, {}),
        ("rows>+4%", CAME, {WHOLE: "+50 rows (+5.00 %)"}),
        ("rows>+40", CAME, {"new": "+50 rows", WHOLE: "+50 rows (+5.00 %)"}),
        ("added>+40", CAME, {"new": "+50 rows", WHOLE: "+50 rows (+5.00 %)"}),
        ("datasets", CAME, {"new": "added"}),
        ("dropped>+50%", CAME, {}),
    ],
)
def test_a_dataset_that_came_or_went_had_no_rows_on_the_other_side(
    text: str, dataset: DatasetDifference, expected: dict[str, str]
) -> None:
    assert failures(text, STAYS, dataset) == expected


@pytest.mark.parametrize("kind", ["licence", "instructions", "card", "input"])
def test_a_name_alone_fails_on_any_change_of_a_dataset(kind: Any) -> None:
    one = changed("a", Counts(1, 1, 0), Counts(1, 1, 0), RowChanges(0, 0, 0, {}, 0, {}), FactChange(kind, "k", 1, 2))
    assert failures(kind, one, STAYS) == {"a": "k: 1 -> 2"}
    assert failures("mining", one) == failures("settings", one) == failures("datasets", one) == {}


@pytest.mark.parametrize("kind", ["mining", "settings"])
def test_settings_are_those_of_the_build(kind: Any) -> None:
    settings = [FactChange(kind, "seed", 42, 7)]
    assert failures(kind, STAYS, settings=settings) == {WHOLE: "seed: 42 -> 7"}
    assert failures("licence", STAYS, settings=settings) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rwos<-5%", "no measure 'rwos'; did you mean 'rows'?; there are rows, read"),
        ("licenses", "did you mean 'licence'?"),
        ("licence>+1", "licence is no number; write licence alone"),
        ("added<-5%", "never below that; write added>+5%"),
        *(
            (bad, "is no gate; write MEASURE<-NUMBER")
            for bad in ("", "rows,", "rows<5%", "rows>-5%", "rows=5", "rows<-5%%")
        ),
        ("rows<- 5", "is no gate"),
    ],
)
def test_what_is_no_gate_is_refused(text: str, told: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_gates(text)
    assert told in str(caught.value)


def test_gates_are_named_in_the_help() -> None:
    printed = CliRunner().invoke(app, ["diff", "--help"], env={"COLUMNS": "500"}).output
    for name in (*MEASURES, *FACTS):
        assert name in printed


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["diff", *map(str, arguments)])
    return result.exit_code, result.stdout


def test_the_exit_code_says_whether_they_differ(tmp_path: Path) -> None:
    old, new = two(tmp_path, [record("a"), record("b")], [record("a")])
    assert run(old, old) == (0, run(old, old)[1])
    assert run(old, new)[0] == 1
    assert run(old, tmp_path / "nowhere")[0] == 2
    assert run(old, new, "--fail-on", "rowz")[0] == 2


def test_with_gates_it_says_whether_all_passed(tmp_path: Path) -> None:
    old, new = two(tmp_path, [record("a"), record("b")], [record("a")])
    code, text = run(old, new, "--fail-on", "rows<-60%,datasets")
    assert code == 0
    assert "gate rows<-60%: passed" in text
    code, text = run(old, new, "--fail-on", "datasets,rows<-40%")
    assert code == 1
    assert "gate datasets: passed" in text
    assert "gate rows<-40%: FAILED" in text
    assert "toy/1: -1 rows (-50.00 %)" in text


def test_json_has_all_of_it_with_whole_texts(tmp_path: Path) -> None:
    long = "tea " * 500
    old, new = two(
        tmp_path,
        [record("a"), record("b"), record("c")],
        [record("a", neg=["Represent it;", long]), record("c"), record("d", pos_score=float("nan"))],
    )
    edited(new, lambda manifest: manifest["datasets"][0].update(licence="MIT"))
    code, text = run(old, new, "--json", "--fail-on", "licence,rows<-5%")
    told = orjson.loads(text)
    assert code == 1
    assert told["same"] is False
    [one] = told["datasets"]
    assert one["rows"] == {"added": 1, "removed": 1, "changed": 1, "fields": {"neg": 1}, "other_negatives": 1}
    assert one["facts"] == [{"kind": "licence", "key": "licence", "old": "CC0-1.0", "new": "MIT"}]
    assert {example["kind"] for example in told["examples"]} == {"added", "removed", "neg"}
    assert next(example["new"] for example in told["examples"] if example["kind"] == "neg") == long
    assert told["gates"] == [
        {
            "gate": "licence",
            "passed": False,
            "failures": [{"dataset": "toy/1", "seen": "licence: 'CC0-1.0' -> 'MIT'"}],
        },
        {"gate": "rows<-5%", "passed": True, "failures": []},
    ]


def test_the_terminal_names_what_differs(tmp_path: Path) -> None:
    old, new = two(
        tmp_path,
        [record("a", pos=["", "tea " * 99 + "and cups"]), record("b"), record("x", 2), record("y", 3)],
        [
            record("a", pos=["", "tea " * 99 + "and mugs"], neg=["", "a tale " * 99 + "of foxes"]),
            record("x", 2),
            record("z", 4),
        ],
    )
    for folder, licence in ((old, "MIT"), (new, "0BSD")):
        for number in (0, 1):
            edited(folder, lambda manifest, n=number, to=licence: manifest["datasets"][n].update(licence=to))
    code, text = run(old, new)
    assert code == 1
    assert "licence: MIT -> 0BSD\n        in toy/1, toy/2\n" in text
    lines = text.splitlines()
    row = next(line for line in lines if line.lstrip().startswith("toy/1"))
    assert row.split() == ["toy/1", "2", "1", "-", "1", "1", "licence"]
    assert "dataset removed" in next(line for line in lines if line.lstrip().startswith("toy/3"))
    assert "dataset added" in next(line for line in lines if line.lstrip().startswith("toy/4"))
    assert "0 datasets are equal" in text
    assert re.search(r"^  A …(tea )+and cups\n  B …(tea )+and mugs$", text, re.MULTILINE)
    assert "of foxes" not in text  # cut, from where the two differ

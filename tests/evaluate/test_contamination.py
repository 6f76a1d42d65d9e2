"""`medi contamination`: planted copies, how they are counted, the command."""

import json
import random
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.evaluate.contamination import against, records
from medi_build.evaluate.contamination.report import Report, contamination

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
VOCABULARY = sorted({word for word in re.findall(r"[a-z]+", README) if len(word) > 2})


def texts(count: int, seed: int) -> list[str]:
    """Texts of 1 to 5 sentences of words that mean nothing together."""
    draw = random.Random(seed)
    return [
        " ".join(
            " ".join(draw.choices(VOCABULARY, k=draw.randint(6, 24))).capitalize() + "."
            for _ in range(draw.randint(1, 5))
        )
        for _ in range(count)
    ]


def lines(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def record(query: str, pos: str, neg: str, task: str = "one") -> dict[str, Any]:
    return {"query": ["Ask:", query], "pos": ["Tell:", pos], "neg": ["Tell:", neg], "task_name": task}


# --- planted copies


CHANGES = {
    "exact": (0.99, lambda text, draw: text),
    "case": (0.99, lambda text, draw: text.upper()),
    "punctuation": (0.99, lambda text, draw: "“" + text.replace(".", " !").replace(" ", "  ") + "…”"),
    "cut at the start": (0.95, lambda text, draw: " ".join(text.split()[10:])),
    "cut at the end": (0.95, lambda text, draw: " ".join(text.split()[:-10])),
    "reordered": (0.8, lambda text, draw: ". ".join(draw.sample(text.split(". "), len(text.split(". "))))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_found_and_nothing_else(tmp_path: Path, change: str) -> None:
    draw, (least, changed) = random.Random(1), CHANGES[change]
    evaluation = texts(300, 2)
    usable = [text for text in evaluation if len(text.split()) >= 25] if change.startswith("cut") else evaluation
    usable = [text for text in usable if ". " in text] if change == "reordered" else usable
    planted = [changed(text, draw) for text in usable]
    rest = texts(600, 3)
    source = lines(tmp_path / "records.jsonl", [record(text, text + " more of it", rest[0]) for text in planted + rest])
    (tmp_path / "evaluation.txt").write_text("\n".join(evaluation), encoding="utf-8")
    found = contamination(source, [str(tmp_path / "evaluation.txt")]).found.datasets["one"]
    assert found.records == len(planted) + len(rest)
    assert least * len(planted) <= found.hit <= len(planted)


def test_one_record_is_counted_by_its_strongest_kind_and_all_its_sides(tmp_path: Path) -> None:
    one, two, three = (" ".join(VOCABULARY[at : at + 30]) for at in (0, 100, 200))
    source = lines(
        tmp_path / "records.jsonl",
        [
            record(one.upper(), one[: len(one) * 3 // 4], "nothing here"),
            record("nothing", f"{two} and", "nothing there"),
            record(
                "nothing", "more", f"what comes before {three[: len(three) * 3 // 4]} and what comes after", "other"
            ),
            record("clean", "clean too", "and clean", "other"),
        ],
    )
    report = contamination(
        source, [str(lines(tmp_path / "e.jsonl", [{"text": t, "id": t[:3]} for t in (one, two, three)]))]
    )
    first, other = report.found.datasets["one"].by_set[0], report.found.datasets["other"].by_set[0]
    assert (first.records, dict(first.kinds)) == (2, {"exact": 1, "near": 1})
    assert dict(first.sides) == {"query": 1, "pos": 2}
    assert (other.records, dict(other.kinds), dict(other.sides)) == (1, {"overlap": 1}, {"neg": 1})
    [example] = other.examples["overlap"]
    assert (example.record, example.side, example.id, example.evaluation) == (0, "neg", three[:3], three)
    assert 0.5 < example.similarity < 1
    told = report.to_dict()
    assert (told["records"], told["records_hit"], told["datasets"]["other"]) == (4, 3, {"records": 2, "records_hit": 1})
    assert [(hit["dataset"], hit["by_kind"]) for hit in told["hits"]] == [
        ("one", {"exact": 1, "near": 1, "overlap": 0}),
        ("other", {"exact": 0, "near": 0, "overlap": 1}),
    ]


def test_a_text_that_two_sets_have_counts_for_both_and_the_record_once(tmp_path: Path) -> None:
    source = lines(tmp_path / "records.jsonl", [record("A question?", "b", "c"), record("a QUESTION", "b", "c")])
    sets = [str(lines(tmp_path / name, [{"text": "a question"}])) for name in ("x.jsonl", "y.jsonl")]
    report = contamination(source, sets)
    assert report.found.datasets["one"].hit == 2
    assert {number: counts.records for number, counts in report.found.datasets["one"].by_set.items()} == {0: 2, 1: 2}
    assert report.found.different_texts == 4 and report.found.texts == 6


def test_the_size_of_blocks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = texts(120, 5)
    rows = [
        record(q, p, n, task)
        for q, p, n, task in zip(
            texts(200, 6) + evaluation, [t.lower() for t in evaluation] + texts(200, 7),
            evaluation[::-1] + texts(200, 8), ["a", "b"] * 160, strict=True,
        )
    ]  # fmt: skip
    source = lines(tmp_path / "records.jsonl", rows)
    sets = [str(lines(tmp_path / "e.jsonl", [{"text": text} for text in evaluation]))]
    whole = contamination(source, sets).to_dict()
    assert whole["records_hit"] > 200
    for size in (1, 7, 64):
        monkeypatch.setattr(records, "ROWS_AT_ONCE", size)
        monkeypatch.setattr(against, "TEXTS_AT_ONCE", size)
        assert contamination(source, sets).to_dict() == whole


# --- the command


def test_the_command_prints_a_table_and_writes_the_report(tmp_path: Path) -> None:
    source = lines(tmp_path / "records.jsonl", [record("Is it true?", "b", "c"), record("d", "e", "f")])
    evaluation = lines(tmp_path / "e.jsonl", [{"text": "is it TRUE"}])
    told = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["contamination", str(source), "--against", str(evaluation), "--json", str(told)])
    assert done.exit_code == 0, done.output
    assert "1 of 2 records (50.00%) hold one of 1 evaluation texts of e.jsonl" in done.stdout
    assert "exact 1.00: one, record 0, query" in done.stdout and "is it TRUE" in done.stdout
    report = orjson.loads(told.read_bytes())
    [hit] = report["hits"]
    assert (hit["records"], hit["share"], hit["by_side"]["query"], hit["examples"][0]["text"]) == (
        1,
        0.5,
        1,
        "Is it true?",
    )
    clean = CliRunner().invoke(
        app, ["contamination", str(source), "--against", str(lines(tmp_path / "o.jsonl", [{"text": "z"}]))]
    )
    assert clean.exit_code == 0 and clean.stdout.startswith("0 of 2 records hold one of 1 evaluation texts")


def test_a_report_names_what_it_was_checked_against(tmp_path: Path) -> None:
    source = lines(tmp_path / "records.jsonl", [record("a", "b", "c")])
    sets = [
        str(lines(tmp_path / name, [{"text": "x"}, {"text": text}]))
        for name, text in (("x.jsonl", "y"), ("z.jsonl", "w"))
    ]
    report: Report = contamination(source, sets)
    assert [(one.name, one.texts) for one in report.against] == [("x.jsonl", 2), ("z.jsonl", 2)]
    assert len({one.digest for one in report.against}) == 2
    assert report.against == contamination(source, sets).against

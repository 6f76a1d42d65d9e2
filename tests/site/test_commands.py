"""The commands of the tutorial and of the how-to pages, in the order they stand in: `make docs-commands`."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from tools.site.commands import run_page, script

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_tutorial(tmp_path: Path) -> None:
    work, told = run_page("tutorial.md", tmp_path, timeout=7200)
    before, after = re.findall(r"heldout +ndcg_at_10 +([\d.]+) +([\d.]+)", told)[-1]
    assert float(before) == pytest.approx(30.3, abs=0.3), "the page says so"
    assert float(after) > 95
    assert "no_positive" in told and "no_query" in told
    assert (work / "report.html").stat().st_size > 50_000
    assert pl.read_parquet(work / "notes.parquet").height == 481, "a row without a note has no vector"
    assert "the bell stays silent" in script("tutorial.md")


def test_an_encoder_of_ones_own(tmp_path: Path) -> None:
    work, told = run_page("own-encoder.md", tmp_path, timeout=7200)
    assert """queries "fault report: " (saved as 'query'), documents "workshop note: " (saved as 'document')""" in told
    assert json.loads((work / "out/mine/manifest.json").read_text())["pipeline"]["encoder"]["model"] == "encoders/ours"


def test_coming_from_sentence_transformers(tmp_path: Path) -> None:
    _, told = run_page("coming-from-sentence-transformers.md", tmp_path, timeout=7200)
    ours, theirs, same = map(int, re.findall(r"(\d+) rows here, (\d+) there, (\d+) the same in all texts", told)[-1])
    assert ours > 400
    assert same > 0.95 * max(ours, theirs)


def test_coming_from_flagembedding(tmp_path: Path) -> None:
    work, _ = run_page("coming-from-flagembedding.md", tmp_path, timeout=7200)
    lines = [json.loads(line) for line in (work / "out/mined/flagembedding.jsonl").read_text().splitlines()]
    assert len(lines) == 600
    assert {len(line["neg"]) for line in lines} == {15}
    assert {"query", "pos", "neg", "pos_scores", "neg_scores"} <= set(lines[0])

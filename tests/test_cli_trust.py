"""``--trust-remote-code``: the commands that name an encoder run its code only when they are told to."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.commands import run_main
from tests.encode.test_other_builds import coded
from tests.encode.tiny_models import save_bert


def test_encode_and_mine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = coded(save_bert(tmp_path / "plain", "mean"), tmp_path / "coded", 2)
    (tmp_path / "texts.txt").write_text("one\ntwo words\n")
    rows = [{"anchor": f"question {n}", "positive": f"answer {n}"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors, mined = tmp_path / "vectors.parquet", tmp_path / "mined"
    for command in (
        ("encode", tmp_path / "texts.txt", "--model", model, "--out", vectors),
        ("mine", tmp_path / "pairs.jsonl", "--encoder", model, "--out", mined, "--store", tmp_path / "store"),
    ):
        code, told = run_main(capsys, monkeypatch, *command)
        assert code == 1
        assert "comes with code of its own" in told
        code, told = run_main(capsys, monkeypatch, *command, "--trust-remote-code")
        assert not code, told
    assert pl.read_parquet(vectors).shape == (2, 3)
    assert (mined / "ledger.json").is_file()

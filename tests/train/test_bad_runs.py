"""Rows, weights and losses that cannot be trained on end a run with one error, or are counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from medi_build.errors import DatasetError, TrainError
from medi_build.train.trainer import train
from tests.dataset.built import write_built
from tests.train.conftest import toy_records
from tests.train.runs import eight_steps, run

pytestmark = pytest.mark.slow


def test_a_loss_that_is_no_number_stops_the_run(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", learning_rate=1e38, warmup_ratio=0.0)
    with pytest.raises(
        TrainError, match=r"the loss is nan at step [234], task [12], records \[[\d, ]+\] of .*medi-data"
    ):
        run(settings)
    with pytest.raises(TrainError, match=r"not finite .* not saved"):
        run(replace(settings, output_dir=tmp_path / "one step", max_steps=1, eval_rows_per_task=0))
    assert not (tmp_path / "one step" / "model.safetensors").exists()


def test_a_model_whose_weights_are_no_numbers_is_refused(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    with torch.no_grad():
        model[2].linear.weight[3, 1] = torch.inf
    model.save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(TrainError, match=r"broken: 1 weights are not finite \(2.linear.weight and others\)"):
        run(eight_steps(toy_data, tmp_path / "broken", tmp_path / "run"))


def test_a_folder_that_is_not_whole_is_told_before_the_run(tiny_model: Path, tmp_path: Path) -> None:
    (write_built(tmp_path / "built", toy_records()) / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match=r"manifest\.json: not valid JSON .*build it again"):
        run(eight_steps(tmp_path / "built", tiny_model, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_instruction_that_fills_the_window_is_named_or_skipped(tiny_model: Path, tmp_path: Path) -> None:
    records = toy_records()
    records[17]["pos"][0] = "Represent the document " * 30
    path = tmp_path / "medi-data.json"
    path.write_text(json.dumps(records))
    settings = eight_steps(path, tiny_model, tmp_path / "run", max_steps=4)
    with pytest.raises(TrainError, match=r"record 17 .*leaves no room.*1 such rows"):
        run(settings)
    records[20]["neg"][1] = records[20]["pos"][1]
    records[21]["neg"][1] = records[21]["query"][1]
    path.write_text(json.dumps(records))
    told: list[str] = []
    trained = train(replace(settings, skip_bad_rows=True), report=told.append)
    assert trained.skipped == {"instruction_fills_window": 1, "negative_is_positive": 1, "negative_is_query": 1}
    assert any("1 negative_is_positive" in line for line in told)

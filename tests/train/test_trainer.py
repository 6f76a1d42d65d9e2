"""Training runs on a tiny encoder: what they learn, and that what is saved is what was trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers.sentence_transformer.losses as st_losses
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.errors import TrainError
from medi_build.train.collate import TripletCollator
from medi_build.train.data import Rows
from medi_build.train.loss import instructor_loss
from medi_build.train.model_card import Trained
from medi_build.train.trainer import load_for_training, train
from tests.train.conftest import TOPICS
from tests.train.runs import eight_steps, losses, run, same, weights

pytestmark = pytest.mark.slow


def test_it_learns_and_leaves_card_and_plot(unbroken: Trained, toy_data: Path) -> None:
    curve = losses(unbroken)
    assert [step for step, _ in curve] == list(range(1, 9))
    assert np.mean([loss for _, loss in curve[-3:]]) < np.mean([loss for _, loss in curve[:3]])
    card = (unbroken.output_dir / "README.md").read_text()
    for needed in ("Represent the document for retrieval;", "manifest digest", "licences", "cl_temperature: 0.1"):
        assert needed in card
    assert "<svg" in (unbroken.output_dir / "training.svg").read_text()
    assert unbroken.accuracy is not None


def test_a_second_run_is_the_same(unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    again = run(eight_steps(toy_data, tiny_model, tmp_path / "again", export="instructor"))
    assert losses(again) == losses(unbroken)
    assert same(weights(again.output_dir), weights(unbroken.output_dir))
    other = run(eight_steps(toy_data, tiny_model, tmp_path / "other", seed=1))
    assert losses(other) != losses(unbroken)


def test_both_forms_load_with_the_same_vectors(unbroken: Trained) -> None:
    prompt, text = "Represent the question;", "why copper roofs?"
    peer = SentenceTransformer(str(unbroken.output_dir), device="cpu")
    wanted = peer.encode([text], prompt=prompt)
    for folder in (unbroken.output_dir, unbroken.output_dir / "instructor"):
        encoder = Encoder(EncoderSpec(model=str(folder), dtype="float32"), "cpu")
        assert np.abs(encoder.encode([text], prompt).vectors - wanted).max() < 1e-6
    pooling = json.loads((unbroken.output_dir / "1_Pooling" / "config.json").read_text())
    assert pooling["include_prompt"] is False
    assert "include_prompt" not in json.loads((unbroken.output_dir / "instructor/1_Pooling/config.json").read_text())
    modules = (unbroken.output_dir / "modules.json").read_text()
    assert "medi" not in modules


def test_the_first_loss_is_the_objective_of_the_planned_batch(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """End to end: tokens, window, instruction mask, pooling and loss against sentence-transformers' own encode."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))
    settings = eight_steps(toy_data, model, tmp_path / "run", max_steps=1, eval_steps=1, eval_rows_per_task=0)
    seen: list[Rows] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any, **_: Any) -> None:
            ((_, rows),) = train_dataloader.dataset.__getitems__(next(iter(train_dataloader.batch_sampler)))
            seen.append(rows)

    trained = run(settings, callbacks=[Watch()])
    rows = seen[0]
    peer = SentenceTransformer(str(tiny_model), device="cpu")
    peer.set_pooling_include_prompt(False)
    peer.max_seq_length = 48
    vectors = [
        torch.stack([
            peer.encode(text, prompt=prompt, convert_to_tensor=True)
            for prompt, text in zip(rows.instructions[side], rows.texts[side], strict=True)
        ])
        for side in ("query", "pos", "neg")
    ]  # fmt: skip
    assert losses(trained)[0][1] == pytest.approx(instructor_loss(*vectors, 0.1).item(), abs=1e-4)


@pytest.mark.parametrize(("loss", "wanted"), [("instructor", None), ("MultipleNegativesRankingLoss", None),
                                              ("instructor", 2), ("TripletLoss", None)])  # fmt: skip
def test_further_negatives_are_trained_on(
    toy_data: Path, tiny_model: Path, tmp_path: Path, loss: str, wanted: int | None
) -> None:
    """They change the loss, except where only the first is asked for or the loss knows one."""
    records = json.loads(toy_data.read_text())
    for i, record in enumerate(records):
        record["hard_negatives"] = [f"{topic} number {i}" for topic in TOPICS[: i % 4]]
    path = tmp_path / "medi-data.json"
    path.write_text(json.dumps(records))
    few: dict[str, Any] = {"max_steps": 2, "eval_steps": 2, "loss": loss, "classes": "mixed"}
    told: list[str] = []
    trained = train(eight_steps(path, tiny_model, tmp_path / "a", hard_negatives=wanted, **few), report=told.append)
    without = run(eight_steps(toy_data, tiny_model, tmp_path / "b", **few))
    one = run(eight_steps(path, tiny_model, tmp_path / "c", hard_negatives=1, **few))
    assert losses(one) == losses(without)
    assert (losses(trained) == losses(without)) == (loss == "TripletLoss")
    most = 1 if loss == "TripletLoss" else wanted or 4
    assert (f"a row has up to {most} hard negatives, a batch up to {(2 + most) * 8} texts" in told) == (most > 1)


def test_a_loss_of_ones_own(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", max_steps=2, eval_steps=2, loss="custom")

    def matryoshka(model: Any) -> torch.nn.Module:
        return st_losses.MatryoshkaLoss(model, st_losses.MultipleNegativesRankingLoss(model), [12, 4])

    assert len(losses(run(settings, loss=matryoshka))) == 2
    with pytest.raises(TrainError, match="goes with one"):
        run(settings)
    with pytest.raises(TrainError, match="goes with one"):
        run(replace(settings, loss="instructor"), loss=matryoshka)


@pytest.mark.parametrize("changes", [
    {"cached": True, "tokens_per_forward": 200},
    {"loss": "CachedMultipleNegativesRankingLoss", "tokens_per_forward": 200},
    {"loss": "MultipleNegativesRankingLoss"},
    {"loss": "TripletLoss"},
    {"precision": "bfloat16", "extra": {"disable_tqdm": True}},
    {"lora_rank": 2},
    {"hard_negatives": 2, "cached": True},
    {"gradient_accumulation_steps": 2, "task_cap": 10},
    {"pool_instruction": True, "eval_rows_per_task": 0},
])  # fmt: skip
def test_choices_train(toy_data: Path, tiny_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", max_steps=2, eval_steps=2, **changes)
    trained = run(settings)
    assert len(losses(trained)) == 2
    before, after = weights(tiny_model), weights(trained.output_dir)
    assert before.keys() == after.keys()
    assert not same(before, after)


@pytest.mark.parametrize("pooled", [True, False])
def test_texts_are_joined_as_the_trained_encoder_will_join_them(
    toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    seen: list[bool] = []

    def spy(*arguments: Any, **options: Any) -> TripletCollator:
        collator = TripletCollator(*arguments, **options)
        seen.append(collator.skip_instruction)
        return collator

    for module in ("trainer", "plan"):
        monkeypatch.setattr(f"medi_build.train.{module}.TripletCollator", spy)
    trained = run(
        eight_steps(toy_data, tiny_model, tmp_path / "run", max_steps=1, eval_steps=1, pool_instruction=pooled)
    )
    encoder = Encoder(EncoderSpec(model=str(trained.output_dir)), "cpu")
    assert seen == [encoder.skip_instruction] * 2 == [not pooled] * 2  # for training, and for what is held out


@pytest.mark.parametrize("accumulated", [1, 2])
def test_sparse_lookups_change_no_weight(
    toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulated: int
) -> None:
    few: dict[str, Any] = {"max_steps": 3, "eval_steps": 3, "gradient_accumulation_steps": accumulated}
    few |= {"tokens_per_forward": 100, "eval_rows_per_task": 0}
    ours = run(eight_steps(toy_data, tiny_model, tmp_path / "sparse", **few))
    monkeypatch.setattr("medi_build.train.planned_trainer.sparse_lookups", lambda model: [])
    dense = run(eight_steps(toy_data, tiny_model, tmp_path / "dense", **few))
    wanted = weights(dense.output_dir)
    for name, value in weights(ours.output_dir).items():
        assert torch.allclose(value, wanted[name], atol=1e-5), name


def test_gradient_checkpointing_changes_nothing(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    extra = {"use_cpu": True, "disable_tqdm": True, "activation_checkpointing": True}
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", extra=extra)
    assert dict(losses(run(settings))) == pytest.approx(dict(losses(unbroken)), abs=1e-4)


def test_max_source_length_is_used(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", max_source_length=32, eval_rows_per_task=0)
    model, window = load_for_training(settings)
    assert window == model.max_seq_length == 32
    widths: list[int] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            model[0].register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0]["input_ids"].shape[1]))

    told: list[str] = []
    trained = train(settings, callbacks=[Watch()], report=told.append)
    assert max(widths) == 32
    saved = SentenceTransformer(str(trained.output_dir), device="cpu")
    assert saved.max_seq_length == 32
    rows = json.loads(toy_data.read_text())
    texts = [saved.tokenizer(side[0] + side[1])["input_ids"] for row in rows for side in (row["query"], row["pos"])]
    assert any(len(text) > 32 for text in texts)
    assert told[-1] == f"{trained.texts_cut:,} texts were cut to the window of 32 tokens"
    assert f"cut to the window: {trained.texts_cut}" in (trained.output_dir / "README.md").read_text()


@pytest.mark.parametrize("loss", ["instructor", "MultipleNegativesRankingLoss"])
def test_a_model_with_truncate_dim_trains_and_keeps_it(
    tiny_model: Path, toy_data: Path, tmp_path: Path, loss: str
) -> None:
    """Whole vectors are trained, as in sentence-transformers; accuracy is that of the vectors that it encodes to."""
    cut = Path(shutil.copytree(tiny_model, tmp_path / "cut"))
    config = json.loads((cut / "config_sentence_transformers.json").read_text())
    (cut / "config_sentence_transformers.json").write_text(json.dumps(config | {"truncate_dim": 1}))
    told: list[str] = []
    trained = train(eight_steps(toy_data, cut, tmp_path / "out", loss=loss), report=told.append)
    whole = run(eight_steps(toy_data, tiny_model, tmp_path / "whole", loss=loss))
    assert losses(trained) == losses(whole)
    assert trained.accuracy != whole.accuracy
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["a ship"]).shape == (1, 1)
    assert any("cut to 1" in line for line in told)
    with pytest.raises(TrainError, match="truncate_dim 1, which InstructorEmbedding cannot"):
        run(eight_steps(toy_data, cut, tmp_path / "out", export="instructor"))

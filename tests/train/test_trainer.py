"""Training runs on a tiny encoder: what they learn, resume, save and refuse."""

import json
import resource
import shutil
import signal
import subprocess
import sys
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
from medi_build.errors import DatasetError, TrainError
from medi_build.train.checkpoints import RECEIPT, drop_older_checkpoints
from medi_build.train.collate import TripletCollator
from medi_build.train.data import Rows
from medi_build.train.model_card import Trained
from medi_build.train.objective import instructor_loss
from medi_build.train.settings import TrainSettings, from_public_arguments
from medi_build.train.trainer import load_for_training, train
from tests.dataset.built import write_built
from tests.train.conftest import TOPICS, toy_records

pytestmark = pytest.mark.slow


def settings_for(data: Path, model: Path, out: Path, **changes: Any) -> TrainSettings:
    fast: dict[str, Any] = {
        "train_batch_size": 8,
        "max_steps": 8,
        "learning_rate": 1e-3,
        "cl_temperature": 0.1,
        "eval_steps": 4,
        "logging_steps": 1,
        "max_source_length": 48,
        "extra": {"use_cpu": True, "disable_tqdm": True},
    }
    return TrainSettings(source=data, model_name_or_path=str(model), output_dir=out, **{**fast, **changes})


def run(settings: TrainSettings, **options: Any) -> Trained:
    return train(settings, report=lambda line: None, **options)


def losses(trained: Trained) -> list[tuple[int, float]]:
    return [(point["step"], point["loss"]) for point in trained.history if "loss" in point]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SentenceTransformer(str(folder), device="cpu").state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unbroken(toy_data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(settings_for(toy_data, tiny_model, tmp_path_factory.mktemp("run") / "unbroken", export="instructor"))


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
    again = run(settings_for(toy_data, tiny_model, tmp_path / "again", export="instructor"))
    assert losses(again) == losses(unbroken)
    assert same(weights(again.output_dir), weights(unbroken.output_dir))
    other = run(settings_for(toy_data, tiny_model, tmp_path / "other", seed=1))
    assert losses(other) != losses(unbroken)


def test_a_resumed_run_continues_exactly(unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "broken", export="instructor")
    with pytest.raises(KeyboardInterrupt):
        run(settings, callbacks=[StopAt(6)])
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)
    assert same(weights(resumed.output_dir), weights(unbroken.output_dir))


def test_a_killed_process_resumes_exactly(unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "killed", export="instructor")
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal\nfrom pathlib import *\nfrom transformers import TrainerCallback\n"
        "from medi_build.train.settings import *\nfrom medi_build.train.trainer import train\n"
        "class Kill(TrainerCallback):\n    def on_step_end(self, args, state, control, **_):\n"
        "        if state.global_step == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"train({settings!r}, callbacks=[Kill()])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)
    assert same(weights(resumed.output_dir), weights(unbroken.output_dir))


def test_a_run_that_dies_while_it_writes_or_removes_a_checkpoint_goes_on_from_the_one_before(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "half", export="instructor")
    save = torch.save

    def dies(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-8" in str(file) and "optimizer" in str(file):
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt
        save(value, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.undo()
    assert (settings.output_dir / "checkpoint-8" / "model.safetensors").exists()
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)

    few = settings_for(toy_data, tiny_model, tmp_path / "few", eval_steps=2, export="instructor")
    removed: list[str] = []

    def dies_too(folder: Path) -> None:
        removed.append(folder.name)
        next(path for path in folder.iterdir() if path.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", dies_too)
    with pytest.raises(KeyboardInterrupt):
        run(few)
    monkeypatch.undo()
    shutil.rmtree(few.output_dir / "checkpoint-6")  # so that the half-removed one is the next in line
    again = run(few)
    assert len(removed) == 1
    assert again.resumed_from in {2, 4} - {int(removed[0].split("-")[1])}
    assert losses(again) == losses(unbroken)  # however often it is evaluated


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_full_disk_is_an_error_that_says_so(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path, limit: int
) -> None:
    """The weights of a checkpoint are above the first limit already, the optimizer's state is above both."""
    settings = settings_for(toy_data, tiny_model, tmp_path / "full", export="instructor")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(TrainError, match=r"full: cannot be written \(.*make room"):
            run(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert losses(run(settings)) == losses(unbroken)


def test_the_newest_and_the_best_checkpoint_are_kept(tmp_path: Path) -> None:
    for step in (100, 20, 3, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-old").mkdir()
    drop_older_checkpoints(tmp_path, 3, tmp_path / "checkpoint-3")
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-100", "checkpoint-40", "checkpoint-3", "checkpoint-old"
    }  # fmt: skip
    drop_older_checkpoints(tmp_path, 1, None)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-100", "checkpoint-old"}


def test_a_checkpoint_is_not_taken_for_another_runs(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", max_steps=4)
    run(settings)
    with pytest.raises(TrainError, match=r"another run.*learning_rate was 0.001, is 0.01"):
        run(replace(settings, learning_rate=0.01))
    checkpoint = settings.output_dir / "checkpoint-4"
    (checkpoint / "optimizer.pt").write_bytes(b"\0" * 10)
    with pytest.raises(TrainError, match=r"optimizer.pt: has changed.*corrupted"):
        run(settings)
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(TrainError, match=r"optimizer.pt: is missing"):
        run(settings)
    (checkpoint / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(TrainError, match=r"2_Dense/model.safetensors: is missing"):
        run(settings)
    (checkpoint / RECEIPT).write_text("{")
    with pytest.raises(TrainError, match=r"cannot be read"):
        run(settings)
    (checkpoint / RECEIPT).unlink()  # as if it had been killed while writing the checkpoint
    assert run(settings).resumed_from == 0


def test_both_forms_load_with_the_same_vectors(unbroken: Trained) -> None:
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.encode.encoder import Encoder

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
    settings = settings_for(toy_data, model, tmp_path / "run", max_steps=1, eval_steps=1, eval_rows_per_task=0)
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
    trained = train(settings_for(path, tiny_model, tmp_path / "a", hard_negatives=wanted, **few), report=told.append)
    without = run(settings_for(toy_data, tiny_model, tmp_path / "b", **few))
    one = run(settings_for(path, tiny_model, tmp_path / "c", hard_negatives=1, **few))
    assert losses(one) == losses(without)
    assert (losses(trained) == losses(without)) == (loss == "TripletLoss")
    most = 1 if loss == "TripletLoss" else wanted or 4
    assert (f"a row has up to {most} hard negatives, a batch up to {(2 + most) * 8} texts" in told) == (most > 1)


def test_a_loss_of_ones_own(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", max_steps=2, eval_steps=2, loss="custom")

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
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", max_steps=2, eval_steps=2, **changes)
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
        settings_for(toy_data, tiny_model, tmp_path / "run", max_steps=1, eval_steps=1, pool_instruction=pooled)
    )
    encoder = Encoder(EncoderSpec(model=str(trained.output_dir)), "cpu")
    assert seen == [encoder.skip_instruction] * 2 == [not pooled] * 2  # for training, and for what is held out


@pytest.mark.parametrize("accumulated", [1, 2])
def test_sparse_lookups_change_no_weight(
    toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulated: int
) -> None:
    few: dict[str, Any] = {"max_steps": 3, "eval_steps": 3, "gradient_accumulation_steps": accumulated}
    few |= {"tokens_per_forward": 100, "eval_rows_per_task": 0}
    ours = run(settings_for(toy_data, tiny_model, tmp_path / "sparse", **few))
    monkeypatch.setattr("medi_build.train.planned_trainer.sparse_lookups", lambda model: [])
    dense = run(settings_for(toy_data, tiny_model, tmp_path / "dense", **few))
    wanted = weights(dense.output_dir)
    for name, value in weights(ours.output_dir).items():
        assert torch.allclose(value, wanted[name], atol=1e-5), name


def test_gradient_checkpointing_changes_nothing(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    extra = {"use_cpu": True, "disable_tqdm": True, "activation_checkpointing": True}
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", extra=extra)
    assert dict(losses(run(settings))) == pytest.approx(dict(losses(unbroken)), abs=1e-4)


def test_a_loss_that_is_no_number_stops_the_run(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", learning_rate=1e38, warmup_ratio=0.0)
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
        run(settings_for(toy_data, tmp_path / "broken", tmp_path / "run"))


def test_a_folder_that_is_not_whole_is_told_before_the_run(tiny_model: Path, tmp_path: Path) -> None:
    (write_built(tmp_path / "built", toy_records()) / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match=r"manifest\.json: not valid JSON .*build it again"):
        run(settings_for(tmp_path / "built", tiny_model, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_instruction_that_fills_the_window_is_named_or_skipped(tiny_model: Path, tmp_path: Path) -> None:

    records = toy_records()
    records[17]["pos"][0] = "Represent the document " * 30
    path = tmp_path / "medi-data.json"
    path.write_text(json.dumps(records))
    settings = settings_for(path, tiny_model, tmp_path / "run", max_steps=4)
    with pytest.raises(TrainError, match=r"record 17 .*leaves no room.*1 such rows"):
        run(settings)
    records[20]["neg"][1] = records[20]["pos"][1]
    records[21]["neg"][1] = records[21]["query"][1]
    path.write_text(json.dumps(records))
    told: list[str] = []
    trained = train(replace(settings, skip_bad_rows=True), report=told.append)
    assert trained.skipped == {"instruction_fills_window": 1, "negative_is_positive": 1, "negative_is_query": 1}
    assert any("1 negative_is_positive" in line for line in told)


def test_max_source_length_is_used(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = settings_for(toy_data, tiny_model, tmp_path / "run", max_source_length=32, eval_rows_per_task=0)
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


def test_texts_cut_are_counted_once_over_a_whole_run_even_if_it_breaks(
    toy_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    short: dict[str, Any] = {"max_source_length": 32, "eval_rows_per_task": 0, "logging_steps": 2, "max_steps": 9}
    whole = run(settings_for(toy_data, tiny_model, tmp_path / "whole", **short))
    wide = run(settings_for(toy_data, tiny_model, tmp_path / "wide", **{**short, "max_source_length": 512}))
    settings = settings_for(toy_data, tiny_model, tmp_path / "broken", **short)
    with pytest.raises(KeyboardInterrupt):
        run(settings, callbacks=[StopAt(7)])
    assert run(settings).texts_cut == whole.texts_cut > 0
    assert wide.texts_cut == 0


@pytest.mark.parametrize("bad", [
    {"loss": "instructer"},
    {"cl_temperature": 0.0},
    {"eval_steps": 5, "logging_steps": 2},
    {"warmup_ratio": 1.5},
    {"train_batch_size": 0},
    {"max_source_length": 2},
    {"max_source_length": 0},
    {"hard_negatives": 0},
    {"weight_decay": -1.0},
    {"weight_decay": float("nan")},
    {"precision": "float16"},
    {"extra": {"use_cpu": True, "fp16": True}},
    {"extra": {"load_best_model_at_end": False}},
    {"extra": {"lr_scheduler_type": "sideways"}},
    {"extra": {"report_to": "pigeons"}},
    {"extra": {"learning_rate": 1.0}},
])  # fmt: skip
def test_impossible_settings_are_refused(toy_data: Path, tiny_model: Path, tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(TrainError):
        run(settings_for(toy_data, tiny_model, tmp_path / "run", **bad))


def test_the_public_scripts_arguments_are_known() -> None:
    fields, notes = from_public_arguments(
        {
            "cl_temperature": 0.1,
            "per_device_train_batch_size": 4,
            "cache_dir": "x",
            "adam_beta2": "9e-1",
            "do_train": True,
        }
    )
    assert fields == {"cl_temperature": 0.1, "train_batch_size": 4, "extra": {"adam_beta2": 0.9}}
    assert len(notes) == 2
    fields, notes = from_public_arguments(
        {"per_device_train_batch_size": 4, "bf16": True, "fp16": "false", "save_steps": "1000", "run_name": 7,
         "eval_strategy": "epoch", "num_beams": 4}, processes=2
    )  # fmt: skip
    assert fields == {
        "train_batch_size": 8,
        "precision": "bfloat16",
        "eval_steps": 1000,
        "extra": {"run_name": "7"},
    }
    assert [note.split()[0] for note in notes] == ["--eval_strategy", "--num_beams"]
    with pytest.raises(TrainError, match=r"did you mean 'cl_temperature'"):
        from_public_arguments({"cl_temprature": 1})
    with pytest.raises(TrainError, match=r"--lora_rank is 'four'.*integer"):
        from_public_arguments({"lora_rank": "four"})
    with pytest.raises(TrainError, match=r"--adam_beta2 is 'x'.*number"):
        from_public_arguments({"adam_beta2": "x"})


@pytest.mark.parametrize("loss", ["instructor", "MultipleNegativesRankingLoss"])
def test_a_model_with_truncate_dim_trains_and_keeps_it(
    tiny_model: Path, toy_data: Path, tmp_path: Path, loss: str
) -> None:
    """Whole vectors are trained, as in sentence-transformers; accuracy is that of the vectors that it encodes to."""
    cut = Path(shutil.copytree(tiny_model, tmp_path / "cut"))
    config = json.loads((cut / "config_sentence_transformers.json").read_text())
    (cut / "config_sentence_transformers.json").write_text(json.dumps(config | {"truncate_dim": 1}))
    told: list[str] = []
    trained = train(settings_for(toy_data, cut, tmp_path / "out", loss=loss), report=told.append)
    whole = run(settings_for(toy_data, tiny_model, tmp_path / "whole", loss=loss))
    assert losses(trained) == losses(whole)
    assert trained.accuracy != whole.accuracy
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["a ship"]).shape == (1, 1)
    assert any("cut to 1" in line for line in told)
    with pytest.raises(TrainError, match="truncate_dim 1, which InstructorEmbedding cannot"):
        run(settings_for(toy_data, cut, tmp_path / "out", export="instructor"))

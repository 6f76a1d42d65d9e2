"""Low-rank training on every architecture, and training that starts from an adapter."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.errors import TrainError
from medi_build.train.lora import lora_layers
from medi_build.train.trainer import MERGED_BASE, train
from tests.encode.tiny_models import save_t5, unigram_tokenizer
from tests.encode.tiny_networks import CONFIGS, save_adapter, save_bare_adapter, save_network
from tests.train.runs import StopAt, losses, run, settings_for

pytestmark = pytest.mark.slow

TEXTS = ["why copper roofs turn green", "the harbour is far", "x"]
LAYERS = {
    "Bert": {"query", "value"},
    "Roberta": {"query", "value"},
    "Electra": {"query", "value"},
    "T5": {"q", "v"},
    "MPNet": {"q", "k", "v", "o", "dense"},
    "DistilBert": {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"},
    "Albert": {"query", "key", "value", "dense", "ffn", "ffn_output", "embedding_hidden_mapping_in"},
    "ModernBert": {"Wqkv", "Wo", "Wi"},
}


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def vectors(folder: Path) -> Any:
    return load_model(find_model(str(folder))).encode(TEXTS)


class Look(TrainerCallback):
    """Keeps the weights before and after, and the vectors after, of the model as it is trained."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.before = weights(model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.after = weights(model)
        training = model.training
        self.vectors = model.eval().encode(TEXTS)
        model.train(training)


@pytest.mark.parametrize("kind", CONFIGS)
def test_nothing_but_lora_is_trained_and_what_is_saved_is_what_was_trained(
    toy_data: Path, tmp_path: Path, kind: str
) -> None:
    model = save_network(tmp_path / "model", kind, include_prompt=False)
    look, told = Look(), list[str]()
    settings = settings_for(toy_data, model, tmp_path / "out", lora_rank=2, max_steps=1)
    train(settings, callbacks=[look], report=told.append)
    changed = {name for name, value in look.after.items() if not torch.equal(value, look.before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    layers = {name.partition(".lora_")[0].rpartition(".")[2] for name in changed}
    assert layers == LAYERS[kind]
    assert not [name for name in look.after if "lora_" in name and "pooler" in name]
    assert [f"({', '.join(sorted(layers))})" in line for line in told if line.startswith("LoRA of rank 2")] == [True]
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert weights(saved).keys() == weights(SentenceTransformer(str(model), device="cpu")).keys()
    assert np.abs(vectors(tmp_path / "out") - look.vectors).max() < 1e-5
    assert np.abs(vectors(model) - look.vectors).max() > 1e-3


def test_modules_after_the_transformer_are_left_alone(toy_data: Path, tmp_path: Path) -> None:
    model, look = save_t5(tmp_path / "model", unigram_tokenizer()), Look()
    run(settings_for(toy_data, model, tmp_path / "out", lora_rank=2), callbacks=[look])
    assert any(name.startswith("2.linear") for name in look.before)
    changed = {name for name, value in look.after.items() if not torch.equal(value, look.before[name])}
    assert changed and all("lora_" in name for name in changed)


@pytest.mark.parametrize(
    ("asked", "layers"),
    [
        ("query", {"query"}),
        ("query, output.dense", {"query", "dense"}),
        ("all-linear", {"query", "key", "value", "dense"}),
    ],
)
def test_layers_can_be_named(tmp_path: Path, asked: str, layers: set[str]) -> None:
    network = load_model(find_model(str(save_network(tmp_path / "model", "Bert"))))[0].auto_model
    found = lora_layers(network, asked)
    assert {layer.rpartition(".")[2] for layer in found} == layers
    assert "pooler.dense" not in found
    if asked.startswith("query,"):
        assert {layer.split(".", 3)[3] for layer in found} == {
            "attention.self.query", "attention.output.dense", "output.dense"
        }  # fmt: skip


@pytest.mark.parametrize("asked", ["qeury", "query,LayerNorm", "", "pooler.dense", "query,"])
def test_a_name_of_no_linear_layer_is_an_error_that_lists_them(tmp_path: Path, asked: str) -> None:
    network = load_model(find_model(str(save_network(tmp_path / "model", "Bert"))))[0].auto_model
    with pytest.raises(TrainError, match="no linear layer of this model; there are dense, key, query, value, or all-l"):
        lora_layers(network, asked)


@pytest.mark.parametrize("save", [save_adapter, save_bare_adapter])
def test_training_from_an_adapter_goes_on_from_its_vectors(toy_data: Path, tmp_path: Path, save: Any) -> None:
    adapter = save(save_network(tmp_path / "model", "Bert"), tmp_path / "adapter")
    load_model(find_model(str(adapter))).save(str(tmp_path / "merged"))
    told: list[str] = []
    trained = train(settings_for(toy_data, adapter, tmp_path / "out"), report=told.append)
    plain = run(settings_for(toy_data, tmp_path / "merged", tmp_path / "plain"))
    assert any("adapter" in line and "merged into the weights" in line for line in told)
    assert losses(trained) == losses(plain)
    assert np.array_equal(vectors(tmp_path / "out"), vectors(tmp_path / "plain"))
    assert not list((tmp_path / "out").glob("adapter*"))


@pytest.mark.parametrize("start", ["model", "adapter"])
def test_lora_resumes_exactly(toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """Also from another folder, and with the best checkpoint loaded at the end."""
    monkeypatch.chdir(tmp_path)
    base = save_network(tmp_path / "model", "Bert")
    save_adapter(base, tmp_path / "adapter")
    whole = settings_for(
        toy_data, Path(start), tmp_path / "out", lora_rank=2, max_steps=4, eval_rows_per_task=3, eval_steps=2
    )
    unbroken = run(whole)
    broken = settings_for(
        toy_data, Path(start), tmp_path / "broken", lora_rank=2, max_steps=4, eval_rows_per_task=3, eval_steps=2
    )
    with pytest.raises(KeyboardInterrupt):
        run(broken, callbacks=[StopAt(3)])
    assert (tmp_path / "broken" / MERGED_BASE).is_dir() == (start == "adapter")
    checkpoint = SentenceTransformer(str(tmp_path / "broken" / "checkpoint-2"), device="cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / start, start)
    if start == "model":
        shutil.copytree(tmp_path / "model-backbone", "model-backbone")
    resumed = run(broken)
    assert resumed.resumed_from == 2
    assert losses(resumed) == losses(unbroken)
    assert np.array_equal(vectors(tmp_path / "broken"), vectors(tmp_path / "out"))
    best = max((point["eval_triplet_accuracy"], -point["step"]) for point in resumed.history if "eval_loss" in point
               or "eval_triplet_accuracy" in point)  # fmt: skip
    assert resumed.accuracy is not None
    assert resumed.accuracy[1] == best[0]
    assert any("lora_A" in name for name, _ in checkpoint.named_parameters())


def test_a_checkpoint_of_another_base_is_not_gone_on_from(toy_data: Path, tmp_path: Path) -> None:
    model = save_network(tmp_path / "model", "Bert")
    settings = settings_for(toy_data, model, tmp_path / "out", lora_rank=2)
    run(settings)
    save_network(tmp_path / "model", "Bert", seed=1)
    with pytest.raises(TrainError, match=r"belongs to another run \(model was"):
        run(settings)

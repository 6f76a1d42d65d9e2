"""Folders that hold a PEFT adapter: found, merged, told apart, or refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers import AutoModel, BertForSequenceClassification

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import open_embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.quantize import quantize
from medi_build.errors import EncoderError
from tests.encode.tiny_models import edit_json, save_t5, unigram_tokenizer
from tests.encode.tiny_networks import CONFIGS, lora, save_adapter, save_backbone, save_bare_adapter, save_network

TEXTS = ["why copper roofs turn green", "the harbour is far", "x", "two ferries cross the strait every hour"]


def encoder(model: Path) -> Encoder:
    return Encoder(EncoderSpec(model=str(model), dtype="float32"), "cpu")


def vectors(model: Path) -> Any:
    return encoder(model).encode(TEXTS).vectors


def peer_vectors(model: SentenceTransformer) -> Any:
    return model.encode(TEXTS, normalize_embeddings=True)


def peer_of(base: Path, adapter: Path | None = None) -> SentenceTransformer:
    """The base as sentence-transformers loads it, under an adapter as PEFT loads it."""
    peer = SentenceTransformer(str(base), device="cpu")
    if adapter:
        PeftModel.from_pretrained(peer[0].auto_model, str(adapter))
    return peer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("models") / "bert", "Bert")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("save", [save_adapter, save_bare_adapter])
def test_both_forms_give_the_vectors_of_their_libraries(tmp_path: Path, kind: str, save: Any) -> None:
    base = save_network(tmp_path / "base", kind)
    folder = save(base, tmp_path / "adapter")
    assert not list(folder.glob("model*"))
    peer = SentenceTransformer(str(folder), device="cpu") if save is save_adapter else peer_of(base, folder)
    assert np.abs(vectors(folder) - peer_vectors(peer)).max() < 1e-6
    assert np.abs(vectors(folder) - vectors(base)).max() > 0.1


def test_what_is_loaded_is_a_plain_transformer(bert: Path, tmp_path: Path) -> None:
    model = load_model(find_model(str(save_adapter(bert, tmp_path / "adapter"))))
    wanted = peer_vectors(model)
    assert not [name for name, _ in model.named_modules() if "lora" in name]
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save(str(tmp_path / "saved"))
    assert not list((tmp_path / "saved").glob("adapter*"))
    assert np.abs(peer_vectors(SentenceTransformer(str(tmp_path / "saved"), device="cpu")) - wanted).max() < 1e-6


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(use_dora=True, target_modules=["query", "dense"], init_lora_weights=False),
        LoraConfig(bias="all", target_modules=["query"], init_lora_weights=False),
        LoraConfig(modules_to_save=["intermediate"], target_modules=["query"], init_lora_weights=False),
        LoraConfig(trainable_token_indices={"word_embeddings": [5, 6, 7]}, target_modules=["query"]),
        LoraConfig(rank_pattern={"query": 3}, use_rslora=True, target_modules=["query", "word_embeddings"]),
        IA3Config(target_modules=["query", "value"], feedforward_modules=[], init_ia3_weights=False),
    ],
    ids=["dora", "bias", "modules_to_save", "tokens", "embeddings", "ia3"],
)
def test_other_adapters_that_can_be_merged_are(bert: Path, tmp_path: Path, config: Any) -> None:
    torch.manual_seed(1)
    network = get_peft_model(SentenceTransformer(str(bert), device="cpu")[0].auto_model, config)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    network.save_pretrained(str(tmp_path / "adapter"))
    wanted = peer_vectors(peer_of(bert, tmp_path / "adapter"))
    assert np.abs(vectors(tmp_path / "adapter") - wanted).max() < 2e-6
    assert np.abs(vectors(bert) - wanted).max() > 0.01


def test_a_bare_adapter_has_its_bases_pooling_and_later_modules(tmp_path: Path) -> None:
    base = save_network(tmp_path / "base", "Bert", "cls")
    model = SentenceTransformer(str(base), device="cpu")
    model.append(Normalize())
    model.max_seq_length = 20
    model.save(str(base))
    folder = save_bare_adapter(base, tmp_path / "adapter")
    loaded = load_model(find_model(str(folder)))
    assert [type(module).__name__ for module in loaded] == ["Transformer", "Pooling", "Normalize"]
    assert (loaded[1].pooling_mode, loaded.max_seq_length) == ("cls", 20)
    t5 = save_t5(tmp_path / "t5", unigram_tokenizer())
    edit_json(t5 / "1_Pooling" / "config.json", include_prompt=True)
    loaded = load_model(find_model(str(save_bare_adapter(t5, tmp_path / "on-t5"))))
    assert [type(module).__name__ for module in loaded] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert loaded[1].include_prompt


def test_a_tokenizer_beside_a_bare_adapter_is_used(bert: Path, tmp_path: Path) -> None:
    folder = save_bare_adapter(bert, tmp_path / "adapter")
    tokenizer = SentenceTransformer(str(bert), device="cpu").tokenizer
    tokenizer.add_tokens(["copper"])
    tokenizer.save_pretrained(str(folder))
    loaded = load_model(find_model(str(folder)))
    assert "copper" in loaded.tokenizer.tokenize("why copper roofs")
    assert loaded.max_seq_length == SentenceTransformer(str(bert), device="cpu").max_seq_length


def test_a_bare_adapter_on_a_bare_transformer(tmp_path: Path) -> None:
    base = save_backbone(tmp_path / "base", "Bert")
    folder = tmp_path / "adapter"
    get_peft_model(AutoModel.from_pretrained(base), LoraConfig(init_lora_weights=False)).save_pretrained(str(folder))
    assert np.abs(vectors(folder) - peer_vectors(peer_of(base, folder))).max() < 1e-6


def test_an_adapter_trained_under_a_head_or_with_a_decoder_fits(tmp_path: Path) -> None:
    base = save_backbone(tmp_path / "base", "Bert")
    network = get_peft_model(BertForSequenceClassification.from_pretrained(base), LoraConfig(init_lora_weights=False))
    network.save_pretrained(str(tmp_path / "headed"))
    headed = network.merge_and_unload().bert
    peer = SentenceTransformer(str(base), device="cpu")
    peer[0].auto_model.load_state_dict(headed.state_dict(), strict=False)
    assert np.abs(vectors(tmp_path / "headed") - peer_vectors(peer)).max() < 1e-6
    t5 = save_network(tmp_path / "t5", "T5")
    folder = save_bare_adapter(t5, tmp_path / "on-t5")
    wanted = vectors(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    decoder = {name.replace("encoder", "decoder"): value.clone() for name, value in weights.items()}
    save_file(weights | decoder, folder / "adapter_model.safetensors")
    assert np.array_equal(vectors(folder), wanted)


def test_an_adapter_on_an_adapter(bert: Path, tmp_path: Path) -> None:
    first = save_adapter(bert, tmp_path / "first")
    merged = load_model(find_model(str(first)))
    merged.save(str(tmp_path / "merged"))
    wanted = lora(SentenceTransformer(str(tmp_path / "merged"), device="cpu"), seed=9)
    lora(merged, seed=9).save(str(tmp_path / "second"))
    assert find_model(str(tmp_path / "second")).base.folder == first
    assert np.abs(vectors(tmp_path / "second") - peer_vectors(wanted)).max() < 1e-6


def test_a_base_beside_the_adapter_is_found(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is taken from where the command runs, else from where the adapter lies."""
    folder = save_adapter(bert, tmp_path / "runs" / "adapter")
    wanted = vectors(folder)
    shutil.copytree(bert, tmp_path / "bases" / "bert")
    edit_json(folder / "adapter_config.json", base_model_name_or_path="../../bases/bert")
    assert np.array_equal(vectors(folder), wanted)
    edit_json(folder / "adapter_config.json", base_model_name_or_path="bases/bert")
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(vectors(Path("runs/adapter")), wanted)


def test_weights_beside_an_adapter_are_its_base(bert: Path, tmp_path: Path) -> None:
    folder = save_adapter(bert, tmp_path / "adapter")
    wanted = vectors(folder)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(bert / name, folder / name)
    edit_json(folder / "adapter_config.json", base_model_name_or_path="no/such")
    assert np.array_equal(vectors(folder), wanted)
    (folder / "model.safetensors").unlink()  # the config alone is no base
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(bert))
    assert np.array_equal(vectors(folder), wanted)


def test_an_adapter_of_the_transformer_in_a_folder_of_its_own(bert: Path, tmp_path: Path) -> None:
    folder = save_adapter(bert, tmp_path / "adapter")
    wanted = vectors(folder)
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(folder / "0_Transformer" / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert np.array_equal(vectors(folder), wanted)


@pytest.mark.parametrize("save", [save_adapter, save_bare_adapter])
def test_a_changed_base_makes_another_identity_and_new_vectors(tmp_path: Path, save: Any) -> None:
    base = save_network(tmp_path / "base", "Bert")
    folder = save(base, tmp_path / "adapter")

    def stored() -> Any:
        spec = EncoderSpec(model=str(folder), dtype="float32")
        return open_embedder(spec, "cpu", tmp_path / "store", None)(TEXTS, "").vectors

    before, old, identity = stored(), vectors(folder), encoder(folder).identity
    save_network(tmp_path / "base", "Bert", seed=1)
    assert encoder(folder).identity != identity
    assert np.array_equal(stored(), vectors(folder).astype(np.float16))
    assert np.abs(stored() - before).max() > 0.1
    assert np.abs(vectors(folder) - old).max() > 0.1


@pytest.mark.parametrize("method", ["float16", "int8"])
def test_quantizing_keeps_the_adapter(bert: Path, tmp_path: Path, method: Any) -> None:
    folder = save_adapter(bert, tmp_path / "adapter")
    done = quantize(str(folder), tmp_path / "small", method)
    assert done.chosen.cosine_min > 0.98
    if method == "float16":
        assert (vectors(tmp_path / "small") * vectors(folder)).sum(axis=1).min() > 0.999


def other_base(folder: Path, base: Path) -> None:
    del base
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(folder.parent / "other"))


def fewer_layers(folder: Path, base: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, folder / "adapter_model.safetensors")


def more_layers(folder: Path, base: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    more = {name.replace("layer.1.", "layer.2."): value.clone() for name, value in weights.items()}
    save_file(weights | more, folder / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder, base: edit_json(folder / "adapter_config.json", base_model_name_or_path=None),
         "base_model_name_or_path is None"),
        (lambda folder, base: edit_json(folder / "adapter_config.json", base_model_name_or_path="no/such"),
         "is an adapter for no/such, which is not there"),
        (lambda folder, base: edit_json(folder / "adapter_config.json", base_model_name_or_path=str(folder)),
         "does not say which model the adapter was trained on"),
        (lambda folder, base: (folder / "adapter_config.json").write_text("["), "is no config of an adapter"),
        (lambda folder, base: (folder / "adapter_model.safetensors").write_bytes(b"x"), "cannot be loaded"),
        (lambda folder, base: (folder / "adapter_model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder, base: edit_json(folder / "adapter_config.json", peft_type="PREFIX_TUNING"), "cannot be loaded"),
        (other_base, "does not fit its base|cannot be loaded"),
        (fewer_layers, "places there have no weight in it"),
        (more_layers, "of its weights have no place there"),
    ],
    ids=["none", "gone", "itself", "no config", "broken", "no weights", "prefix", "other", "fewer", "more"],
)  # fmt: skip
@pytest.mark.parametrize("save", [save_adapter, save_bare_adapter])
def test_an_adapter_that_cannot_be_merged_is_a_clear_error(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, break_it: Any, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = save(bert, tmp_path / "adapter")
    save_network(tmp_path / "other", "DistilBert")
    break_it(folder, bert)
    with pytest.raises(EncoderError, match=message):
        vectors(folder)


def test_without_peft_the_error_says_what_to_install(bert: Path, tmp_path: Path) -> None:
    folder = save_adapter(bert, tmp_path / "adapter")
    code = (
        "import sys; sys.modules['peft'] = None\n"
        "from medi_build.encode.load import load_model\n"
        "from medi_build.encode.model_files import find_model\n"
        f"load_model(find_model({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "EncoderError: adapters need the package peft" in done.stderr
    assert "medi-build[train]" in done.stderr

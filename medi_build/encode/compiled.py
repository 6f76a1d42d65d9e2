"""A transformer whose layers are compiled, for passes of one length on a GPU.

A layer is some thirty kernels otherwise, and most of their time goes into reading and writing what one of them could
have kept. The layers are compiled and not the whole: the same code does for all of them, so that compiling takes
seconds however deep the network is, and what is between the layers is little.
"""

import warnings
from typing import Any

import torch
from torch import nn

from medi_build.encode.linears import sharing_copy

PAYS_FROM = 5e15
"""Floating-point operations of a model after which it is compiled: some ten seconds of a large GPU, as compiling is."""


class Compiled:
    """Calls a transformer, compiled once it has had work enough; where compiling fails, as it is.

    Its vectors differ in their last digits from those of the transformer as it is.
    """

    def __init__(self, transformer: nn.Module, pays_from: float = PAYS_FROM, backend: str = "inductor") -> None:
        """Compile nothing yet.

        Args:
            transformer: from a dict with ``input_ids`` to one with ``token_embeddings``; it stays as it is.
            pays_from: floating-point operations after which it is compiled.
            backend: torch.compile's.
        """
        self._transformer = transformer
        self._compiled: nn.Module | None = None
        self._backend = backend
        self._operations = 2 * sum(weights.numel() for weights in transformer.parameters())
        self._left = pays_from if layers_of(transformer) else float("inf")

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        """The transformer's features, for ``input_ids`` [k, width] without padding."""
        rows, width = features["input_ids"].shape
        self._left -= self._operations * rows * width
        # One row, one token, and as many of one as of the other would each be compiled for themselves.
        if self._left > 0 or rows == 1 or width == 1 or rows == width:
            return self._as_it_is(features)
        try:
            if self._compiled is None:
                self._compiled = with_compiled_layers(self._transformer, self._backend)
            found: dict[str, Any] = self._compiled(dict(features))
            return found
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._compiled, self._left = None, float("inf")
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            warnings.warn(
                f"the encoder cannot be compiled here ({type(error).__name__}: {said}) and goes on as it is, more slowly",
                stacklevel=2,
            )
        return self._as_it_is(features)

    def _as_it_is(self, features: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._transformer(features)
        return found


def layers_of(transformer: nn.Module) -> list[nn.Module]:
    """The layers of a network: its longest list of two or more modules of one kind; empty if it has none."""
    lists = [list(module) for module in transformer.modules() if isinstance(module, nn.ModuleList)]
    alike = [layers for layers in lists if len({type(layer) for layer in layers}) == 1 and len(layers) > 1]
    return max(alike, key=len, default=[])


def with_compiled_layers(transformer: nn.Module, backend: str) -> nn.Module:
    """A copy that shares the weights and compiles its layers, for any shape, when they are first called."""
    copied: nn.Module = sharing_copy(transformer)
    for layer in layers_of(copied):
        layer.compile(dynamic=True, backend=backend)
    return copied


def is_free_of_masks(transformer: Any) -> bool:
    """Whether a network may be asked without a mask where nothing is padded: those that transformers comes with."""
    network = getattr(transformer, "auto_model", None)
    return type(network).__module__.startswith("transformers.models.")

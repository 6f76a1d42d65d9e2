"""Encoders with random weights and made-up tokens, for `medi_build.encode.engine`, without sentence-transformers."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from medi_build.encode.engine import Arithmetic, Features, Replica
from medi_build.encode.linears import narrow_linears
from medi_build.encode.pair_tokens import Tokens

WINDOW = 512


class Shape(NamedTuple):
    """A network's size. ``width`` is that of its hidden states, ``inner`` of its feed-forward layers."""

    kind: str
    layers: int
    width: int
    inner: int
    heads: int
    words: int


T5_LARGE = Shape("t5", 24, 1024, 4096, 16, 32128)
MINILM = Shape("bert", 6, 384, 1536, 12, 30522)
T5_TINY = Shape("t5", 2, 32, 64, 4, 100)
BERT_TINY = Shape("bert", 2, 32, 64, 4, 100)


def operations(shape: Shape, lengths: np.ndarray) -> float:
    """Floating-point operations of one pass over texts of these lengths: products of weights, and attention's."""
    per_token = 2 * shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.inner)
    return float(per_token * lengths.sum() + 4 * shape.layers * shape.width * (lengths.astype(float) ** 2).sum())


class Transformer(nn.Module):
    """A network as sentence-transformers has it."""

    processor = None

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.auto_model, self.config = network, network.config

    def forward(self, features: Features) -> Features:
        asked = {name: features[name] for name in ("input_ids", "attention_mask") if name in features}
        return {**features, "token_embeddings": self.auto_model(**asked).last_hidden_state}


class Mean(nn.Module):
    """Mean pooling, as sentence-transformers does it."""

    def forward(self, features: Features) -> Features:
        mask, tokens = features["attention_mask"][..., None].to(features["token_embeddings"].dtype), "token_embeddings"
        mean = (features[tokens] * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return {**features, "sentence_embedding": mean}


def transformer(shape: Shape, device: str) -> Transformer:
    """Random weights, the same on every device unless the network is large; bfloat16 layers on a GPU."""
    torch.manual_seed(0)
    with torch.device(device if shape.width > 512 else "cpu"):
        made = Transformer(network(shape).eval()).to(device)
    if torch.device(device).type == "cuda":
        narrow_linears(made, torch.bfloat16, torch.device(device))
    return made


def network(shape: Shape) -> Any:
    """A network of transformers."""
    if shape.kind == "t5":
        return T5EncoderModel(
            T5Config(
                vocab_size=shape.words,
                d_model=shape.width,
                d_kv=shape.width // shape.heads,
                d_ff=shape.inner,
                num_layers=shape.layers,
                num_heads=shape.heads,
            )
        )
    return BertModel(
        BertConfig(
            vocab_size=shape.words,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner,
            max_position_embeddings=WINDOW,
        ),
        add_pooling_layer=False,
    )


def replica(made: Transformer, bare: Any = None) -> Replica:
    return Replica([made, Mean()], next(made.parameters()).device, bare)


def arithmetic(device: str) -> Arithmetic:
    return Arithmetic(WINDOW, torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32)


def tokens(lengths: np.ndarray, words: int, seed: int = 0) -> Tokens:
    """Random tokens of texts of these lengths."""
    draw = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = draw.integers(5, words, size=int(offsets[-1]), dtype=np.int32)
    return Tokens(ids, offsets, np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.uint8))

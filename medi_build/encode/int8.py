"""Encoders whose linear layers and embedding tables are int8: how they are saved, loaded and computed with.

A row of weights (what one output of a linear layer reads; one token's vector) is int8 with one float32 scale,
symmetric. Tables stay so in memory, and the rows that are looked up are expanded. Linear layers either multiply in int8
(`Int8Linear`), on the CPU, or are expanded when loaded and compute in any float dtype on any device.

Activations get a scale for each token, so that a text's vector does not depend on the texts beside it, as it does with
one scale for a whole pass (torch.ao's dynamic quantization).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medi_build.errors import TrainError

Arithmetic = Literal["int8", "int8-weights"]
"""Whether linear layers multiply in int8, or are stored in it alone."""
RECEIPT = "medi-quantize.json"
WEIGHTS = "quantized.safetensors"
FORMAT = 2
"""Of the folder; 1 had no tables in int8, and was computed with by torchao or torch.ao."""
_SCALE = ".int8_scale"
_INT8_PRODUCT = getattr(torch, "_int_mm", None)
"""int8 [m, k] times int8 [k, n] to int32; without it layers are expanded in every pass."""


class Int8Embedding(nn.Module):
    """A table of int8 [rows, width] with float32 scales [rows, 1]."""

    table: Tensor
    scale: Tensor

    def __init__(self, table: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Tensor:
        """The whole table expanded, for networks that look at it themselves."""
        return self.table * self.scale

    def forward(self, ids: Tensor) -> Tensor:
        """Int [...] to float [..., width]."""
        return self.table[ids] * self.scale[ids]


class Int8Linear(nn.Module):
    """A linear layer with int8 weights [out, in] and float32 scales [out, 1] that multiplies in int8 on the CPU."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] of any float dtype to float32 [..., out]; a row's result depends on that row alone."""
        if _INT8_PRODUCT is None or inputs.device.type != "cpu":
            return nn.functional.linear(inputs.float(), self.weight * self.scale, self.bias)
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
        steps = largest.clamp_min_(1e-12).div_(127)
        products = _INT8_PRODUCT((rows / steps).round_().to(torch.int8), self.weight.t())
        outputs: Tensor = products.float().mul_(steps).mul_(self.scale[:, 0])
        if self.bias is not None:
            outputs += self.bias
        return outputs.reshape(*inputs.shape[:-1], -1)


def is_quantized(folder: Path) -> bool:
    """Whether `medi quantize` wrote int8 weights there."""
    return (folder / WEIGHTS).is_file()


def multiplies_in_int8(folder: Path) -> bool:
    """Whether the linear layers of a folder multiply in int8: on the CPU, and in no other dtype."""
    return is_quantized(folder) and _method(folder) == "int8"


def load_quantized(folder: Path) -> Any:
    """Load what `save_int8` saved: a SentenceTransformer on the CPU, its float weights in float32.

    Raises:
        TrainError: a file of it is missing, broken or of another format.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    method = _method(folder)
    kinds: dict[str, Any] = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules = [_without_weights(folder)]
        for module in listed[1:]:
            kind = kinds[module["type"].rsplit(".", 1)[-1]]
            modules.append(kind.load(str(folder), subfolder=module["path"], local_files_only=True))
        config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        _fill(modules[0].auto_model, folder / WEIGHTS, method)
    except Exception as error:  # whatever the libraries below raise about broken files
        raise TrainError(
            f"{folder}: cannot be loaded ({type(error).__name__}: {error}); run `medi quantize` again"
        ) from error
    return SentenceTransformer(modules=modules, device="cpu", truncate_dim=config.get("truncate_dim")).eval()


def save_int8(model: Any, out: Path, method: Arithmetic) -> None:
    """Save a SentenceTransformer with int8 linear layers and embedding tables; equal models give equal bytes."""
    from safetensors.torch import save_file

    model.save_pretrained(str(out), create_model_card=False)
    for path in out.glob("*.safetensors*"):
        path.unlink()
    network = model[0].auto_model
    rows = {id(module.weight) for module in _quantizable(network)}
    stored: dict[str, Tensor] = {}
    for name, weight in _distinct(network).items():
        if id(weight) in rows:
            stored[name], stored[name + _SCALE] = to_int8(weight.detach().float())
        else:
            stored[name] = weight.detach().contiguous()
    save_file(stored, str(out / WEIGHTS))
    (out / RECEIPT).write_text(json.dumps({"format": FORMAT, "method": method}), encoding="utf-8")


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 [rows, width] to int8 of that shape and float32 scales [rows, 1]."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    return (weight / scale).round().to(torch.int8), scale


def _quantizable(network: nn.Module) -> Iterator[nn.Linear | nn.Embedding]:
    """Linear layers, and tables as wide as that of the tokens.

    Relative positions of T5's kind have a column for each head: small, and what they hold goes into a softmax.
    Subclasses that do more than look up or multiply are left alone.
    """
    width = network.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    for module in network.modules():
        if type(module) is nn.Linear or (
            type(module) is nn.Embedding and module.max_norm is None and module.embedding_dim == width
        ):
            yield module


def _distinct(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; what has several names, as T5's shared table, by its first."""
    seen: set[int] = set()
    found = {}
    for name, weight in network.state_dict(keep_vars=True).items():
        if id(weight) not in seen:
            found[name] = weight
        seen.add(id(weight))
    return found


def _fill(network: nn.Module, path: Path, method: Arithmetic) -> None:
    """Give a network its saved weights, and put int8 modules in the places of those that are int8.

    Raises:
        ValueError: the file holds other weights than the network has.
    """
    from safetensors.torch import load_file

    stored = load_file(str(path))
    wanted = _distinct(network)
    if differing := wanted.keys() ^ {name for name in stored if not name.endswith(_SCALE)}:
        raise ValueError(f"{len(differing)} weights are missing or unknown: {min(differing)} and others")
    for name, weight in wanted.items():
        if stored[name].shape != weight.shape:
            raise ValueError(f"{name} is {list(stored[name].shape)}, not {list(weight.shape)}")
    ready: dict[int, nn.Module] = {}
    with torch.no_grad():
        for module in list(_quantizable(network)):
            name = next(name for name, weight in wanted.items() if weight is module.weight)
            weight, scale = stored[name], stored[name + _SCALE]
            if isinstance(module, nn.Embedding):
                ready[id(module.weight)] = Int8Embedding(weight, scale)
            elif method == "int8":
                ready[id(module.weight)] = Int8Linear(weight, scale, module.bias)
        for name, weight in wanted.items():
            if id(weight) not in ready:
                weight.copy_(stored[name] * stored.get(name + _SCALE, 1))
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if (replacement := ready.get(id(getattr(child, "weight", None)))) is not None:
                setattr(parent, name, replacement)


def _method(folder: Path) -> Arithmetic:
    """How a folder wants to be computed with.

    Raises:
        TrainError: it does not say, or is of another format.
    """
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        version, method = receipt.get("format"), receipt.get("method")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise TrainError(
            f"{folder / RECEIPT}: cannot be read ({type(error).__name__}: {error}); run `medi quantize` again"
        ) from error
    if version != FORMAT or method not in ("int8", "int8-weights"):
        raise TrainError(
            f"{folder}: is an int8 folder of format {version} ({method}), this version of medi reads format {FORMAT}; "
            "run `medi quantize` again on the model that it was made from"
        )
    return method  # type: ignore[no-any-return]


def _network_class(name: str) -> Any:
    """A network of transformers by its name, which a config says, and nothing else of that package."""
    import transformers

    found = getattr(transformers, name, None)
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise ValueError(f"architectures names {name!r}, which is no network of transformers")
    return found


def _without_weights(folder: Path) -> Any:
    """sentence-transformers' Transformer with the network that the config describes, its weights not yet filled in."""
    import transformers
    from sentence_transformers.sentence_transformer.modules import Transformer
    from transformers.initialization import no_init_weights

    class Unloaded(Transformer):  # type: ignore[misc]
        def _load_model(self, *args: Any, **kwargs: Any) -> Any:
            config = kwargs.get("config") or next(a for a in args if isinstance(a, transformers.PretrainedConfig))
            with no_init_weights():
                network = _network_class(config.architectures[0])(config)
            network.tie_weights()
            return network

    loaded = Unloaded.load(str(folder), local_files_only=True)
    loaded.__class__ = Transformer  # only the loading differs, and a class inside a function cannot be pickled
    return loaded

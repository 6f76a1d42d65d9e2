"""int8 linear layers for the CPU: how they are saved, loaded and computed with.

An int8 folder keeps each linear layer as int8 with one scale a row (symmetric), in safetensors. When it is loaded the
weights are expanded and quantized again by the library that computes with them; rounding the same numbers to the same
grid twice changes nothing.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medi_build.errors import TrainError

Backend = Literal["torchao", "torch.ao"]
RECEIPT = "medi-quantize.json"
WEIGHTS = "quantized.safetensors"
_SCALE = ".int8_scale"


def is_quantized(folder: Path) -> bool:
    """Whether `quantize` wrote int8 weights there."""
    return (folder / WEIGHTS).is_file()


def load_quantized(folder: Path) -> Any:
    """Load what `quantize` saved as int8: a SentenceTransformer that computes in int8 on the CPU.

    Raises:
        TrainError: a file of it is missing or broken, or the library it was made for does not work here.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    kinds: dict[str, Any] = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules = [_transformer_without_weights().load(str(folder), local_files_only=True)]
        for module in listed[1:]:
            kind = kinds[module["type"].rsplit(".", 1)[-1]]
            modules.append(kind.load(str(folder), subfolder=module["path"], local_files_only=True))
        config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        modules[0].auto_model.load_state_dict(_expanded(folder / WEIGHTS), strict=False)
    except Exception as error:  # whatever the libraries below raise about broken files
        raise TrainError(
            f"{folder}: cannot be loaded ({type(error).__name__}: {error}); run `medi quantize` again"
        ) from error
    _BACKENDS[receipt["backend"]](modules[0].auto_model)
    return SentenceTransformer(modules=modules, device="cpu", truncate_dim=config.get("truncate_dim")).eval()


def save_int8(model: Any, out: Path, backend: Backend) -> None:
    """Save a SentenceTransformer with int8 linear layers, to be computed with by ``backend``."""
    from safetensors.torch import save_file

    model.save_pretrained(str(out), create_model_card=False)
    for path in out.glob("*.safetensors*"):
        path.unlink()
    linears = {name for name, module in model[0].auto_model.named_modules() if isinstance(module, nn.Linear)}
    stored: dict[str, Tensor] = {}
    for name, weight in model[0].auto_model.named_parameters():
        if name.removesuffix(".weight") in linears and name.endswith(".weight"):
            scale = weight.detach().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
            stored[name] = (weight.detach() / scale).round().to(torch.int8)
            stored[name + _SCALE] = scale
        else:
            stored[name] = weight.detach().contiguous()
    save_file(stored, str(out / WEIGHTS))
    (out / RECEIPT).write_text(json.dumps({"method": "int8", "backend": backend}), encoding="utf-8")


def _expanded(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    stored = load_file(str(path))
    scales = {name.removesuffix(_SCALE): value for name, value in stored.items() if name.endswith(_SCALE)}
    return {
        name: value * scales[name] if name in scales else value
        for name, value in stored.items()
        if not name.endswith(_SCALE)
    }


def _transformer_without_weights() -> Any:
    """sentence-transformers' Transformer that makes the network from its config alone."""
    import transformers
    from sentence_transformers.sentence_transformer.modules import Transformer

    class Unloaded(Transformer):  # type: ignore[misc]
        def _load_model(self, *args: Any, **kwargs: Any) -> Any:
            config = kwargs.get("config") or next(a for a in args if isinstance(a, transformers.PretrainedConfig))
            return getattr(transformers, config.architectures[0])(config)

    return Unloaded


def _torchao(network: nn.Module) -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(network, Int8DynamicActivationInt8WeightConfig())


def _torch_ao(network: nn.Module) -> None:
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = {nn.Linear: quantization.per_channel_dynamic_qconfig}
        quantization.quantize_dynamic(network, kinds, inplace=True)  # type: ignore[no-untyped-call]


_BACKENDS: dict[str, Callable[[nn.Module], None]] = {"torchao": _torchao, "torch.ao": _torch_ao}


def working_backend() -> Backend:
    """The first library that multiplies in int8 here."""
    failures = []
    names: Sequence[Backend] = ("torchao", "torch.ao")
    for name in names:
        try:
            probe = nn.Sequential(nn.Linear(32, 32)).eval()
            _BACKENDS[name](probe)
            with torch.inference_mode():
                probe(torch.ones(4, 32))
        except Exception as error:  # a missing package, or a kernel that this processor lacks
            failures.append(f"{name}: {type(error).__name__}: {error}")
        else:
            return name
    raise TrainError(f"no library can compute in int8 here ({'; '.join(failures)}); pip install 'medi-build[torchao]'")

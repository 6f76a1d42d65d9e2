"""Smaller encoders: int8 linear layers for the CPU, or half-precision weights; what it costs is measured, not claimed.

An int8 folder keeps each linear layer as int8 with one scale a row (symmetric), in safetensors. When it is loaded the
weights are expanded and quantized again by the library that computes with them; rounding the same numbers to the same
grid twice changes nothing.
"""

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from medi_build.encode.load import find_model, load_model, quiet
from medi_build.errors import TrainError
from medi_build.train.export import not_finite

if TYPE_CHECKING:
    from medi_build.instructor import Instructor

Method = Literal["int8", "float16", "bfloat16"]
Backend = Literal["torchao", "torch.ao"]
RECEIPT = "medi-quantize.json"
_WEIGHTS = "quantized.safetensors"
_SCALE = ".int8_scale"
_SAMPLE = [
    ("Represent the sentence for retrieval:", "The ferry leaves the northern pier at seven unless the fog is thick."),
    ("Represent the question for retrieving supporting documents:", "How long does copper take to turn green?"),
    ("Represent the Science document for retrieval:", "Patina forms on copper in moist air. " * 8),
    ("Represent the News title for clustering:", "Harbour bridge closed for repairs"),
    ("Represent the document for retrieval:", "Bread rises because yeast turns sugar into gas. " * 20),
    ("", "An ordinary sentence without an instruction."),
]
_REPEATS = 12


@dataclass(frozen=True)
class Quantized:
    """What quantizing did, as measured on this machine's CPU.

    Attributes:
        method: what was done; for int8 with the library that computes, e.g. "int8 (torchao)".
        bytes_before: size of the model's weight files.
        bytes_after: the same of the quantized folder.
        seconds_before: for encoding the sample texts with the original.
        seconds_after: for the same with the result.
        cosine_mean: mean cosine of the two models' vectors over the sample.
        cosine_min: smallest of them.
    """

    method: str
    bytes_before: int
    bytes_after: int
    seconds_before: float
    seconds_after: float
    cosine_mean: float
    cosine_min: float

    def lines(self) -> list[str]:
        """The report as text."""
        return [
            f"{self.method}: weights {self.bytes_before / 1e6:.1f} MB -> {self.bytes_after / 1e6:.1f} MB "
            f"({self.bytes_after / self.bytes_before:.2f}x)",
            f"{len(_SAMPLE) * _REPEATS} texts on the CPU: {self.seconds_before:.2f} s -> {self.seconds_after:.2f} s "
            f"({self.seconds_before / self.seconds_after:.2f}x as fast)",
            f"cosine with the original: mean {self.cosine_mean:.5f}, lowest {self.cosine_min:.5f}",
        ]


def quantize(
    model_name_or_path: str, out: Path, method: Method = "int8", *, backend: Backend | None = None
) -> Quantized:
    """Quantize an encoder into a folder that `Instructor` loads, and measure the result.

    Args:
        model_name_or_path: hub id or local folder.
        out: folder to make; it is whole or not there.
        method: "int8" (dynamic: activations are quantized as they come), or the dtype of the stored weights.
        backend: which library computes in int8; torchao where it works, else torch.ao.

    Raises:
        TrainError: `out` cannot be a new folder, the model is int8 already or has NaN in its weights, or no library can
            compute in int8 here.
        EncoderError: the model cannot be loaded.
    """
    from medi_build.instructor import Instructor

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainError(f"{out}: is {'not empty' if out.is_dir() else 'a file'}; name a new folder")
    files = find_model(model_name_or_path)
    if is_quantized(files.folder):
        raise TrainError(f"{model_name_or_path}: is int8 already; name the model that it was made from")
    model = load_model(files)
    if broken := not_finite(model):
        raise TrainError(
            f"{model_name_or_path}: {len(broken)} weights are not finite ({broken[0]} and others); name a model "
            "that is whole"
        )
    with _whole_folder(out) as part:
        with quiet():
            if method == "int8":
                backend = backend or _working_backend()
                _save_int8(model, part, backend)
            else:
                half = model.to(torch.float16 if method == "float16" else torch.bfloat16)
                half.save_pretrained(str(part), create_model_card=False)
        seconds_before, before = _measure(Instructor(files.folder, "cpu"))
        seconds_after, after = _measure(Instructor(part, "cpu"))
        cosine = (before * after).sum(axis=1)
        done = Quantized(
            f"int8 ({backend})" if method == "int8" else method,
            _weight_bytes(files.folder),
            _weight_bytes(part),
            seconds_before,
            seconds_after,
            float(cosine.mean()),
            float(cosine.min()),
        )
        receipt = {"method": method, "backend": backend, "measured": asdict(done)}
        (part / RECEIPT).write_text(json.dumps(receipt, indent=2))
    return done


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that gets the name ``out`` if the block ends without an error, else nothing stays.

    Raises:
        TrainError: it cannot be made, or the disk is full.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        part.mkdir(parents=True)
        yield part
        part.replace(out)
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{out}: cannot be written ({getattr(error, 'strerror', None) or error}); make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_quantized(folder: Path) -> bool:
    """Whether `quantize` wrote int8 weights there."""
    return (folder / _WEIGHTS).is_file()


def load_quantized(folder: Path) -> Any:
    """Load what `quantize` saved as int8: a SentenceTransformer that computes in int8 on the CPU.

    Raises:
        TrainError: a file of it is missing or broken, or the library it was made for does not work here.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    kinds: dict[str, Any] = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
    try:
        receipt = json.loads((folder / RECEIPT).read_text())
        listed = json.loads((folder / "modules.json").read_text())
        modules = [_transformer_without_weights().load(str(folder), local_files_only=True)]
        for module in listed[1:]:
            kind = kinds[module["type"].rsplit(".", 1)[-1]]
            modules.append(kind.load(str(folder), subfolder=module["path"], local_files_only=True))
        modules[0].auto_model.load_state_dict(_expanded(folder / _WEIGHTS), strict=False)
    except Exception as error:  # whatever the libraries below raise about broken files
        raise TrainError(
            f"{folder}: cannot be loaded ({type(error).__name__}: {error}); run `medi quantize` again"
        ) from error
    _BACKENDS[receipt["backend"]](modules[0].auto_model)
    return SentenceTransformer(modules=modules, device="cpu").eval()


def _save_int8(model: Any, out: Path, backend: Backend) -> None:
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
    save_file(stored, str(out / _WEIGHTS))
    (out / RECEIPT).write_text(json.dumps({"method": "int8", "backend": backend}))


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


def _working_backend() -> Backend:
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


def _measure(model: "Instructor") -> tuple[float, np.ndarray[Any, np.dtype[np.float32]]]:
    pairs = [list(pair) for pair in _SAMPLE]
    vectors = model.encode(pairs, normalize_embeddings=True)
    start = time.perf_counter()
    model.encode(pairs * _REPEATS)
    return time.perf_counter() - start, vectors


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for suffix in ("safetensors", "bin") for path in folder.rglob(f"*.{suffix}"))

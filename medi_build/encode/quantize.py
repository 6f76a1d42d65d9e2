"""Smaller encoders: int8 linear layers for the CPU, or half-precision weights; what that costs is measured."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError

from medi_build.encode.instructor import Instructor
from medi_build.encode.int8 import RECEIPT, Backend, is_quantized, save_int8, working_backend
from medi_build.encode.load import find_model, load_model, not_finite, quiet
from medi_build.errors import TrainError
from medi_build.files import replacing

Method = Literal["int8", "float16", "bfloat16"]
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
        part.mkdir()
        with quiet():
            if method == "int8":
                backend = backend or working_backend()
                save_int8(model, part, backend)
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
        (part / RECEIPT).write_text(json.dumps(receipt, indent=2), encoding="utf-8")
    return done


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that gets the name ``out`` if the block ends without an error, else nothing stays.

    Raises:
        TrainError: it cannot be made, or the disk is full.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as part:
            yield part
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{out}: cannot be written ({getattr(error, 'strerror', None) or error}); make room, or name another folder"
        ) from error


def _measure(model: Instructor) -> tuple[float, np.ndarray[Any, np.dtype[np.float32]]]:
    pairs = [list(pair) for pair in _SAMPLE]
    vectors = model.encode(pairs, normalize_embeddings=True)
    start = time.perf_counter()
    model.encode(pairs * _REPEATS)
    return time.perf_counter() - start, vectors


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for suffix in ("safetensors", "bin") for path in folder.rglob(f"*.{suffix}"))

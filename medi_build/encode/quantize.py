"""Smaller encoders: several ways are tried and measured, and the best that keeps the vectors is saved."""

import copy
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from medi_build.arrays import Floats32
from medi_build.devices import has_fast_bfloat16
from medi_build.encode.instructor import Instructor
from medi_build.encode.instructor_options import Dtype
from medi_build.encode.int8 import FORMAT, RECEIPT, save_int8
from medi_build.encode.load import load_model, not_finite, quiet
from medi_build.encode.model_files import ModelFiles, find_model
from medi_build.errors import MediError, TrainError
from medi_build.files import replacing
from medi_build.paths import content_root

Method = Literal["int8", "int8-weights", "float16", "bfloat16"]
METHODS: Sequence[Method] = ("int8", "int8-weights", "float16", "bfloat16")
MIN_COSINE = 0.95
MEASURED = "medi-quantize-measured.jsonl"
"""What was measured, a line each. Not JSON by its name: times are no part of an encoder's identity."""
_RUNS = 3
_ENOUGH_SECONDS = 1.0
_SLOWER = 0.9
"""Speeds from here up to that of float32 may be noise."""


@dataclass(frozen=True)
class Measured:
    """One way to encode the sample on this machine's CPU.

    Attributes:
        method: how the weights are saved; "original" for the model itself.
        arithmetic: what the linear layers compute in: "float32", "bfloat16" or "int8".
        bytes: size of the weight files.
        seconds: of all cores together, for encoding the sample, the fastest of some runs; NaN where it failed. They
            hardly depend on what else the machine does.
        cosine_mean: mean cosine of its vectors and those of the original in float32; NaN where it failed.
        cosine_min: lowest of them.
        fault: why it cannot be used here; None if it can.
    """

    method: str
    arithmetic: str
    bytes: int
    seconds: float = float("nan")
    cosine_mean: float = float("nan")
    cosine_min: float = float("nan")
    fault: str | None = None


@dataclass(frozen=True)
class Quantized:
    """What quantizing tried and chose.

    Attributes:
        original: the model itself in float32, and in bfloat16 where this processor multiplies that natively.
        tried: the candidates, in the order of `METHODS`.
        chosen: the one that was saved.
        min_cosine: the bound on ``cosine_min``.
        texts: number of texts in the sample.
    """

    original: Sequence[Measured]
    tried: Sequence[Measured]
    chosen: Measured
    min_cosine: float
    texts: int

    def lines(self) -> list[str]:
        """The report as text: a row for each way, the chosen one marked."""
        return [
            f"{self.texts} texts on this CPU; cosines are with the original in float32, {self.min_cosine:g} at least",
            f"  {'method':<13}{'computes in':<13}{'weights':>10}{'':>8}{'CPU s':>9}{'speed':>8}{'mean cos':>10}"
            f"{'lowest':>9}",
            *(self._line(one) for one in [*self.original, *self.tried]),
            f"saved: {self.chosen.method}, the fastest of the smallest"
            if len(self.tried) > 1
            else f"saved: {self.chosen.method}",
        ]

    def _line(self, one: Measured) -> str:
        plain = self.original[0]
        mark = "*" if one is self.chosen else " "
        size = f"{one.bytes / 1e6:>7.1f} MB{one.bytes / plain.bytes:>7.2f}x"
        line = f"{mark} {one.method:<13}{one.arithmetic:<13}{size}"
        if one.fault:
            return f"{line}  {one.fault}"
        speed = plain.seconds / one.seconds
        line += f"{one.seconds:>9.2f}{speed:>7.2f}x{one.cosine_mean:>10.5f}{one.cosine_min:>9.5f}"
        notes = ["slower than float32"] if speed < _SLOWER else []
        notes += ["below the bound"] if one in self.tried and one.cosine_min < self.min_cosine else []
        return "  ".join([line, *notes])


def quantize(
    model_name_or_path: str, out: Path, method: Method | None = None, *, min_cosine: float = MIN_COSINE
) -> Quantized:
    """Quantize an encoder into a folder that `Instructor` loads, and measure the result.

    Args:
        model_name_or_path: hub id or local folder.
        out: folder to make; it is whole or not there.
        method: how to save the weights. "int8" multiplies in int8 on the CPU. The others are smaller on disk and
            compute like the original: "int8-weights", "float16" and "bfloat16". None tries them all and takes the
            smallest, of equally small ones the fastest, that keeps to ``min_cosine``.
        min_cosine: least cosine, over the sample, of a text's vector with the original's.

    Raises:
        TrainError: `out` cannot be a new folder, the model is int8 already or has NaN in its weights, `min_cosine` is
            not from -1 to 1, or nothing that was tried keeps to it.
        EncoderError: the model cannot be loaded.
    """
    if not -1 <= min_cosine <= 1:
        raise TrainError(f"min_cosine is {min_cosine}, but must be from -1 to 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainError(f"{out}: is {'not empty' if out.is_dir() else 'a file'}; name a new folder")
    files = find_model(model_name_or_path)
    if files.int8:
        raise TrainError(f"{model_name_or_path}: is int8 already; name the model that it was made from")
    model = load_model(files)
    if broken := not_finite(model):
        raise TrainError(
            f"{model_name_or_path}: {len(broken)} weights are not finite ({broken[0]} and others); name a model "
            "that is whole"
        )
    sample = sample_pairs()
    with _whole_folder(out) as part, tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        original, vectors = _measure_original(files, sample)
        tried = []
        for one in METHODS if method is None else [method]:
            _save(model, Path(folder) / one, one)
            tried.append(_measure(Path(folder) / one, one, original, vectors, sample))
        chosen = _choose(tried, original[0], min_cosine)
        (Path(folder) / chosen.method).rename(part)
        rows = [{**asdict(one), "chosen": one is chosen} for one in [*original, *tried]]
        (part / MEASURED).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Quantized(original, tried, chosen, min_cosine, len(sample))


def sample_pairs() -> list[list[str]]:
    """[instruction, text] to measure with, of the sample data: queries, sentences, pages and longer documents."""
    folder = content_root() / "sources" / "sample_data"
    searches = _json_lines(folder / "embedding_training_data" / "sample_search.jsonl", 12)
    pages = ["".join(page["text"]) for page in _json_lines(folder / "kilt" / "kilt_knowledgesource.json", 12)]
    return [
        *(["Represent the question for retrieving supporting documents:", row["query"]] for row in searches),
        *(["Represent the document for retrieval:", row["pos"][0]] for row in searches),
        *(["Represent the Wikipedia page for retrieval:", page] for page in pages[:6]),
        *(["", "\n".join(pages[start : start + 3])] for start in (6, 9)),
    ]


def _json_lines(path: Path, count: int) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A name for a folder, which gets the name ``out`` if the block ends without an error; else nothing stays.

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


def _save(model: Any, folder: Path, method: Method) -> None:
    folder.mkdir()
    with quiet():
        if method in ("int8", "int8-weights"):
            save_int8(model, folder, method)
            return
        half = copy.deepcopy(model).to(torch.float16 if method == "float16" else torch.bfloat16)
        half.save_pretrained(str(folder), create_model_card=False)
        (folder / RECEIPT).write_text(json.dumps({"format": FORMAT, "method": method}), encoding="utf-8")


def _measure_original(files: ModelFiles, sample: list[list[str]]) -> tuple[list[Measured], Floats32]:
    """The model as it is, in float32 and where it pays in bfloat16; and its vectors in float32, [texts, d]."""
    folder, base = files.folder, files.base
    size = _weight_bytes(folder) + (_weight_bytes(base.folder) if base and base.folder != folder else 0)
    seconds, vectors = _encode(folder, "float32", sample)
    measured = [Measured("original", "float32", size, seconds, 1.0, 1.0)]
    if has_fast_bfloat16():
        seconds, narrow = _encode(folder, "auto", sample)
        measured.append(Measured("original", "bfloat16", size, seconds, *_cosines(narrow, vectors)))
    return measured, vectors


def _measure(
    folder: Path, method: Method, original: Sequence[Measured], vectors: Floats32, sample: list[list[str]]
) -> Measured:
    """One candidate; where the choice is free it computes in what the original was faster in."""
    arithmetic = "int8" if method == "int8" else min(original, key=lambda one: one.seconds).arithmetic
    size = _weight_bytes(folder)
    try:
        seconds, found = _encode(folder, "auto" if arithmetic == "bfloat16" else "float32", sample)
    except (MediError, RuntimeError) as error:  # NaN, or a kernel that this processor lacks
        return Measured(method, arithmetic, size, fault=f"fails: {error}")
    return Measured(method, arithmetic, size, seconds, *_cosines(found, vectors))


def _encode(folder: Path, dtype: Dtype, sample: list[list[str]]) -> tuple[float, Floats32]:
    """CPU seconds of the fastest run, and unit vectors."""
    model = Instructor(folder, "cpu", dtype=dtype)
    vectors = model.encode(sample, normalize_embeddings=True)
    runs: list[float] = []
    while len(runs) < _RUNS and sum(runs) < _ENOUGH_SECONDS:
        start = time.process_time()
        model.encode(sample)
        runs.append(time.process_time() - start)
    return min(runs), vectors


def _cosines(found: Floats32, wanted: Floats32) -> tuple[float, float]:
    """Mean and lowest cosine of unit vectors, row by row."""
    cosines = (found * wanted).sum(axis=1)
    return float(cosines.mean()), float(cosines.min())


def _choose(tried: Sequence[Measured], plain: Measured, min_cosine: float) -> Measured:
    """The smallest that keeps to the bound; of those as small to a hundredth of the original's size, the fastest.

    Raises:
        TrainError: none does.
    """
    good = [one for one in tried if one.cosine_min >= min_cosine]
    if not good:
        seen = "; ".join(f"{one.method}: {one.fault or f'lowest cosine {one.cosine_min:.4f}'}" for one in tried)
        advice = "look into the model, or lower" if len(tried) > 1 else "try --method auto, or lower"
        raise TrainError(
            f"quantized vectors are too far from the original's ({seen}; at least {min_cosine:g} is asked for), and "
            f"nothing was saved; {advice} --min-cosine if that is good enough for you"
        )
    return min(good, key=lambda one: (round(one.bytes / plain.bytes, 2), one.seconds))


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for suffix in ("safetensors", "bin") for path in folder.rglob(f"*.{suffix}"))

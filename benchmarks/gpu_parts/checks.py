"""Encoding on this device against float32 on the CPU, and the project's own GPU tests where pytest is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.gpu_parts.measure import Line, has, passed, skipped
from benchmarks.gpu_parts.networks import BERT_TINY, T5_TINY, Shape, arithmetic, replica, tokens, transformer
from medi_build.encode import engine
from medi_build.encode.compiled import Compiled
from medi_build.encode.engine import Arithmetic, Budget, Features, Replica

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("pytest", "hypothesis", "pyarrow", "pydantic", "orjson", "polars", "xxhash", "sentence_transformers")
SECONDS = 75


def run(device: str, small: bool) -> Iterator[Line]:
    for shape in (T5_TINY,) if small else (T5_TINY, BERT_TINY):
        yield same_vectors(device, shape, "eager" if small else "inductor")
    yield gpu_tests(small)


def same_vectors(device: str, shape: Shape, backend: str) -> Line:
    """Passes of one length, compiled, and leftovers with a mask, against the CPU's passes."""
    draw = np.random.default_rng(3)
    lengths = np.concatenate([np.repeat([31, 40, 64], 200), draw.integers(2, 300, 60)])
    texts = tokens(lengths, shape.words)
    reference = transformer(shape, "cpu")
    wanted = vectors(replica(reference), texts, Arithmetic(512), shape)
    made = transformer(shape, device)
    found = vectors(replica(made, Compiled(made, 0, backend)), texts, arithmetic(device), shape)
    lowest = float((wanted * found).sum(axis=1).min())
    return passed(f"{shape.kind}: vectors as the CPU's in float32", lowest > 0.9995, f"lowest cosine {lowest:.6f}")


def vectors(one: Replica, texts: engine.Tokens, how: Arithmetic, shape: Shape) -> np.ndarray:
    found = np.zeros((len(texts.skip), shape.width), np.float32)

    def keep(rows: np.ndarray, features: Features) -> None:
        found[rows] = features["unit_embedding"].cpu().numpy()

    engine.run([one], texts, keep, how, Budget(one.device))
    return found


def gpu_tests(small: bool) -> Line:
    """``pytest -m gpu`` over the files that have such tests."""
    what = "pytest -m gpu"
    if small:
        return skipped(what, "no GPU is asked for")
    if missing := [package for package in NEEDED if not has(package)]:
        return skipped(what, f"{', '.join(missing)} not installed")
    files = [str(path) for path in ROOT.glob("tests/**/test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8")]
    side_by_side = ["-n", "4"] if has("xdist") else []
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rfE", "-p", "no:cacheprovider", *side_by_side, *files]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"what": what, "error": f"not done after {SECONDS} s"}
    said = [text for text in done.stdout.splitlines() if text.strip()] or [done.stderr[-300:] or "it said nothing"]
    failed = [text for text in said if text.startswith(("FAILED", "ERROR"))]
    return passed(what, done.returncode == 0, said[-1] if done.returncode == 0 else " / ".join([*failed, said[-1]]))

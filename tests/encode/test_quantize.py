"""`medi quantize`: what is saved loads and is smaller, what is reported was measured, and bad results are refused."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medi_build.cli.quantize import quantize_command
from medi_build.encode import int8
from medi_build.encode.instructor import Instructor
from medi_build.encode.int8 import RECEIPT, WEIGHTS
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.quantize import (
    MEASURED,
    METHODS,
    MIN_COSINE,
    Measured,
    Method,
    Quantized,
    _choose,
    quantize,
    sample_pairs,
)
from medi_build.errors import TrainError
from medi_build.train.export import save_model

TINY = Path(__file__).parent.parent / "golden" / "tiny_instructor"
SHORT = [sample_pairs()[index] for index in (0, 12, 24, 31)]
PAIRS = [["Represent the sentence;", f"ship number {i} leaves the harbour"] for i in range(12)]


@pytest.fixture(autouse=True)
def short_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi_build.encode.quantize.sample_pairs", lambda: SHORT)


@pytest.mark.parametrize(
    ("method", "least", "size"),
    [("int8", 0.98, 0.6), ("int8-weights", 0.99, 0.6), ("float16", 0.9999, 0.75), ("bfloat16", 0.999, 0.75)],
)
def test_what_is_saved_loads_and_is_what_was_measured(
    tmp_path: Path, method: Method, least: float, size: float
) -> None:
    done = quantize(str(TINY), tmp_path / "q", method)
    small, original = Instructor(tmp_path / "q", "cpu"), Instructor(TINY, "cpu")
    cosine = (small.encode(PAIRS) * original.encode(PAIRS)).sum(axis=1)
    assert cosine.min() > least
    assert not np.array_equal(small.encode(PAIRS), original.encode(PAIRS))
    assert done.chosen.bytes < size * done.original[0].bytes
    assert done.chosen.bytes == sum(path.stat().st_size for path in (tmp_path / "q").rglob("*.safetensors"))
    again = (small.encode(SHORT) * original.encode(SHORT)).sum(axis=1)
    if done.chosen.arithmetic != "bfloat16":
        assert done.chosen.cosine_min == pytest.approx(float(again.min()), abs=1e-6)
        assert done.chosen.cosine_mean == pytest.approx(float(again.mean()), abs=1e-6)
    assert json.loads((tmp_path / "q" / RECEIPT).read_text()) == {"format": 2, "method": method}
    rows = [json.loads(row) for row in (tmp_path / "q" / MEASURED).read_text().splitlines()]
    assert [row["bytes"] for row in rows if row["chosen"]] == [done.chosen.bytes]


def test_the_sample_is_of_short_and_long_texts() -> None:
    lengths = Instructor(TINY, "cpu").tokenise(sample_pairs()).lengths
    assert len(lengths) == 32
    assert lengths.max() > 10 * lengths.min()


def test_without_a_method_all_are_tried_and_the_table_says_how_they_did(tmp_path: Path) -> None:
    done = quantize(str(TINY), tmp_path / "q")
    assert [one.method for one in done.tried] == list(METHODS)
    assert done.chosen.method in ("int8", "int8-weights")
    assert done.chosen.seconds == min(one.seconds for one in done.tried[:2])
    assert json.loads((tmp_path / "q" / RECEIPT).read_text())["method"] == done.chosen.method
    lines = done.lines()
    assert len(lines) == 3 + len(done.original) + len(METHODS)
    assert [line[2:].split()[0] for line in lines if line.startswith("*")] == [done.chosen.method]


def measured(method: str, size: int, seconds: float, cosine: float) -> Measured:
    return Measured(method, "float32", size, seconds, cosine, cosine)


PLAIN = measured("original", 1000, 1.0, 1.0)


@pytest.mark.parametrize(
    ("tried", "chosen"),
    [
        ([measured("a", 250, 2.0, 0.99), measured("b", 250, 1.5, 0.97), measured("c", 500, 0.5, 1.0)], "b"),
        ([measured("a", 250, 2.0, 0.94), measured("b", 250, 2.5, 0.97), measured("c", 500, 0.5, 1.0)], "b"),
        ([measured("a", 250, 2.0, float("nan")), measured("b", 500, 1.0, 1.0), measured("c", 501, 0.9, 1.0)], "c"),
    ],
)
def test_the_smallest_within_the_bound_then_the_fastest(tried: list[Measured], chosen: str) -> None:
    assert _choose(tried, PLAIN, 0.95).method == chosen


def test_what_is_slow_or_moved_is_said_plainly() -> None:
    slow, far = measured("slow", 250, 2.0, 0.99), measured("far", 250, 0.5, 0.9)
    lines = Quantized([PLAIN], [slow, far], slow, 0.95, 32).lines()
    assert [line.split("  ")[-1] for line in lines[3:5]] == ["slower than float32", "below the bound"]
    assert "0.50x" in lines[3]
    assert "2.00x" in lines[4]


def zero_scales(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight.round().to(torch.int8), torch.zeros(len(weight), 1)


def broken_scales(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight.round().to(torch.int8), torch.full((len(weight), 1), torch.nan)


@pytest.mark.parametrize(
    ("fault", "said"), [(zero_scales, r"int8: lowest cosine -?0\.\d+"), (broken_scales, "int8: fails: .*NaN")]
)
def test_vectors_that_moved_too_far_are_refused_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object, said: str
) -> None:
    monkeypatch.setattr(int8, "to_int8", fault)
    with pytest.raises(TrainError, match=rf"{said}.* at least 0\.95 .*nothing was saved.*--min-cosine"):
        quantize(str(TINY), tmp_path / "new" / "q", "int8")
    assert not list((tmp_path / "new").iterdir())
    done = quantize(str(TINY), tmp_path / "new" / "q")
    assert done.chosen.method in ("float16", "bfloat16")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["q"]


def test_only_an_explicit_bound_lets_them_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainError, match="at least 1 is asked for"):
        quantize(str(TINY), tmp_path / "q", "int8", min_cosine=1)
    monkeypatch.setattr(int8, "to_int8", lambda weight: (weight.sign().to(torch.int8), weight.abs().amax(1)[:, None]))
    with pytest.raises(TrainError, match=r"at least 0\.95"):
        quantize(str(TINY), tmp_path / "q", "int8")
    done = quantize(str(TINY), tmp_path / "q", "int8", min_cosine=-1)
    assert done.chosen.cosine_min < 0.95
    assert inspect.signature(quantize_command).parameters["min_cosine"].default == MIN_COSINE == 0.95
    with pytest.raises(TrainError, match=r"min_cosine is 1\.5, but must be from -1 to 1"):
        quantize(str(TINY), tmp_path / "other", min_cosine=1.5)


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(TrainError, match="not empty"):
        quantize(str(TINY), tmp_path / "full")
    with pytest.raises(TrainError, match="is a file; name a new folder"):
        quantize(str(TINY), tmp_path / "full" / "x")
    with pytest.raises(TrainError, match=r"cannot be written \((Not a directory|File exists)\)"):
        quantize(str(TINY), tmp_path / "full" / "x" / "below")
    (tmp_path / "q").mkdir()
    quantize(str(TINY), tmp_path / "q", "int8")
    with pytest.raises(TrainError, match="is int8 already"):
        quantize(str(tmp_path / "q"), tmp_path / "again")
    (tmp_path / "q" / WEIGHTS).write_bytes(b"broken")
    with pytest.raises(TrainError, match="cannot be loaded"):
        Instructor(tmp_path / "q")


def test_nothing_stays_of_what_could_not_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(find_model(str(TINY)))
    with torch.no_grad():
        model[2].linear.weight[0] = torch.nan
    save_model(model, tmp_path / "broken")
    with pytest.raises(TrainError, match=r"broken: 1 weights are not finite \(2.linear.weight"):
        quantize(str(tmp_path / "broken"), tmp_path / "new" / "q")

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medi_build.encode.quantize._measure", dies)
    with pytest.raises(KeyboardInterrupt):
        quantize(str(TINY), tmp_path / "new" / "q")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("method", ["int8", "float16"])
def test_the_same_model_gives_the_same_encoder(tmp_path: Path, method: Method) -> None:
    """Byte for byte, whatever the times that were measured: the vector store knows it again."""
    for name in ("a", "b"):
        quantize(str(TINY), tmp_path / name, method)
    left, right = (find_model(str(tmp_path / name)) for name in ("a", "b"))
    assert left.digest == right.digest
    assert (tmp_path / "a" / MEASURED).read_text() != (tmp_path / "b" / MEASURED).read_text()

"""Quantized encoders: they load, they are smaller, and what is reported is what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medi_build.encode.instructor import Instructor
from medi_build.encode.int8 import RECEIPT, WEIGHTS, _expanded
from medi_build.encode.load import find_model, load_model
from medi_build.encode.quantize import quantize
from medi_build.errors import TrainError
from medi_build.train.export import save_model

TINY = Path(__file__).parent.parent / "golden" / "tiny_instructor"
PAIRS = [["Represent the sentence;", f"ship number {i} leaves the harbour"] for i in range(12)]


@pytest.mark.parametrize("backend", ["torchao", "torch.ao"])
def test_int8_loads_and_stays_close(tmp_path: Path, backend: str) -> None:
    done = quantize(str(TINY), tmp_path / "q", "int8", backend=backend)  # type: ignore[arg-type]
    vectors = Instructor(tmp_path / "q").encode(PAIRS)
    original = Instructor(TINY, "cpu").encode(PAIRS)
    cosine = (vectors * original).sum(axis=1)
    assert cosine.min() > 0.98
    assert not np.array_equal(vectors, original)
    assert done.method == f"int8 ({backend})"
    assert done.bytes_after < done.bytes_before
    assert done.cosine_mean >= done.cosine_min > 0.95
    assert json.loads((tmp_path / "q" / RECEIPT).read_text())["measured"]["bytes_after"] == done.bytes_after
    assert len(done.lines()) == 3


def test_int8_weights_are_within_half_a_step(tmp_path: Path) -> None:
    quantize(str(TINY), tmp_path / "q")
    original = dict(Instructor(TINY, "cpu")[0].auto_model.named_parameters())
    for name, weight in _expanded(tmp_path / "q" / WEIGHTS).items():
        step = original[name].abs().amax(dim=-1, keepdim=True) / 127
        assert ((weight - original[name]).abs() <= step / 2 + 1e-7).all(), name


@pytest.mark.parametrize(("method", "least"), [("float16", 0.9999), ("bfloat16", 0.999)])
def test_half_precision_weights(tmp_path: Path, method: str, least: float) -> None:
    done = quantize(str(TINY), tmp_path / "q", method)  # type: ignore[arg-type]
    cosine = (Instructor(tmp_path / "q", "cpu").encode(PAIRS) * Instructor(TINY, "cpu").encode(PAIRS)).sum(axis=1)
    assert cosine.min() > least
    assert done.bytes_after < 0.75 * done.bytes_before
    assert done.cosine_min > least


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
    quantize(str(TINY), tmp_path / "q")
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

    def dies(model: Instructor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medi_build.encode.quantize._measure", dies)
    with pytest.raises(KeyboardInterrupt):
        quantize(str(TINY), tmp_path / "new" / "q")
    assert not list((tmp_path / "new").iterdir())


def test_quantizing_is_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        quantize(str(TINY), tmp_path / name)
    left, right = (_expanded(tmp_path / name / WEIGHTS) for name in ("a", "b"))
    assert all(torch.equal(left[name], right[name]) for name in left)

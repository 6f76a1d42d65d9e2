"""What a run makes of the machine: precision, sums in one order, batches read ahead, memory ending; on a GPU, too."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medi_build.errors import TrainError
from medi_build.train import hardware
from medi_build.train.arguments import make_arguments
from medi_build.train.hardware import in_one_order, out_of_memory_told, precision_for, settled
from medi_build.train.holdout import triplet_margins
from medi_build.train.model_card import Trained
from medi_build.train.planned_trainer import AHEAD, read_ahead
from medi_build.train.settings import TrainSettings, from_public_arguments
from medi_build.train.trainer import train
from tests.train.runs import StopAt, eight_steps, losses, run, same, settings_for, weights

ON_GPU: dict[str, Any] = {"extra": {"disable_tqdm": True}}


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    return TrainSettings(source=tmp_path, model_name_or_path="any", output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("there", "native", "wanted"),
    [(False, False, "float32"), (True, False, "float32"), (True, True, "bfloat16")],
)
def test_precision_follows_the_gpu_unless_it_is_named(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, there: bool, native: bool, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda device: native)
    assert precision_for(settings) == wanted
    chosen, lines = settled(settings)
    assert chosen.precision == wanted
    assert any("precision bfloat16" in line for line in lines) == (wanted == "bfloat16")
    for named in ("float32", "bfloat16", "float16"):
        chosen, lines = settled(replace(settings, precision=named))  # type: ignore[arg-type]
        assert (chosen.precision, lines) == (named, [])
    assert precision_for(replace(settings, extra={"use_cpu": True})) == "float32"


def test_the_public_scripts_bf16_can_be_switched_off() -> None:
    assert from_public_arguments({"bf16": "False"})[0]["precision"] == "float32"
    assert from_public_arguments({"bf16": "True", "fp16": "False"})[0]["precision"] == "bfloat16"
    assert "precision" not in from_public_arguments({"fp16": "False"})[0]
    assert from_public_arguments({"full_determinism": "true"})[0]["full_determinism"] is True


def test_no_process_reads_and_nothing_is_pinned_on_the_cpu(settings: TrainSettings) -> None:
    args = make_arguments(replace(settings, extra={"use_cpu": True}))
    assert (args.dataloader_num_workers, args.dataloader_pin_memory, args.bf16) == (0, False, False)


def test_batches_are_read_while_one_is_computed() -> None:
    read = [threading.Event() for _ in range(5)]

    def batches() -> Iterator[int]:
        for number, event in enumerate(read):
            event.set()
            yield number

    taken = read_ahead(batches())
    for number in range(5):
        assert next(taken) == number
        assert all(event.wait(10) for event in read[: number + AHEAD + 1])  # nobody has asked for these
        assert not any(event.is_set() for event in read[number + AHEAD + 1 :])
    assert list(taken) == []


def test_what_goes_wrong_while_a_batch_is_read_ahead_is_raised_at_its_turn() -> None:
    def batches() -> Iterator[int]:
        yield 0
        raise TrainError("no batch")

    taken = read_ahead(batches())
    assert next(taken) == 0
    with pytest.raises(TrainError, match="no batch"):
        next(taken)


@pytest.mark.slow
def test_batches_read_ahead_by_other_processes_are_the_same(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """And a run that is killed goes on exactly with them."""
    ahead = {"use_cpu": True, "disable_tqdm": True, "dataloader_num_workers": 2}
    chosen = eight_steps(toy_data, tiny_model, tmp_path / "ahead", export="instructor", extra=ahead)
    with pytest.raises(KeyboardInterrupt):
        run(chosen, callbacks=[StopAt(6)])
    resumed = run(chosen)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)
    assert same(weights(resumed.output_dir), weights(unbroken.output_dir))


@pytest.mark.slow
def test_full_determinism_trains_the_same_on_the_cpu_and_is_taken_back(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    trained = run(eight_steps(toy_data, tiny_model, tmp_path / "out", export="instructor", full_determinism=True))
    assert losses(trained) == losses(unbroken)
    assert same(weights(trained.output_dir), weights(unbroken.output_dir))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_fixed_order_is_told() -> None:
    with (
        pytest.raises(TrainError, match=r"full_determinism cannot be had with this model: .* leave it out"),
        in_one_order(True),
    ):
        assert torch.are_deterministic_algorithms_enabled()
        raise RuntimeError("nothing_cuda does not have a deterministic implementation, but you set ...")
    with pytest.raises(RuntimeError, match="another"), in_one_order(True):
        raise RuntimeError("another")
    with in_one_order(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "add --cached"),
        ({"cached": True}, "lower tokens_per_forward"),
        ({"loss": "MultipleNegativesRankingLoss"}, "--loss CachedMultipleNegativesRankingLoss"),
        ({"loss": "CachedMultipleNegativesRankingLoss"}, "lower tokens_per_forward"),
        ({"loss": "TripletLoss"}, "lower train_batch_size"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_the_end_of_memory_is_told_with_what_takes_less(
    settings: TrainSettings, changes: dict[str, Any], advice: str, error: RuntimeError
) -> None:
    with pytest.raises(TrainError) as told, out_of_memory_told(replace(settings, **changes), 16_384):
        raise error
    for part in ("batches of 64 rows", "16,384 tokens", advice, str(error).splitlines()[0]):
        assert part in str(told.value)
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_told(settings, 512):
        raise RuntimeError("shapes do not fit")


class Greedy(torch.nn.Module):
    """A loss that wants more memory than there is."""

    def forward(self, features: Any, labels: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 50, device=labels.device).sum()


def test_a_run_without_memory_ends_in_one_error(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings_for(toy_data, tiny_model, tmp_path / "out", loss="custom")
    with pytest.raises(TrainError, match="out of memory, with batches of 8 rows and forward passes of 512 tokens"):
        run(chosen, loss=lambda model: Greedy())


@pytest.mark.slow
def test_accuracy_before_and_after_is_of_one_precision(
    toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that changes nothing finds equal margins to the bit."""
    margins = []

    def spy(*args: Any) -> Any:
        margins.append(triplet_margins(*args))
        return margins[-1]

    monkeypatch.setattr("medi_build.train.holdout.triplet_margins", spy)
    still: dict[str, Any] = {"learning_rate": 1e-30, "max_steps": 1, "eval_steps": 1, "precision": "bfloat16"}
    run(eight_steps(toy_data, tiny_model, tmp_path / "out", **still, **ON_GPU))
    assert len(margins) == 3  # before, at the last step, after
    for later in margins[1:]:
        np.testing.assert_array_equal(later, margins[0])


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_a_gpu_trains_in_bfloat16_and_learns(toy_data: Path, tiny_model: Path, tmp_path: Path, cached: bool) -> None:
    lines: list[str] = []
    chosen = eight_steps(toy_data, tiny_model, tmp_path / "out", cached=cached, tokens_per_forward=200, **ON_GPU)
    trained = train(chosen, report=lines.append)
    assert any("precision bfloat16" in line for line in lines)
    found = [loss for _, loss in losses(trained)]
    assert len(found) == 8 and min(found[-3:]) < found[0]
    assert all(
        tensor.dtype == torch.float32 for tensor in weights(trained.output_dir).values() if tensor.is_floating_point()
    )


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_takes_the_steps_of_the_cpu(toy_data: Path, tiny_model: Path, tmp_path: Path, precision: Any) -> None:
    few: dict[str, Any] = {"max_steps": 3, "eval_steps": 3, "eval_rows_per_task": 0}
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = model / "config.json"
    config.write_text(config.read_text().replace('"dropout_rate": 0.1', '"dropout_rate": 0.0'))  # drawn otherwise there
    on_cpu = run(eight_steps(toy_data, model, tmp_path / "cpu", **few))
    on_gpu = run(eight_steps(toy_data, model, tmp_path / "gpu", precision=precision, **few, **ON_GPU))
    near = 1e-2 if precision == "float32" else 0.15
    assert [loss for _, loss in losses(on_gpu)] == pytest.approx([loss for _, loss in losses(on_cpu)], rel=near)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_a_resumed_run_on_a_gpu_continues_exactly(
    toy_data: Path, tiny_model: Path, tmp_path: Path, cached: bool
) -> None:
    """Under full determinism to the bit, dropout, bfloat16 and batches read ahead included."""
    chosen = eight_steps(
        toy_data, tiny_model, tmp_path / "whole", cached=cached, tokens_per_forward=200, full_determinism=True, **ON_GPU
    )
    whole = run(chosen)
    broken = replace(chosen, output_dir=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(broken, callbacks=[StopAt(6)])
    resumed = run(broken)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(whole)
    assert same(weights(resumed.output_dir), weights(whole.output_dir))


@pytest.mark.gpu
@pytest.mark.slow
def test_a_gpu_without_memory_ends_in_one_error(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings_for(toy_data, tiny_model, tmp_path / "out", loss="custom", **ON_GPU)
    with pytest.raises(TrainError, match=r"out of memory, .* lower train_batch_size"):
        run(chosen, loss=lambda model: Greedy())

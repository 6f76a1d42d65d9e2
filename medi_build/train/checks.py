"""What can be known before the first step, checked before it: each check tells its faults, all are told at once."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from medi_build.encode.load import not_finite
from medi_build.encode.model_files import BUNDLED, ModelFiles, find_model
from medi_build.encode.window import window_of
from medi_build.errors import MediError, TrainError
from medi_build.train.export import not_for_instructor
from medi_build.train.lora import lora_layers
from medi_build.train.settings import TrainSettings

DATA_FOLDER = "training-data"
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Faults:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self.found: list[MediError] = []

    def add(self, faults: Iterable[str]) -> None:
        """Take faults in."""
        self.found += [TrainError(fault) for fault in faults]

    def of(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """What the work gives; None if it raises, which is taken in."""
        try:
            return work(*args, **kwargs)
        except MediError as error:
            self.found.append(error)
            return None

    def raise_them(self) -> None:
        """Raise what was found: one fault as it is, more of them in one `TrainError`."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            listed = "".join(f"\n  - {fault}" for fault in self.found)
            raise TrainError(f"{len(self.found)} faults, found before the first step:{listed}")


def settings_faults(settings: TrainSettings) -> Iterator[str]:
    """What settings and folders tell, without a model."""
    yield from _output_faults(settings.output_dir)
    for what, path in (("model", settings.model_name_or_path), ("data", settings.source)):
        if Path(path).exists() and Path(path).resolve() == settings.output_dir.resolve():
            yield f"{settings.output_dir}: is the folder of the {what}, which would be overwritten; name another one"
    if settings.lora_rank and importlib.util.find_spec("peft") is None:
        yield "lora_rank needs the package peft; pip install 'medi-build[train]'"
    if settings.lora_targets is not None and not settings.lora_rank:
        yield f"lora_targets is {settings.lora_targets!r}, but lora_rank is 0; set lora_rank, to 8 for example"
    if settings.export == "instructor" and settings.pool_instruction:
        yield (
            "pool_instruction is set, but InstructorEmbedding always leaves the instruction out of the pooling; leave "
            "out one of --pool-instruction and --export instructor"
        )


def _output_faults(folder: Path) -> Iterator[str]:
    place = existing(folder)
    if not place.is_dir():
        yield f"{folder}: cannot be the output folder, since {place} is a file; name another one"
        return
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield f"{folder}: cannot be written ({error.strerror or error}); name another output folder"
        return
    marks = (DATA_FOLDER, "training.svg", "checkpoint-*")  # of a run of ours, even one that was tidied up
    ours = any(any(folder.glob(mark)) for mark in marks)
    model = [name for name in ("modules.json", "config.json", "adapter_config.json") if (folder / name).is_file()]
    if model and not ours:
        yield (
            f"{folder}: holds a model that medi train did not write ({model[0]}), and what is saved over it would be a "
            "mixture; name another output folder"
        )


def existing(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    path = path.absolute()
    while not (path.exists() or path.is_symlink()) and path != path.parent:
        path = path.parent
    return path


def is_local(model: str) -> bool:
    """Whether a model lies on this machine by its name."""
    return model == BUNDLED or Path(model).expanduser().is_dir()


def trainable_files(settings: TrainSettings) -> ModelFiles:
    """Find the model to start from.

    Raises:
        EncoderError: there is none.
        TrainError: it is int8, which cannot be trained.
    """
    files = find_model(
        settings.model_name_or_path, settings.model_revision, trust_remote_code=settings.trust_remote_code
    )
    if files.int8:
        raise TrainError(
            f"{settings.model_name_or_path}: its weights are int8, which cannot be trained; start from the model that "
            "it was quantized from, and quantize what comes out"
        )
    return files


def model_faults(settings: TrainSettings, model: Any, args: Any) -> Iterator[str]:
    """What the loaded model tells; ``args`` are the trainer's, None where those are at fault themselves."""
    name, network = settings.model_name_or_path, model[0].auto_model
    if broken := not_finite(model):
        yield f"{name}: {len(broken)} weights are not finite ({broken[0]} and others); start from a model that is whole"
    if model.tokenizer.pad_token_id is None:
        yield (
            f"{name}: the tokenizer has no token to pad with, so that texts cannot share a batch; set pad_token in its "
            "tokenizer_config.json (eos_token will do)"
        )
    checks: list[Callable[[], Any]] = [lambda: window_of(model, name, settings.max_source_length)]
    if settings.lora_rank and importlib.util.find_spec("peft"):
        checks.append(lambda: lora_layers(network, settings.lora_targets))
    faults = Faults()
    for check in checks:
        faults.of(check)
    yield from map(str, faults.found)
    if settings.export == "instructor":
        yield from (f"{name}: {fault}; or leave out --export instructor" for fault in not_for_instructor(model))
    if args is not None and args.gradient_checkpointing and not network.supports_gradient_checkpointing:
        yield f"{name}: {type(network).__name__} knows no gradient checkpointing; leave out --gradient_checkpointing"


def room_faults(settings: TrainSettings, model: Any, steps: int, kept: int | None) -> Iterator[str]:
    """Whether the disk has room for the run, roughly.

    Args:
        settings: of the run.
        model: as it is trained: weights that need no gradient are not in the checkpoints of LoRA.
        steps: optimiser steps.
        kept: the most checkpoints that are kept; None for all.
    """
    whole = sum(one.numel() for one in model.parameters()) * 4
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad) * 4
    written = -(-steps // settings.eval_steps)
    at_once = written if kept is None else min(written, kept + 1)  # an older one goes when the new one is whole
    checkpoint = (trained if settings.lora_rank else whole) + 2 * trained
    there = sum(path.stat().st_size for path in settings.output_dir.glob("checkpoint-*/**/*") if path.is_file())
    needed = at_once * checkpoint + whole * (1 + (settings.export == "instructor")) - there
    free = shutil.disk_usage(existing(settings.output_dir)).free
    if needed > free:
        yield (
            f"{settings.output_dir}: {at_once} checkpoints and the model take about {needed / 1e6:,.0f} MB, but "
            f"{free / 1e6:,.0f} MB are free; make room, keep fewer with --save_total_limit 1, or name another folder"
        )


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Where the block ends with an error of ours, the output folder is as it was before it."""
    place, before = existing(folder), _entries(folder)
    try:
        yield
    except MediError:
        for path in sorted(_entries(folder) - before, reverse=True):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        while folder.absolute() != place and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.absolute().parent
        raise


def _entries(folder: Path) -> set[Path]:
    return {path for place in (folder, folder / DATA_FOLDER) if place.is_dir() for path in place.iterdir()}

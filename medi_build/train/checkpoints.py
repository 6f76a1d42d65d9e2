"""Checkpoints that can be trusted: a receipt, written last, names the run they belong to and the files' digests."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from medi_build.errors import TrainError
from medi_build.files import file_digest, remove_left_behind, replacing
from medi_build.train.batches import BatchPlan
from medi_build.train.settings import TrainSettings

RECEIPT = "medi-train.json"
_NOT_PART_OF_THE_RUN = {"output_dir", "source", "warehouse", "resume", "export", "skip_bad_rows", "extra", "eval_sets"}


def run_fingerprint(settings: TrainSettings, plan: BatchPlan, data_digest: str, model_digest: str) -> dict[str, str]:
    """What a checkpoint and the run that continues it have to agree on, by name."""
    fields = {name: repr(value) for name, value in asdict(settings).items() if name not in _NOT_PART_OF_THE_RUN}
    planned = xxhash.xxh3_128(np.concatenate([plan.rows, plan.offsets]).tobytes())
    return {**fields, "data": data_digest, "model": model_digest, "batches": planned.hexdigest()}


def write_receipt(checkpoint: Path, fingerprint: dict[str, str]) -> None:
    """Mark a checkpoint as whole."""
    remove_left_behind(checkpoint)
    receipt = {"run": fingerprint, "files": {name: _digest(checkpoint / name) for name in _files(checkpoint)}}
    with replacing(checkpoint / RECEIPT) as part:
        part.write_text(json.dumps(receipt, indent=1), encoding="utf-8")


def drop_older_checkpoints(output_dir: Path, most: int, best: Path | None) -> None:
    """Keep the ``most`` newest checkpoints, or one fewer and the best.

    A receipt goes before the files it vouches for, so that one killed half-way leaves no checkpoint that looks whole.
    """
    checkpoints = _checkpoints(output_dir)
    kept = {*checkpoints[:1], *(path for path in checkpoints if path == best)}
    others = [path for path in checkpoints if path not in kept]
    for path in others[max(0, most - len(kept)) :]:
        (path / RECEIPT).unlink(missing_ok=True)
        shutil.rmtree(path)


def newest_checkpoint(output_dir: Path, fingerprint: dict[str, str]) -> Path | None:
    """The newest whole checkpoint of this run; None if there is none.

    A checkpoint without a receipt was being written when the run was killed, and is passed over.

    Raises:
        TrainError: it belongs to a run with other settings or data, or a file of it has changed.
    """
    for checkpoint in _checkpoints(output_dir):
        if (checkpoint / RECEIPT).is_file():
            _check(checkpoint, fingerprint)
            return checkpoint
    return None


def _checkpoints(output_dir: Path) -> list[Path]:
    """The folders of all checkpoints, the newest first."""
    folders = [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]
    return sorted(folders, key=lambda path: int(path.name[11:]), reverse=True)


def _check(checkpoint: Path, fingerprint: dict[str, str]) -> None:
    try:
        receipt: dict[str, Any] = json.loads((checkpoint / RECEIPT).read_text(encoding="utf-8"))
        run, files = receipt["run"], receipt["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainError(f"{checkpoint / RECEIPT}: cannot be read ({error}); {_ADVICE}") from error
    differing = sorted(name for name in {*run, *fingerprint} if run.get(name) != fingerprint.get(name))
    if differing:
        told = ", ".join(f"{name} was {run.get(name)}, is {fingerprint.get(name)}" for name in differing)
        raise TrainError(
            f"{checkpoint}: belongs to another run ({told}); use the same settings, another output folder, or "
            "--no-resume to start afresh"
        )
    for name, digest in files.items():
        path = checkpoint / name
        if not path.is_file() or _digest(path) != digest:
            state = "has changed since it was written" if path.is_file() else "is missing"
            raise TrainError(f"{path}: {state}, the checkpoint is corrupted; {_ADVICE}")


_ADVICE = "remove the folder to go on from the checkpoint before it, or use --no-resume to start afresh"


def _files(checkpoint: Path) -> list[str]:
    files = (path for path in checkpoint.rglob("*") if path.is_file() and RECEIPT not in path.name)
    return sorted(path.relative_to(checkpoint).as_posix() for path in files)


def _digest(path: Path) -> str:
    return file_digest(path, xxhash.xxh3_128)

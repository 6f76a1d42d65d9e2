"""Builds that are killed, and those that others need."""

import shutil
import subprocess
import sys
from pathlib import Path

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.schema import MANIFEST
from medi_build.errors import DatasetError
from medi_build.files import file_digest
from tools.survival.harness import ROOT, Sight, digests

ENCODER = str(ROOT / "tests" / "golden" / "tiny_instructor")
SAMPLES = "medmcqa/sample,super_ni/task9001*,super_ni/task9004*,embedding_training_data/sample_search"
INSTRUCTION = "Represent the text:"


def nothing(*_: Path) -> None:
    """Where nothing has to be prepared."""


def medi(*words: object) -> None:
    """A command of ours that has to succeed."""
    subprocess.run([sys.executable, "-m", "medi_build", *map(str, words)], check=True, capture_output=True, cwd=ROOT)


def build_words(run: Path, *more: str) -> list[str]:
    """A build of four small datasets by a tiny encoder, each run with a vector store of its own."""
    fixed = ["--offline", "--sources", SAMPLES, "--encoder", ENCODER, "--limit-per-dataset", "12"]
    return ["build", "--out", str(run / "out"), "--cache", str(run / "cache"), *fixed, *more]


def built(run: Path) -> dict[str, str]:
    """All files of a build."""
    return digests(run / "out", but=("lock",))


def read_built(run: Path) -> Sight:
    """Open a build as any reader does, and compare each of its files with the manifest."""
    manifest = run / "out" / MANIFEST
    try:
        before = manifest.stat()
        dataset = open_dataset(run / "out").manifest
        wrong = [file.path for one in dataset.datasets for file in one.shards if not _is(run / "out", file)]
        wrong += [file.path for file in dataset.files if not _is(run / "out", file)]
        after = manifest.stat()
    except (DatasetError, OSError):
        return "refused"
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        return "refused"  # another one came while this was read, and a reader that opens it again is told
    assert not wrong, f"files that are not what the manifest says: {wrong}"
    return "whole"


def _is(folder: Path, file: object) -> bool:
    path, sha256 = folder / file.path, file.sha256  # type: ignore[attr-defined]
    return file_digest(path) == sha256


def earlier_build(shared: Path) -> None:
    """A finished build by another seed, with its vectors."""
    medi(*build_words(shared, "--seed", "7"))


def copy_earlier(shared: Path, run: Path) -> None:
    """What was there before."""
    for name in ("out", "cache"):
        shutil.copytree(shared / name, run / name)

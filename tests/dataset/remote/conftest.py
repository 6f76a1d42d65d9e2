"""A built folder to publish, another one, and the ``medi`` command in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medi_build.dataset.card import dataset_card
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.remote.listing import manifest_bytes
from medi_build.dataset.schema import MANIFEST
from tests.dataset.built import entry, write_built
from tests.loopback_hub import SIGNATURE, TOKEN, Hub, hub_serving


def make(folder: Path, rows: int, word: str = "a") -> Path:
    """Two tasks with a card, as a build leaves them."""
    records = [
        {
            "query": ["", f"{word} {n}"], "pos": ["", "b" * 40], "neg": ["", "c"], "task_id": 1 + n % 2, "id": f"{n}",
            "task_name": f"toy/{1 + n % 2}",
        }
        for n in range(rows)
    ]  # fmt: skip
    write_built(folder, sorted(records, key=lambda row: row["task_id"]))
    manifest = open_dataset(folder).manifest
    (folder / "README.md").write_text(dataset_card(manifest), encoding="utf-8")
    files = [*manifest.files, entry(folder, folder / "README.md", 0)]
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest.model_copy(update={"files": files})))
    return folder


@pytest.fixture(scope="session")
def pushed_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("published")
    return make(root / "one", 40), make(root / "two", 30, "z")


@pytest.fixture
def one(pushed_folders: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pushed_folders[0], tmp_path / "one"))


@pytest.fixture
def two(pushed_folders: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pushed_folders[1], tmp_path / "two"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_serving() as served:
        yield served


def run_process(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command; whatever happens, no secret is in what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "medi_build", *map(str, arguments)], capture_output=True, text=True, check=False,
        env=os.environ | {"HF_HUB_DISABLE_XET": "1", "COLUMNS": "400"} | environment, timeout=200,
    )  # fmt: skip
    for secret in (TOKEN, SIGNATURE.partition("=")[2], *(v for k, v in environment.items() if v and "SECRET" in k)):
        assert secret not in done.stdout + done.stderr
    return done


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

"""What the builds here are compared with."""

from pathlib import Path

import pytest

from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build

SOURCES = "embedding_training_data/sample_*"


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same datasets, built by this process."""
    folder = tmp_path_factory.mktemp("local")
    build(BuildOptions(out=folder / "out", sources=(SOURCES,), cache=folder / "cache"))
    return folder / "out"

"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

settings.register_profile("medi", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("medi")


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and say so, what needs a GPU, or the development data, where it is absent; in CI the data has to be there."""
    for item in items:
        if "gpu" in item.keywords and not _has_gpu():
            item.add_marker(pytest.mark.skipif(True, reason="needs a GPU"))
    if SHARED.is_dir() or os.environ.get("CI") == "true":
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(pytest.mark.skipif(True, reason=f"needs the development data in {SHARED}"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data, real files in their original formats."""
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the cache of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield

"""What goes in broken comes out as one clear error or as a counted drop, and never as half a dataset.

The builds run in this process (`build`), so that torch is loaded once; what only a process can show (signals, exit
codes, what is printed) goes through the command.
"""

from pathlib import Path

import pytest

from tests.bad_input.team import Team


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def team(tmp_path: Path, cache: Path) -> Team:
    return Team(tmp_path, cache)

"""The wheel, installed where nobody can see the checkout, says and builds the same."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that has to succeed; it sees no environment that leads to the checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"MEDI_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment with the wheel, and our own environment's libraries behind it."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False)
    commands = folder / "venv" / "bin"
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        commands / "python",
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    # Paths that a .pth file adds are searched after the environment's own, and .pth files in them are not read: the
    # editable install of the checkout stays out of sight.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return commands


def test_the_package_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import medi_build.content.load as c, torch; print(c.__file__); print(c.content_root())"
    file, content = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert Path(content).name == "_content"


@pytest.mark.parametrize("listing", ["sources", "templates", "pipelines"])
def test_the_wheel_lists_what_the_checkout_lists(installed: Path, tmp_path: Path, listing: str) -> None:
    more = ["--sources", "all"] if listing == "sources" else []
    from_wheel = run(installed / "medi", "ls", listing, *more, cwd=tmp_path)
    assert from_wheel == run(sys.executable, "-m", "medi_build", "ls", listing, *more, cwd=tmp_path)
    assert from_wheel.count("\n") > 10


def test_the_wheel_builds(installed: Path, tmp_path: Path) -> None:
    command = ["build", "--sources", "medmcqa/sample", "--limit-per-dataset", "20", "--out", "out"]
    run(installed / "medi", *command, cwd=tmp_path)
    assert "records of 1 datasets in 1 shards hold together" in run(installed / "medi", "verify", "out", cwd=tmp_path)


def test_the_wheel_holds_the_licence_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/", maxsplit=1)[0] for name in names if ".dist-info" not in name} == {"medi_build"}


def test_every_folder_of_the_checkout_that_a_build_needs_is_in_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"medi_build", "sources", "templates", "pipelines", "tests", "tools"} <= set(included)
    assert all((ROOT / name).exists() for name in included)

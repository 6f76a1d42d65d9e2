"""Wrong use of the command: exit code 1 or 2 and one message, no traceback."""

from pathlib import Path
from typing import Any

import pytest

from medi_build.errors import OptionError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.commands import run_main
from tests.conftest import ROOT


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, str]:
    """Exit code and what was printed to stderr, on one line."""
    code, told = run_main(capsys, monkeypatch, *arguments)
    return code, " ".join(told.split())


WRONG_USE = {
    "--limit-per-dataset -1": (2, "'--limit-per-dataset'"),
    "--seed abc": (2, "'--seed'"),
    "--jobs 0": (2, "'--jobs'"),
    "--dtype float128": (2, "'--dtype'"),
    "--nothing": (2, "--nothing"),
    "--seed -1": (1, "seed is -1; it has to be at least 0"),
    "--seed 99999999999999999999": (1, "it has to be at most"),
    "--sources=": (1, "--sources is empty"),
    "--sources=,": (1, "--sources is empty"),
    "--sources=-all": (1, "leaves out everything"),
    "--sources=medmcqa/smaple": (1, "did you mean 'medmcqa/sample'"),
    "--pipeline=quickstrat": (1, "did you mean 'quickstart'"),
    "--content=/nowhere": (1, "--content /nowhere: holds none of sources/, templates/, pipelines/"),
    "--data=/nowhere": (1, "--data /nowhere: no such folder"),
    "--data=README.md": (1, "--data README.md: no such folder"),
    "--cache=README.md": (1, "README.md: cannot be used"),
    "--cache=README.md/x": (1, "README.md/x: cannot be used"),
    "--out=README.md": (1, "--out README.md: is a file"),
    "--out=README.md/x": (1, "--out README.md/x: cannot be written"),
    "--out=.": (1, "--out .: holds something else"),
    "--encoder=/nowhere/model --sources=medmcqa/sample": (1, "/nowhere/model"),
    "--device=abacus --sources=medmcqa/sample": (1, "device 'abacus' is not known"),
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_of_the_command(
    tmp_path: Path,
    cache: Path,
    arguments: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    code, message = WRONG_USE[arguments]
    given = ["build", "--offline", "--out", str(tmp_path / "out"), "--cache", str(cache), *arguments.split()]
    got, printed = run(capsys, monkeypatch, *given)
    assert got == code
    assert message.replace(" ", "") in printed.replace("│", "").replace(" ", "")


def test_settings_out_of_range_are_errors_in_code_too(tmp_path: Path, cache: Path) -> None:
    for change in ({"jobs": 0}, {"batch_multiple": 0}, {"limit_per_dataset": -1}, {"seed": 2**32}):
        with pytest.raises(OptionError, match=next(iter(change))):
            build(BuildOptions(**{"out": tmp_path / "out", "cache": cache, **change}))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()

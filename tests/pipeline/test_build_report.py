"""The page that a build writes into its folder: beside the dataset, true to it, and never its trouble."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medi_build.cli import app
from medi_build.dataset.folder import OutputFolder
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.remote.listing import remote_files
from medi_build.dataset.report.page import is_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def build(folder: Path, *more: str, limit: int = 10) -> Result:
    words = ["--offline", "--sources", "medmcqa/sample", "--limit-per-dataset", str(limit), "--out", str(folder)]
    done = CliRunner().invoke(app, ["build", *words, "--cache", str(folder.parent / "cache"), *more])
    assert done.exit_code == 0, done.output
    return done


def test_it_is_there_true_and_none_of_the_datasets_files(folder: Path) -> None:
    done = build(folder)
    page, manifest = folder / "report.html", open_dataset(folder).manifest
    assert f"{page}  a page about all this" in done.stdout
    assert is_of(page, manifest)
    assert '<h1>quickstart</h1>\n<p class="soft">out</p>' in page.read_text(encoding="utf-8")
    assert "report.html" not in {entry.path for entry in remote_files(manifest)}
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0
    house = str(folder.parent / "warehouse")
    assert CliRunner().invoke(app, ["commit", str(folder), "-m", "one", "--warehouse", house]).exit_code == 0
    again = str(folder.parent / "again")
    assert CliRunner().invoke(app, ["checkout", "main", "--out", again, "--warehouse", house]).exit_code == 0
    assert not (folder.parent / "again" / "report.html").exists()


def test_it_is_written_anew_only_where_the_build_changed(folder: Path) -> None:
    build(folder)
    page = folder / "report.html"
    before = page.stat().st_mtime_ns
    build(folder)
    assert page.stat().st_mtime_ns == before
    build(folder, "--no-report")
    assert page.stat().st_mtime_ns == before, "it is still true"
    build(folder, limit=12)
    assert page.stat().st_mtime_ns != before and is_of(page, open_dataset(folder).manifest)
    build(folder, "--no-report", limit=8)
    assert not page.exists(), "it would tell of another build"


def test_no_page_of_an_earlier_build_lies_in_an_unfinished_folder(folder: Path) -> None:
    build(folder)
    OutputFolder(folder).invalidate()
    assert not (folder / "report.html").exists() and not (folder / "manifest.json").exists()


def test_a_page_that_cannot_be_written_does_not_fail_the_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder, "--no-report")
    (folder / "report.html").mkdir()
    done = build(folder)
    assert f"{folder / 'report.html'}: not written (" in done.stderr and "everything else is whole" in done.stderr
    assert "a page about all this" not in done.stdout
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0

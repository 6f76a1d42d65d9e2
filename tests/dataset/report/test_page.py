"""The page in a real browser: it opens, sorts, filters, shows records, runs nothing of theirs, asks no network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from typer.testing import CliRunner

from medi_build.cli import app
from tests.dataset.built import write_built
from tests.pages.browser import chromium, complaints, fits_a_phone, opened_alone, title

pytestmark = pytest.mark.slow

HOSTILE = (
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "</bdi></details></main><h1>out</h1>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnihtemos \u0007 bell",
    "w" * 1_000_000,
    "😀" * 400,
    "quote \" ' & <",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, one of them of hostile texts; written by the command."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        {
            "task_id": task,
            "id": f"toy/{task}/{number}",
            **{side: ["Represent it:", f"{text} {side}"] for side in ("query", "pos", "neg")},
            "pos_score": 0.5 + number / 1000,
            "neg_score": 0.6 if task == 2 else 0.2,
            "miner": "dense",
        }
        for task, texts in ((1, HOSTILE), (2, [f"plain {number}" for number in range(40)]))
        for number, text in enumerate(texts)
    ]
    built = write_built(folder / "built", rows)
    done = CliRunner().invoke(app, ["report", str(built), "--no-map", "--out", str(folder / "page.html")])
    assert done.exit_code == 0, done.output
    assert "48 records of 2 datasets, 1 of them to look at" in done.stdout
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def opened(page: Path, browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    with opened_alone(browser, page):
        yield browser


def names(browser: webdriver.Chrome) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, "#datasets-table tbody tr")
    return [row.get_attribute("data-name") or "" for row in rows if row.is_displayed()]


def test_texts_of_records_are_shown_and_never_run(opened: webdriver.Chrome) -> None:
    assert title(opened) == "toy: 48 records"
    opened.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    part = opened.find_element(By.ID, "d1")
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[7]):
        assert text in part.text
    assert "⟨U+202E⟩gnihtemos ⟨U+0007⟩ bell" in part.text
    assert "w" * 299 + "…" in part.text and "w" * 300 not in part.text
    assert not opened.find_elements(By.CSS_SELECTOR, "img, main h1, iframe")
    assert title(opened) == "toy: 48 records"
    assert opened.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_table_sorts_and_filters(opened: webdriver.Chrome) -> None:
    assert names(opened) == ["toy/1", "toy/2"]
    button = opened.find_element(By.XPATH, "//th/button[text()='records']")
    button.click()
    assert names(opened) == ["toy/1", "toy/2"]
    button.click()
    assert names(opened) == ["toy/2", "toy/1"]
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    Select(opened.find_element(By.ID, "found")).select_by_value("margin")
    assert names(opened) == ["toy/2"]
    assert opened.find_element(By.ID, "told").text == "1 of 2 datasets"
    assert not opened.find_element(By.ID, "d1").is_displayed()
    Select(opened.find_element(By.ID, "found")).select_by_value("")
    opened.find_element(By.ID, "name").send_keys("Y/1")
    assert names(opened) == ["toy/1"]


def test_a_link_to_a_dataset_opens_it_with_its_records(opened: webdriver.Chrome) -> None:
    part = opened.find_element(By.ID, "d2")
    assert not part.get_attribute("open")
    opened.find_element(By.CSS_SELECTOR, "#warnings a[href='#d2']").click()
    assert part.get_attribute("open")
    assert len(part.find_elements(By.CLASS_NAME, "record")) == 10
    assert "plain 39 query" in part.find_elements(By.CLASS_NAME, "record")[0].text, "the easiest comes first"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(scheme: str, opened: webdriver.Chrome) -> None:
    assert complaints(opened, scheme) == []
    assert fits_a_phone(opened)


def test_two_builds_stand_side_by_side(page: Path, browser: webdriver.Chrome) -> None:
    rows = [
        {"task_id": task, "id": f"toy/{task}/{number}", "pos_score": 0.9, "neg_score": 0.1, "miner": "dense"}
        | {side: ["Represent it:", f"plain {number} {side}"] for side in ("query", "pos", "neg")}
        for task in (2, 3)
        for number in range(38)
    ]
    other, out = write_built(page.parent / "other", rows), page.parent / "both.html"
    arguments = ["report", str(page.parent / "built"), "--against", str(other), "--no-map", "--out", str(out)]
    assert (done := CliRunner().invoke(app, arguments)).exit_code == 0, done.output
    browser.get(out.as_uri())
    told = [row.text.split()[:4] for row in browser.find_elements(By.CSS_SELECTOR, "#against tbody tr")]
    assert told == [["toy/1", "added", "–", "8"], ["toy/2", "changed", "38", "40"], ["toy/3", "removed", "38", "–"]]
    assert "76 records before, 48 now; 0 datasets are the same" in browser.find_element(By.ID, "against").text
    changed = browser.find_elements(By.CSS_SELECTOR, "#against tbody tr")[1].find_elements(By.TAG_NAME, "td")
    assert [cell.text for cell in changed[4:9]] == ["2", "0", "38", "0.80 → −0.08", "0 % → 100 %"]
    browser.get(f"{out.as_uri()}#d2")
    part = browser.find_element(By.ID, "d2")
    assert "Before: 38 records, margin 0.80, above 0 %." in part.text
    assert part.find_elements(By.CSS_SELECTOR, "svg .was")
    assert browser.get_log("browser") == []

"""The pages in a real browser: search, narrow down, look at a record, mark one, build again, and it is gone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from medi_build.dataset.marks import read_marks
from medi_build.dataset.reader import BuiltDataset
from tests.browse.conftest import HOSTILE
from tests.pages.browser import AXE, chromium, title

pytestmark = pytest.mark.slow

CAPTIONS = "embedding_training_data/sample_captions"
Browser = webdriver.Chrome


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def medi(cache: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "medi_build", *map(str, arguments)],
        env={**os.environ, "MEDI_CACHE": str(cache), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def build(cache: Path, out: Path, *more: object) -> Path:
    process = medi(cache, "build", "--sources", CAPTIONS, "--offline", "--explain", "--out", out, *more)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return out


@contextmanager
def browsed(cache: Path, what: Path, marks: Path) -> Iterator[str]:
    """The address that the command prints; it ends at an interrupt."""
    process = medi(cache, "browse", what, "--marks", marks, "--port", 0, "--no-open")
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate()[1]
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "error" not in errors and "stopped" not in errors, errors


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def browser(chrome: Browser) -> Iterator[Browser]:
    """A browser that complains of nothing and asks nobody else."""
    chrome.get("about:blank")
    chrome.get_log("browser"), chrome.get_log("performance")
    yield chrome
    assert chrome.get_log("browser") == []
    events = [json.loads(one["message"])["message"] for one in chrome.get_log("performance")]
    asked = {
        urlsplit(one["params"]["request"]["url"]).hostname
        for one in events
        if one["method"] == "Network.requestWillBeSent"
    }
    assert asked == {"127.0.0.1"}


@pytest.fixture(scope="module")
def out(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(cache, tmp_path_factory.mktemp("real") / "out")


def total(browser: Browser) -> str:
    return browser.find_element(By.CSS_SELECTOR, "[role=status]").text


def violations(browser: Browser) -> list[tuple[str, str]]:
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]


def gone(browser: Browser, act: Callable[[], object]) -> None:
    """Do something that leads to another page, and wait for it."""
    page = browser.find_element(By.TAG_NAME, "html")
    act()
    WebDriverWait(browser, 60).until(lambda _: page.id != browser.find_element(By.TAG_NAME, "html").id)


def test_a_wrong_negative_is_found_marked_and_gone_in_the_next_build(
    browser: Browser, cache: Path, out: Path, tmp_path: Path
) -> None:
    marks = tmp_path / "marks.jsonl"
    with browsed(cache, out, marks) as address:
        browser.get(address)
        assert "token" not in browser.current_url, "the address that is seen and copied has no secret"
        assert total(browser) == "90 records"
        words = browser.find_element(By.NAME, "q")
        words.send_keys("accordion fountain")
        Select(browser.find_element(By.NAME, "side")).select_by_value("query")
        Select(browser.find_element(By.NAME, "sort")).select_by_value("margin")
        gone(browser, lambda: words.send_keys(Keys.ENTER))
        found = int(total(browser).split()[0])
        assert 1 <= found < 10 and browser.find_elements(By.CSS_SELECTOR, "dd mark")
        gone(browser, lambda: browser.find_element(By.CSS_SELECTOR, "nav[aria-label=Facets] li a").click())
        assert "dataset=" in browser.current_url and int(total(browser).split()[0]) == found
        gone(browser, lambda: browser.find_element(By.CSS_SELECTOR, "a.open").click())

        record = title(browser).removesuffix(" – medi browse")
        assert record.startswith(f"{CAPTIONS}/")
        assert "sample_captions.jsonl, row" in browser.find_element(By.CSS_SELECTOR, "dl.facts").text
        rows = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "section[aria-labelledby=ranking] tbody tr")]
        assert "taken" in rows[0] and "spare" in rows[1] and len(rows) > 10
        assert browser.find_element(By.ID, "near").text == "Nearest queries of the dataset"
        wrong = browser.find_element(By.CSS_SELECTOR, "p.full.neg").text
        browser.find_element(By.CSS_SELECTOR, ".negative input[name=reason]").send_keys("the same <scene>")
        gone(browser, lambda: browser.find_element(By.CSS_SELECTOR, "[data-mark]").click())
        assert "--exclude" in browser.find_element(By.CSS_SELECTOR, "[role=status]").text
        assert "Marked as wrong: the same <scene>" in browser.find_element(By.CSS_SELECTOR, ".negative").text
        assert violations(browser) == []
        gone(browser, lambda: browser.find_element(By.CSS_SELECTOR, "[data-back]").click())
        assert "dataset=" in browser.current_url, "back to the search it came from"
        assert browser.find_element(By.CSS_SELECTOR, ".tag.bad").text == "marked"
    (mark,) = read_marks(marks)
    assert (mark.id, mark.reason) == (record, "the same <scene>")

    again = build(cache, tmp_path / "again", "--exclude", marks)
    with browsed(cache, again, marks) as address:
        browser.get(address)
        gone(browser, lambda: browser.find_element(By.NAME, "q").send_keys(record, Keys.ENTER))
        assert title(browser).startswith(record)
        assert browser.find_element(By.CSS_SELECTOR, "p.full.neg").text != wrong
        told = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "section[aria-labelledby=ranking] tbody tr")]
        assert any("marked" in one and wrong in one for one in told)


def test_everything_is_reached_by_keys(browser: Browser, cache: Path, out: Path, tmp_path: Path) -> None:
    with browsed(cache, out, tmp_path / "m.jsonl") as address:
        browser.get(address)
        browser.find_element(By.TAG_NAME, "body").send_keys("/")
        assert browser.switch_to.active_element.get_attribute("name") == "q"
        gone(browser, lambda: browser.switch_to.active_element.send_keys("boots n", Keys.ENTER))
        assert "boots" in browser.current_url, "letters in the field are letters"
        gone(browser, lambda: browser.get(address))
        gone(browser, lambda: browser.find_element(By.TAG_NAME, "body").send_keys("n"))
        assert browser.current_url.endswith("/?page=2")
        browser.find_element(By.TAG_NAME, "body").send_keys("jj")
        second = browser.find_elements(By.CSS_SELECTOR, "a.open")[1]
        assert browser.switch_to.active_element == second
        gone(browser, lambda: browser.switch_to.active_element.send_keys(Keys.ENTER))
        assert browser.current_url.endswith("/record/22")
        gone(browser, lambda: browser.find_element(By.TAG_NAME, "body").send_keys("p"))
        assert browser.current_url.endswith("/record/21")
        browser.find_element(By.TAG_NAME, "body").send_keys("x")
        gone(browser, lambda: browser.switch_to.active_element.send_keys(Keys.ENTER))
        assert len(read_marks(tmp_path / "m.jsonl")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_shows_it(
    scheme: str, browser: Browser, cache: Path, out: Path, tmp_path: Path
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    with browsed(cache, out, tmp_path / "m.jsonl") as address:
        browser.get(address)
        base = address.partition("?")[0]
        for path in ("?q=the&warning=others", "?q=zzzz", "record/1"):
            browser.get(base + path)
            assert violations(browser) == []
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        for path in ("?q=the", "record/1"):
            browser.get(base + path)
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            assert violations(browser) == []
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_texts_are_shown_and_never_run(
    browser: Browser, cache: Path, built: BuiltDataset, tmp_path: Path
) -> None:
    with browsed(cache, built.root, tmp_path / "m.jsonl") as address:
        browser.get(address)
        base = address.partition("?")[0]
        for number in range(1, len(HOSTILE) + 1):
            browser.get(f"{base}record/{number}")
            assert title(browser) == f"toy/1/{number - 1} – medi browse"
            assert not browser.find_elements(By.CSS_SELECTOR, "img, main h1, iframe, main script")
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.get(f"{base}record/1")
        assert f"{HOSTILE[0]} query" in browser.find_element(By.CSS_SELECTOR, "p.full.query").text
        browser.get(f"{base}?q=%3Cscript%3Edocument.title%3D%27run%27%3C%2Fscript%3E")
        assert "<script>" in total(browser) and "run" not in title(browser)
        assert violations(browser) == []

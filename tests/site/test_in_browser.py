"""The site in a real browser: found by its search, readable for all, and silent to the network."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.pages.browser import AXE, chromium

pytestmark = pytest.mark.slow

LOOKED_AT = {"exclude": [["[data-md-component=palette]"]]}
"""The theme's switch of colours is left out: its buttons have names (aria-label), which axe overlooks beside their
hidden labels."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "tutorial.html", "reference/commands.html", "reference/python.html"])
def test_a_page_opens_cleanly(browser: webdriver.Chrome, address: str, page: str, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get(address + page)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "axe.run(arguments[0], {resultTypes: ['violations']}).then(arguments[1])", LOOKED_AT
    )
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_the_search_finds_a_knob(browser: webdriver.Chrome, address: str) -> None:
    browser.get(address + "index.html")
    field = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    browser.execute_script("arguments[0].focus()", field)
    field.send_keys("max_false_negative_probability")

    def results(driver: webdriver.Chrome) -> list[str]:
        links = driver.find_elements(By.CSS_SELECTOR, "a.md-search-result__link")
        return [str(link.get_attribute("href")) for link in links]

    found = WebDriverWait(browser, 60).until(results)
    assert any("/knobs.html" in link for link in found)

"""A page in Debian's Chromium: served alone, looked at in both schemes, judged by axe."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import axe_selenium_python
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

AXE = Path(axe_selenium_python.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PHONE = (390, 844)


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def title(browser: webdriver.Chrome) -> str:
    """Of the page, which the driver may say is there while what it shows is still empty."""
    return str(WebDriverWait(browser, 30).until(lambda browser: browser.title))


@contextmanager
def opened_alone(browser: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """The page, served by a server of which nothing else is asked, and without a word in the browser's console."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(page.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/{page.name}")
        yield browser
        assert asked == [f"/{page.name}"]
        assert browser.get_log("browser") == []
        server.shutdown()


def complaints(browser: webdriver.Chrome, scheme: str) -> list[tuple[str, str]]:
    """What axe finds, all parts of the page open, in the light or the dark scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]


def fits_a_phone(browser: webdriver.Chrome) -> bool:
    """Whether nothing but tables, which scroll in their own boxes, is wider than a phone."""
    before = browser.get_window_size()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 2, "mobile": True},
    )
    fits = browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(before["width"], before["height"])
    return bool(fits)

"""The pictures of the docs: `make pictures`, or `python -m tools.site.pictures NAME=PAGE ...`.

Without arguments the commands of docs/tutorial.md run from an empty folder, and a picture is taken of each page in
`OF_THE_TUTORIAL`. With arguments pictures are taken of those pages: files, or addresses of what is running already.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver

from tools.site.commands import run_page
from tools.site.repository import ROOT

FOLDER = ROOT / "docs" / "pictures"
OF_THE_TUTORIAL = {
    "report": "report.html",
    "records": "report.html#d1",
    "training": "out/model/training.svg",
}
"""Name of a picture -> page, perhaps with a place in it, or figure, seen from the folder of the tutorial."""
_TO_THE_PLACE = "document.getElementById(location.hash.slice(1))?.scrollIntoView()"
"""Again, as a page may have opened something when it was loaded."""
SIZE = (1100, 900)
COLOURS = 64


@contextmanager
def browser(width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a window, at a size in CSS pixels."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        yield driver
    finally:
        driver.quit()


def take(pages: Mapping[str, str], base: Path) -> None:
    """Write a picture of each page, an address or a file below ``base``, as it opens; a figure (SVG) is copied."""
    FOLDER.mkdir(exist_ok=True)
    with browser(*SIZE) as driver:
        for name, page in pages.items():
            target = FOLDER / f"{name}{'.svg' if page.endswith('.svg') else '.png'}"
            if target.suffix == ".svg":
                shutil.copyfile(base / page, target)
            else:
                driver.get(page if "://" in page else _address(base, page))
                driver.execute_script(_TO_THE_PLACE)
                driver.save_screenshot(str(target))
                Image.open(target).convert("RGB").quantize(COLOURS).save(target, optimize=True)
            print(f"{target}: {target.stat().st_size / 1000:.0f} KB")


def _address(base: Path, page: str) -> str:
    file, mark, place = page.partition("#")
    return (base / file).resolve().as_uri() + mark + place


def main(arguments: list[str]) -> None:
    """Take the pictures that are asked for, as ``NAME=PAGE``, or those of the tutorial."""
    if arguments:
        take(dict(argument.split("=", 1) for argument in arguments), Path.cwd())
        return
    with tempfile.TemporaryDirectory() as folder:
        work, _ = run_page("tutorial.md", Path(folder), timeout=3600)
        take(OF_THE_TUTORIAL, work)


if __name__ == "__main__":
    main(sys.argv[1:])

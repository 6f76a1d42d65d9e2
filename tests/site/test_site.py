"""The site builds without a warning, all its links lead somewhere, and nothing of it asks the network."""

import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

import medi_build
from medi_build.cli import app
from medi_build.content.cards import Card
from medi_build.content.pipelines import Pipeline
from medi_build.pipeline.options import BuildOptions
from medi_build.train.settings import TrainSettings
from tools.site.repository import for_site, linked_files

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Ids of a page, its links, and what a browser fetches with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("script", "img", "iframe") and "src" in found:
            self.fetched.append(found["src"])
        elif tag == "link" and "href" in found and found.get("rel") != "canonical":
            self.fetched.append(found["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def broken(pages: dict[Path, Page]) -> Iterator[str]:
    """Every link and fetched file of the site that is not there, and whatever is fetched from elsewhere."""
    for path, page in pages.items():
        for link in (*page.links, *page.fetched):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched:
                    yield f"{path.name} fetches {link}"
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if path.name == "404.html" and parts.path.startswith("/"):
                target = path.parent / parts.path.lstrip("/")
            if not target.is_file():
                yield f"{path.name} links to {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{path.name} links to {link}, and there is no such place"


def test_every_link_leads_somewhere_and_nothing_is_fetched_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert len(pages) > 40
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert list(broken(pages)) == []


def test_no_style_or_script_asks_the_network(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "").replace("'", "")


def test_what_the_check_is_for(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    text = (
        '<h1 id="here">a</h1><a href="#here">a</a><a href="#there">a</a><a href="no.html">a</a><img src="https://x/y">'
    )
    file.write_text(text)
    found = list(broken({file: Page(text)}))
    assert [line.split(" ", 1)[1] for line in found] == [
        "links to #there, and there is no such place",
        "links to no.html",
        "fetches https://x/y",
    ]


def test_every_command_and_option_stands_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text(encoding="utf-8")

    def walk(name: str, command: object) -> Iterator[tuple[str, object]]:
        yield name, command
        for inner, below in (getattr(command, "commands", None) or {}).items():
            yield from walk(f"{name} {inner}", below)

    for name, command in walk("medi", typer.main.get_command(app)):
        assert name == "medi" or f"<code>{name}</code>" in text
        for parameter in command.params:  # type: ignore[attr-defined]
            if parameter.param_type_name == "option":
                assert parameter.opts[-1] in text, (name, parameter.opts)


@pytest.mark.parametrize("model", [Card, Pipeline])
def test_every_key_of_a_content_file_has_its_meaning(site: Path, model: type[Card] | type[Pipeline]) -> None:
    text = (site / "reference" / "content-files.html").read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        assert f"<td><code>{name}</code></td>" in text
        assert field.description


def test_what_is_exported_and_set_stands_in_the_python_reference(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in medi_build.__all__:
        assert f'.{name}" class="doc doc-heading"' in text
    for settings in (BuildOptions, TrainSettings):
        for field in dataclasses.fields(settings):
            assert f'{settings.__name__}.{field.name}">{field.name}</span></code></td>' in text, "no row of attributes"


def test_a_link_out_of_the_docs_leads_to_a_page_of_that_file() -> None:
    text = "[t](../templates/evaluation.yaml) [d](design.md#a) [n](../no/such.py) [c](https://x.org/../y)"
    found, faults = linked_files({"docs/evaluation.md": text})
    assert found == {Path("templates/evaluation.yaml")}
    assert faults == ["docs/evaluation.md links to ../no/such.py, and the repository has no no/such.py"]
    there = "[t](repository/templates/evaluation.yaml.md) [d](design.md#a)"
    assert for_site(text, Path("docs/evaluation.md")).startswith(there)
    assert for_site("[d](../../SECURITY.md#x)", Path("docs/decisions/0001.md")) == "[d](../repository/SECURITY.md#x)"
    assert for_site("[d](docs/knobs.md)", Path("README.md")) == "[d](../knobs.md)"

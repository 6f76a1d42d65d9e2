"""What mkdocs.yml hooks in: parts of pages that are made from the code, pages for repository files that are linked."""

import logging
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tools.site import made
from tools.site.repository import ROOT, for_site, linked_files, page_of, site_path

LOG = logging.getLogger("mkdocs.hooks.site")
IN_NAV = tuple(map(Path, ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/own_pairs.ipynb")))
ALWAYS = (*IN_NAV, Path("README.md"))
"""Files of the repository that are pages whether linked or not."""
MARK = re.compile(r"^<!-- made: (\w+)(?: ([\w.]+))? -->$", re.MULTILINE)
"""Line of a page in whose place comes what `made.PARTS` makes."""


def on_config(config: MkDocsConfig) -> None:
    """Put every decision into the nav, under the index of decisions."""
    [explanation] = [part["Explanation"] for part in config.nav or [] if "Explanation" in part]
    pages = [f"decisions/{path.name}" for path in made.decision_files()]
    explanation[-1] = {"Decisions": ["decisions/index.md", *pages]}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for each file of the repository that pages link to; `IN_NAV` stand in the nav as well."""
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    texts |= {str(path): (ROOT / path).read_text(encoding="utf-8") for path in ALWAYS}
    found, faults = linked_files(texts)
    for fault in faults:
        LOG.warning(fault)
    for path in sorted({*found, *ALWAYS}):
        shown = InclusionLevel.UNDEFINED if path in IN_NAV else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, site_path(path), content=page_of(path), inclusion=shown))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make what is made from the code, and lead links that leave docs/ to the pages of those files."""
    if page.file.generated_by is not None:
        return markdown
    whole = MARK.sub(lambda mark: made.PARTS[mark[1]](*filter(None, [mark[2]])), markdown)
    return for_site(whole, Path("docs") / page.file.src_uri)

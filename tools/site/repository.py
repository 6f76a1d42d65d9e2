"""Files of the repository as pages of the site, so that a link to one works where there is no repository."""

import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
"""Target and fragment of a relative link."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}


def linked_files(pages: Mapping[str, str]) -> tuple[set[Path], list[str]]:
    """Files and folders outside docs/ that pages link to, and those that do not exist, told.

    Args:
        pages: path from the root of the repository -> Markdown.

    Returns:
        Paths from the root, what they link to in turn among them, and a message for each link that leads nowhere.
    """
    found: set[Path] = set()
    faults: list[str] = []
    waiting = dict(pages)
    while waiting:
        name, text = waiting.popitem()
        for target, _ in LINK.findall(text):
            path = _target(Path(name), target)
            if path.is_relative_to("docs") or path in found:
                continue
            if path.is_relative_to("..") or not (ROOT / path).exists():
                faults.append(f"{name} links to {target}, and the repository has no {path}")
                continue
            found.add(path)
            if path.suffix in (".md", ".ipynb") and str(path) not in pages:
                waiting[str(path)] = (ROOT / path).read_text(encoding="utf-8")
    return found, faults


def site_path(path: Path) -> str:
    """Source path on the site of a file or folder, which is given from the root of the repository."""
    if path.is_relative_to("docs"):
        inside = path.relative_to("docs").as_posix()
        return f"{inside}/index.md" if (ROOT / path).is_dir() else inside
    if path.suffix == ".md":
        return f"repository/{path.as_posix()}"
    return f"repository/{path.as_posix()}{'/index' if (ROOT / path).is_dir() else ''}.md"


def for_site(markdown: str, at: Path) -> str:
    """The text of a page with its links as they are on the site.

    Args:
        markdown: the text.
        at: where the page lies, from the root of the repository.
    """
    here = posixpath.dirname(site_path(at))

    def moved(link: re.Match[str]) -> str:
        path = _target(at, link[1])
        if at.is_relative_to("docs") and path.is_relative_to("docs"):
            return link[0]
        return posixpath.relpath(site_path(path), here) + (link[2] or "")

    return LINK.sub(moved, markdown)


def page_of(path: Path) -> str:
    """A file as a page: Markdown as it is, a notebook by its cells, else as code; of a folder the names in it."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(f"{entry.name}{'/' if entry.is_dir() else ''}" for entry in file.iterdir() if _shown(entry))
        return f"# {path.as_posix()}/\n\n" + "".join(f"- `{name}`\n" for name in names)
    text = file.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return for_site(text, path)
    if path.suffix == ".ipynb":
        return for_site("\n\n".join(map(_cell, json.loads(text)["cells"])), path)
    return f"# {path.as_posix()}\n\n~~~~{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n~~~~\n"


def _cell(cell: Mapping[str, Any]) -> str:
    text = "".join(cell["source"])
    return text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"


def _target(at: Path, link: str) -> Path:
    """What a relative link of a page leads to, from the root of the repository; begins with ``..`` outside it."""
    return Path(posixpath.normpath(posixpath.join(at.parent.as_posix(), link)))


def _shown(entry: Path) -> bool:
    return not entry.name.startswith((".", "__"))

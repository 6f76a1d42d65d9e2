"""The page: what was gathered, through its template, small enough to be opened anywhere."""

from pathlib import Path

from medi_build.dataset.reader import Manifest
from medi_build.dataset.report.changes import changes, fact_told
from medi_build.dataset.report.gather import Report
from medi_build.files import plain_digest
from medi_build.pages.render import render as render_page
from medi_build.pages.render import write_page

TEMPLATE = Path(__file__).parent / "report.html.j2"
MOST_BYTES = 5_000_000
HEAD = 4096
"""Bytes of a page in which its stamp stands."""
LENGTHS = (300, 200, 120, 60)
"""Characters to which texts are cut: the first with which the page is small enough."""


def write(report: Report, path: Path) -> int:
    """Write the page, texts cut to so many characters that it stays small; returns its bytes.

    Raises:
        OutputError: it cannot be written; what stood there is untouched.
    """
    for longest in LENGTHS:
        page = render(report, longest)
        if len(page.encode()) <= MOST_BYTES:
            break
    return write_page(page, path)


def stamp(manifest: Manifest) -> str:
    """What a page has of the build that it is about: another one has another stamp."""
    return plain_digest(manifest.model_dump(mode="json"))


def is_of(page: Path, manifest: Manifest) -> bool:
    """Whether a file is the page of this build."""
    try:
        with page.open("rb") as file:
            return f'<meta name="medi-manifest" content="{stamp(manifest)}">'.encode() in file.read(HEAD)
    except OSError:
        return False


def render(report: Report, longest: int) -> str:
    """The page as HTML; texts cut to ``longest`` characters."""
    return render_page(
        TEMPLATE,
        report=report,
        longest=longest,
        stamp=stamp(report.manifest),
        changes=changes(report.difference, longest),
        fact_told=fact_told,
        ids={part.entry.name: number for number, part in enumerate(report.parts, 1)},
        by_kind={kind.kind: kind for kind in report.warnings},
    )

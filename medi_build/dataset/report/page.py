"""The page: what was gathered, through its template, small enough to be opened anywhere."""

from pathlib import Path

from medi_build.dataset.report.gather import Report
from medi_build.pages.render import render as render_page
from medi_build.pages.render import write_page

TEMPLATE = Path(__file__).parent / "report.html.j2"
MOST_BYTES = 5_000_000
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


def render(report: Report, longest: int) -> str:
    """The page as HTML; texts cut to ``longest`` characters."""
    return render_page(
        TEMPLATE,
        report=report,
        longest=longest,
        ids={part.entry.name: number for number, part in enumerate(report.parts, 1)},
        by_kind={kind.kind: kind for kind in report.warnings},
    )

"""The page: what was gathered, through a Jinja template, in one file that needs no other and no network."""

from math import isnan
from pathlib import Path

import jinja2
import numpy as np

from medi_build.arrays import Ints
from medi_build.dataset.report.facts import SCORE_BINS
from medi_build.dataset.report.gather import Report
from medi_build.files import write_bytes

HERE = Path(__file__).parent
MOST_BYTES = 5_000_000
LENGTHS = (300, 200, 120, 60)
"""Characters to which texts are cut: the first with which the page is small enough."""
CELL = 4
"""Width of a bin of a histogram, in pixels."""
HEIGHT = 44


def write(report: Report, path: Path) -> int:
    """Write the page, texts cut to so many characters that it stays small; returns its bytes.

    Raises:
        OutputError: it cannot be written; what stood there is untouched.
    """
    for longest in LENGTHS:
        page = render(report, longest).encode()
        if len(page) <= MOST_BYTES:
            break
    return write_bytes(path, page, path.parent).size


def render(report: Report, longest: int) -> str:
    """The page as HTML; texts cut to ``longest`` characters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "percent": _percent, "score": _score}
    environment.globals |= {"bars": bars, "outline": outline, "lowest": lowest, "peak": peak, "cell": CELL}
    template = environment.get_template("page.html.j2")
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return template.render(report=report, longest=longest, style=style, script=script)


def bars(counts: Ints, first: int, highest: int) -> str:
    """An SVG path of the bars of a histogram, from its bin ``first`` on; ``highest`` is as high as the picture."""
    return "".join(
        f"M{CELL * place} {HEIGHT}v-{height}h{CELL}v{height}z"
        for place, height in enumerate(_heights(counts, first, highest))
        if height
    )


def outline(counts: Ints, first: int, highest: int) -> str:
    """An SVG path along the upper edge of a histogram's bars."""
    heights = _heights(counts, first, highest)
    return f"M0 {HEIGHT}" + "".join(f"V{HEIGHT - height}h{CELL}" for height in heights) + f"V{HEIGHT}"


def lowest(*counts: Ints) -> int:
    """The first bin of several histograms that any of them uses."""
    used = np.flatnonzero(np.sum(counts, axis=0))
    return int(used[0]) if len(used) else 0


def peak(counts: Ints) -> float:
    """The middle of the highest bin of a histogram of cosines."""
    return (2 * int(np.argmax(counts)) + 1) / SCORE_BINS - 1


def _heights(counts: Ints, first: int, highest: int) -> list[int]:
    return [round(HEIGHT * count / max(highest, 1)) for count in counts[first:].tolist()]


def _count(number: int) -> str:
    return f"{number:,}"


def _percent(share: float) -> str:
    """A share in whole per cent; what is there is never shown as nothing."""
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def _score(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2f}".replace("-", "−")

"""A page: a template over the frame that all pages share, in one file that needs no other and no network."""

from math import isfinite
from pathlib import Path
from typing import Any

import jinja2

from medi_build.files import write_bytes
from medi_build.pages.pictures import CELL, bars, chart, lowest, outline, peak

HERE = Path(__file__).parent


def render(template: Path, **values: Any) -> str:
    """A page as HTML.

    Args:
        template: file that extends ``base.html.j2``; what it includes lies beside it, or here.
        values: what it shows; texts are shown as text whatever they hold.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "percent": percent, "score": score, "points": points}
    environment.globals |= {
        "bars": bars, "outline": outline, "lowest": lowest, "peak": peak, "cell": CELL, "chart": chart,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
    }  # fmt: skip
    return environment.get_template(template.name).render(**values)


def write_page(page: str, path: Path) -> int:
    """Write a page; returns its bytes.

    Raises:
        OutputError: it cannot be written; what stood there is untouched.
    """
    return write_bytes(path, page.encode(), path.parent).size


def count(number: float) -> str:
    """A number of things."""
    return f"{number:,}"


def percent(share: float) -> str:
    """A share in whole per cent; what is there is never shown as nothing."""
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def score(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with so many digits behind the point, a dash where there is none."""
    if value is None or not isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def points(value: float | None, sign: bool = False) -> str:
    """A fraction of 1 times 100, as scores are told."""
    return score(None if value is None else 100 * value, 2, sign)

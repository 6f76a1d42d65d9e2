"""Pictures as SVG: histograms as one path, curves over steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np

from medi_build.arrays import Ints

CELL = 4
"""Width of a bin of a histogram, in pixels."""
HEIGHT = 44
WIDE, HIGH = 640, 220
"""Of the field of a curve."""
MOST_POINTS = 600
"""Of one curve that are drawn."""


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
    """The middle of the highest bin of a histogram of cosines, from -1 to 1."""
    return (2 * int(np.argmax(counts)) + 1) / len(counts) - 1


def _heights(counts: Ints, first: int, highest: int) -> list[int]:
    return [round(HEIGHT * count / max(highest, 1)) for count in counts[first:].tolist()]


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        name: of what is drawn.
        steps: ascending.
        values: one for each.
        faint: drawn thin, behind the others: what another curve is the mean of.
        dots: mark every point, where they are few.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves in one field, ready to be drawn.

    Attributes:
        paths: name, SVG path, whether faint, and places of the dots, of each curve.
        ticks_y: height on the field and label.
        ticks_x: likewise, from the left.
        summary: in words, for those who do not see it.
    """

    paths: Sequence[tuple[str, str, bool, Sequence[tuple[float, float]]]]
    ticks_y: Sequence[tuple[float, str]]
    ticks_x: Sequence[tuple[float, str]]
    summary: str


def chart(curves: Sequence[Curve], from_zero: bool = False) -> Chart | None:
    """The curves over their steps in one field of `WIDE` by `HIGH`; None where no curve has a value.

    Args:
        curves: of one unit.
        from_zero: let the field begin at 0.
    """
    known = [curve for curve in map(_finite, curves) if curve.steps]
    if not known:
        return None
    right = max(curve.steps[-1] for curve in known) or 1
    values = [value for curve in known for value in curve.values]
    low, high, ticks = _scale(0.0 if from_zero else min(values), max(values))

    def place(step: float, value: float) -> tuple[float, float]:
        return round(WIDE * step / right, 1), round(HIGH * (high - value) / (high - low), 1)

    paths = []
    for curve in known:
        places = [place(*point) for point in zip(*_thinned(curve), strict=True)]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
        paths.append((curve.name, path, curve.faint, places if curve.dots or len(places) == 1 else []))
    told = (
        f"{curve.name}: {curve.values[0]:.4g} at step {curve.steps[0]:g}, {curve.values[-1]:.4g} at step "
        f"{curve.steps[-1]:g}"
        for curve in known
        if not curve.faint
    )
    steps = _ticks(0, right, 4)
    return Chart(
        paths,
        [(place(0, tick)[1], f"{tick:.4g}".replace("-", "−")) for tick in ticks],
        [(place(tick, low)[0], f"{tick:,g}") for tick in steps],
        "; ".join(told),
    )


def _finite(curve: Curve) -> Curve:
    some = [(step, value) for step, value in zip(curve.steps, curve.values, strict=True) if isfinite(value)]
    return Curve(curve.name, [step for step, _ in some], [value for _, value in some], curve.faint, curve.dots)


def _thinned(curve: Curve) -> tuple[Sequence[float], Sequence[float]]:
    """Few enough points: evenly chosen, the last one among them."""
    chosen = np.unique(np.linspace(0, len(curve.steps) - 1, min(MOST_POINTS, len(curve.steps))).round().astype(int))
    return [curve.steps[one] for one in chosen], [curve.values[one] for one in chosen]


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Bounds that are round, and what is written between them."""
    if high - low < 1e-12:
        low, high = low - max(abs(low), 1e-6) / 2, high + max(abs(high), 1e-6) / 2
    step = _step(high - low, 4)
    bottom, top = step * floor(low / step + 1e-9), step * ceil(high / step - 1e-9)
    return bottom, top, [bottom + step * number for number in range(round((top - bottom) / step) + 1)]


def _ticks(low: float, high: float, about: int) -> list[float]:
    step = _step(high - low, about)
    return [low + step * number for number in range(floor((high - low) / step + 1e-9) + 1)]


def _step(span: float, about: int) -> float:
    """1, 2 or 5 times a power of ten, of which about so many make the span."""
    power = 10.0 ** floor(log10(span / about))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / about * 0.999)

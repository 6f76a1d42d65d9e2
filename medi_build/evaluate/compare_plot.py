"""A comparison as a picture: scores on the left, differences to the first model with their intervals on the right."""

from pathlib import Path

import numpy as np

from medi_build.evaluate.compare import Comparison
from medi_build.files import replacing

_INCHES_PER_ROW = 0.32


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Write the picture as SVG; the same comparison gives the same bytes.

    Args:
        comparison: of at least two models.
        path: file to write.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = [*comparison.tasks, *comparison.averages]
    names = [row.task for row in comparison.tasks] + [f"average, {row.suite}" for row in comparison.averages]
    places = np.arange(len(rows))[::-1]
    shifts = np.linspace(0.25, -0.25, len(comparison.labels))
    with mpl.rc_context({"svg.hashsalt": "medi"}):
        size = (10, 1.6 + _INCHES_PER_ROW * (len(rows) + 0.35 * len(comparison.labels)))
        figure, (left, right) = pyplot.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
        for number, label in enumerate(comparison.labels):
            colour = f"C{number % 10}"
            heights = places + shifts[number]
            left.plot([100 * (row.scores[number] or np.nan) for row in rows], heights, "o", color=colour, label=label)
            for row, height in zip(rows, heights, strict=True):
                if difference := row.differences[number]:
                    right.plot([100 * difference.value], [height], "o", color=colour)
                    if difference.low is not None and difference.high is not None:
                        ends = [100 * difference.low, 100 * difference.high]
                        right.plot(ends, [height, height], "-", color=colour, linewidth=2)
        right.axvline(0, color="0.4", linewidth=1)
        for axis in (left, right):
            axis.grid(axis="x", color="0.9")
            axis.axhspan(-0.5, len(comparison.averages) - 0.5, color="0.96", zorder=0)
        left.set(xlabel="main score x 100", yticks=places, yticklabels=names, ylim=(-0.5, len(rows) - 0.5))
        right.set(xlabel=f"difference to {comparison.labels[0]}, 95 % interval")
        figure.legend(loc="outside upper left", ncols=1, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)

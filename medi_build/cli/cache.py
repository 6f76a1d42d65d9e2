"""``medi cache``: what the vector store holds."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli.console import OUT, print_entry, print_json
from medi_build.cli.options import JsonOption, StoreOption
from medi_build.paths import vectors_folder

if TYPE_CHECKING:
    from medi_build.encode.store import EncoderUsage


def commands() -> typer.Typer:
    """The commands below ``medi cache``."""
    cache = typer.Typer(help="Look into the vector store and make room.", no_args_is_help=True)
    cache.command("ls")(cache_ls)
    cache.command("gc")(cache_gc)
    return cache


def cache_ls(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the encoders whose vectors are stored, the most lately used first.

    Example: `medi cache ls`
    """
    import datetime

    from medi_build.encode.segments import FORMAT_VERSION
    from medi_build.encode.store import VectorStore

    found = VectorStore(store or vectors_folder()).describe()
    if as_json:
        print_json(list(map(_told, found)))
    for usage in found:
        about = {"model": "unknown", "revision": None, "dtype": "", "max_tokens": None, **usage.about}
        revision = f" at {about['revision']}" if about["revision"] else ""
        window = f", window {about['max_tokens']}" if about["max_tokens"] else ""
        used = datetime.datetime.fromtimestamp(usage.last_used).strftime("%Y-%m-%d")
        count = f"{usage.vectors:,} vectors" if usage.format == FORMAT_VERSION else f"store format {usage.format}"
        print_entry(
            usage.identity,
            f"{about['model']}{revision}, {about['dtype']}{window}",
            f"{count}, {usage.size_bytes / 1e6:,.1f} MB, last used {used}",
        )


def cache_gc(
    older_than_days: Annotated[float | None, typer.Option(min=0, help="Not used for so many days.")] = None,
    identity: Annotated[str | None, typer.Option(help="Of one encoder, as `medi cache ls` prints it.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Throw away stored vectors: those of one encoder, or all that were not used for some days.

    Example: `medi cache gc --older-than-days 30`
    """
    from medi_build.encode.store import VectorStore

    if older_than_days is None and identity is None:
        raise typer.BadParameter("give --older-than-days or --identity: nothing is thrown away by default")
    found = VectorStore(store or vectors_folder()).gc(older_than_days, identity)
    if as_json:
        print_json(list(map(_told, found)))
    for usage in found:
        OUT.print(f"removed {usage.vectors:,} vectors of {usage.about['model']} ({usage.size_bytes / 1e6:,.1f} MB)")


def _told(usage: "EncoderUsage") -> dict[str, Any]:
    """One encoder's vectors."""
    return {
        "identity": usage.identity,
        **{name: usage.about.get(name) for name in ("model", "revision", "dtype", "max_tokens")},
        "vectors": usage.vectors,
        "bytes": usage.size_bytes,
        "last_used": usage.last_used,
        "format": usage.format,
    }

"""Where the raw files of a dataset came from, as its card in the manifest says."""

from typing import NamedTuple

from medi_build.dataset.reader import DatasetEntry

HUB_PAGE = "https://huggingface.co/datasets/"


class Source(NamedTuple):
    """Attributes: places: pages and addresses; none for files of one's own. revision: a commit, or ""."""

    places: list[str]
    revision: str


def source_of(entry: DatasetEntry) -> Source:
    """The places of a dataset's raw files, the repository or archive first."""
    download = entry.card.get("download") or {}
    archive = download.get("archive") or {}
    main = [f"{HUB_PAGE}{download['hub']}"] if download.get("hub") else [download.get("url"), archive.get("url")]
    others = [path for path in download.get("paths", {}).values() if "://" in path]
    places = list(dict.fromkeys(place for place in [*main, *sorted(others)] if place))
    revision = download.get("revision", "")
    return Source(places, "" if revision == "unconfirmed" else revision)

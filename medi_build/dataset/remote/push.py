"""Push and pull, wherever to: the one door that the command line takes."""

from pathlib import Path

from medi_build.dataset.export.croissant import CROISSANT, of_build
from medi_build.dataset.reader import BuiltDataset
from medi_build.dataset.remote import hub, object_store
from medi_build.dataset.remote.listing import Sent, local_files
from medi_build.dataset.remote.place import parse
from medi_build.errors import OptionError
from medi_build.progress import Silent


def push(dataset: BuiltDataset, target: str, wanted: hub.Wanted, watcher: Silent) -> str:
    """Publish a dataset; says what came of it.

    Raises:
        OptionError: the target is none, or an option does not go with it.
        PublishError: see `hub.push` and `object_store.push`.
        DatasetError: a file is not what the manifest says.
    """
    place, manifest = parse(target), dataset.manifest
    if place.url and (wanted.branch or wanted.private):
        raise OptionError(f"{target}: --revision and --private are for repositories of the hub; a store has tags alone")
    named = f", tag {wanted.tag}" if wanted.tag else ""
    with local_files(dataset) as files:
        if place.repository:
            about = {CROISSANT: of_build(manifest)}
            done = hub.push(Sent(manifest, files, about), place.repository, wanted, watcher)
            where = f"{place} at commit {done.commit}{named}"
            return f"{manifest.rows:,} records in {done.files:,} files {_state(done.fresh)} {where}"
        about = {CROISSANT: of_build(manifest, object_store.key)}
        number, fresh = object_store.push(Sent(manifest, files, about), place.url, wanted.tag, watcher)
        return f"{manifest.rows:,} records {_state(fresh)} {place} as version {number}{named}"


def pull(source: str, revision: str | None, out: Path, watcher: Silent) -> str:
    """Bring a dataset back; says what came of it. Raises as `hub.pull` and `object_store.pull`."""
    place = parse(source)
    if place.repository:
        fresh = hub.pull(place.repository, revision, out, watcher)
    else:
        fresh = object_store.pull(place.url, revision, out, watcher)
    return f"{place} {'pulled to' if fresh else 'is already in'} {out}, every file as its digest says"


def _state(fresh: bool) -> str:
    return "now in" if fresh else "already in"

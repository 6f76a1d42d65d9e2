"""Push and pull, wherever to: the one door that the command line takes."""

from pathlib import Path

from medi_build.dataset.export.croissant import CROISSANT, of_build
from medi_build.dataset.reader import BuiltDataset
from medi_build.dataset.remote import hub, object_store
from medi_build.dataset.remote.place import parse
from medi_build.errors import OptionError
from medi_build.progress import Silent


def push(
    dataset: BuiltDataset, target: str, revision: str | None, tag: str | None, private: bool, watcher: Silent
) -> str:
    """Publish a dataset; says what came of it.

    Raises:
        OptionError: the target is none, or an option does not go with it.
        PublishError: see `hub.push` and `object_store.push`.
        DatasetError: a file is not what the manifest says.
    """
    place, extra = parse(target), {CROISSANT: of_build(dataset.manifest)}
    rows = f"{dataset.manifest.rows:,} records"
    if place.repository:
        done = hub.push(dataset, extra, place.repository, hub.Wanted(revision, tag, private), watcher)
        state = "now in" if done.fresh else "already in"
        named = f", tag {tag}" if tag else ""
        return f"{rows} in {done.files:,} files {state} {place} at commit {done.commit}{named}"
    if revision or private:
        raise OptionError(f"{target}: --revision and --private are for repositories of the hub; a store has tags alone")
    number, fresh = object_store.push(dataset, extra, place.url, tag, watcher)
    return f"{rows} {'now in' if fresh else 'already in'} {place} as version {number}" + (f", tag {tag}" if tag else "")


def pull(source: str, revision: str | None, out: Path, watcher: Silent) -> str:
    """Bring a dataset back; says what came of it. Raises as `hub.pull` and `object_store.pull`."""
    place = parse(source)
    take = (place.repository, hub.pull) if place.repository else (place.url, object_store.pull)
    fresh = take[1](take[0], revision, out, watcher)
    return f"{place} {'pulled to' if fresh else 'is already in'} {out}, every file as its digest says"

"""Versions, exports, and what is sent and fetched: the victims around the warehouse.

Two builds of the same datasets are made once for all of them. What a run changes lies in its own folder; a warehouse
or a store that is only read is shared.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pyarrow.parquet as pq

from medi_build.dataset.export.run import RECEIPT
from medi_build.dataset.reader import Manifest
from medi_build.dataset.remote.object_store import key
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.pending import JOURNAL
from medi_build.dataset.versions.place import MADE_AGAIN
from medi_build.dataset.versions.refs import branches, delete_branch, log, open_version, set_branch, tags
from medi_build.dataset.versions.tombstones import read_tombstones
from medi_build.dataset.versions.warehouse import metadata_location, reading
from medi_build.encode.load import quiet
from medi_build.errors import MediError
from medi_build.files import FileEntry, file_digest
from tools.survival.builds import ENCODER, SAMPLES, medi, nothing, read_built
from tools.survival.harness import Sight, Victim, digests

HOUSE = "warehouse"
TEMPORARY = ("store/*/.*.tmp",)
"""Several machines may push into one store, so none takes away what another one may be writing."""


@cache
def _builds() -> TemporaryDirectory[str]:
    """Two builds by two seeds, ``first`` and ``second``; gone when this process ends."""
    from medi_build import BuildOptions, build  # takes seconds

    folder = TemporaryDirectory(prefix="medi-survival-builds-")
    root, sources = Path(folder.name), tuple(SAMPLES.split(","))
    common = BuildOptions(root, sources, cache=root / "cache", offline=True, encoder=ENCODER, limit_per_dataset=12)
    with quiet():
        for name, seed in (("first", 7), ("second", 0)):
            build(replace(common, out=root / name, seed=seed))
    return folder


def two_builds(shared: Path) -> None:
    """What is committed, exported and sent."""
    for name in ("first", "second"):
        shutil.copytree(Path(_builds().name) / name, shared / name)


# --- warehouses


def one_version(shared: Path, folder: Path) -> None:
    """A warehouse with the first build, tagged."""
    commit(folder / HOUSE, shared / "first", "the first", tag="v1")


def versions_and_lost_ones(shared: Path, run: Path) -> None:
    """Two versions, a third that no name reaches, and a file that a killed commit has left."""
    house = run / HOUSE
    one_version(shared, run)
    set_branch(house, "trial")
    commit(house, shared / "second", "a trial", branch="trial")
    delete_branch(house, "trial")
    commit(house, shared / "fewer", "the second", tag="v2")
    (house / "records" / "data" / "left").mkdir()
    (house / "records" / "data" / "left" / "half.parquet").write_bytes(b"PAR1")


def builds_and_a_smaller_one(shared: Path) -> None:
    """As `two_builds`, and a build without one of the datasets."""
    two_builds(shared)
    fewer = shared / "fewer"
    shutil.copytree(shared / "first", fewer)
    manifest = orjson.loads((fewer / "manifest.json").read_bytes())
    gone = manifest["datasets"].pop()
    for shard in gone["shards"]:
        (fewer / shard["path"]).unlink()
    (fewer / MADE_AGAIN).unlink()
    manifest["rows"] -= gone["rows"]
    manifest["files"] = [one for one in manifest["files"] if one["path"] != MADE_AGAIN]
    (fewer / "manifest.json").write_bytes(orjson.dumps(manifest))


def two_versions(shared: Path, run: Path) -> None:
    """A warehouse with both builds."""
    one_version(shared, run)
    commit(run / HOUSE, shared / "second", "the second", tag="v2")


def builds_and_a_text(shared: Path) -> None:
    """As `two_builds`, and a query that both have, to be purged."""
    two_builds(shared)
    first, second = (
        {
            row["query"][1]
            for path in sorted((shared / name / "data").glob("*"))
            for row in pq.read_table(path).to_pylist()
        }
        for name in ("first", "second")
    )
    (shared / "wanted").write_text(max(first & second, key=len), encoding="utf-8")


def house_words(*words: str) -> Callable[[Path, Path], list[str]]:
    """A command for the warehouse of the run; SHARED stands for the shared folder."""
    return lambda shared, run: [
        *(word.replace("SHARED", str(shared)) for word in words), "--warehouse", str(run / HOUSE)
    ]  # fmt: skip


def purge_words(shared: Path, run: Path) -> list[str]:
    """A takedown."""
    wanted = (shared / "wanted").read_text(encoding="utf-8")
    shutil.copy(shared / "wanted", run.parent / "wanted")
    return ["purge", "--matching", wanted, "--reason", "asked for", "--warehouse", str(run / HOUSE)]


def state(run: Path) -> dict[str, str]:
    """What a warehouse holds, without what Iceberg draws anew each time: ids, dates, names of its files."""
    house = run / HOUSE
    found = digests(house, but=("records/metadata/*", "catalog.db", "lock", "tombstones.jsonl"))
    for ref in (*tags(house), *branches(house)):
        before = [(one.message, one.manifest, one.rows, one.purged, one.tags) for one in log(house, ref.name)]
        found[f"ref {ref.name}"] = repr(before)
    stones = read_tombstones(house)
    found["tombstones"] = repr([(one.by, one.sha256, one.records, one.ids, len(one.commits)) for one in stones])
    assert not (house / JOURNAL).exists()
    return found


def swept(run: Path) -> dict[str, str]:
    """As `state`, and how many files of Iceberg's there are, for none of them may be left over."""
    kinds = Counter(path.suffix for path in (run / HOUSE / "records" / "metadata").iterdir())
    return {**state(run), "metadata": repr(sorted(kinds.items()))}


def purged(run: Path) -> dict[str, str]:
    """As `swept`, once no file has the text."""
    wanted = (run.parent / "wanted").read_text(encoding="utf-8")
    for path in (run / HOUSE).rglob("*"):
        if path.is_file():
            assert wanted.encode() not in path.read_bytes(), f"{path} has the text"
            if path.suffix == ".parquet":
                assert wanted not in json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False), path
    return swept(run)


def _check_version(house: Path, ref: str) -> None:
    """Read every byte of a version. Raises AssertionError: it opens and is not as its manifest says."""
    dataset = open_version(house, ref)
    shards = [shard for one in dataset.manifest.datasets for shard in one.shards]
    small = [(one, dataset.root / one.path) for one in dataset.manifest.files if one.path != MADE_AGAIN]
    _check_files(chain(zip(shards, dataset.shards, strict=True), small))


def _check_files(files: Iterable[tuple[FileEntry, Path]]) -> None:
    wrong = [entry.path for entry, path in files if file_digest(path) != entry.sha256]
    assert not wrong, f"files that are not what the manifest says: {wrong}"


def read_new(ref: str) -> Callable[[Path], Sight]:
    """A reader of a version that comes: whole, or refused as long as it is not there."""

    def read(run: Path) -> Sight:
        try:
            _check_version(run / HOUSE, ref)
        except MediError:
            return "refused"
        return "whole"

    return read


def read_always(run: Path) -> Sight:
    """A reader of versions that were there before: whole at every moment."""
    for ref in ("v1", "main"):
        try:
            _check_version(run / HOUSE, ref)
        except (MediError, OSError) as error:
            raise AssertionError(f"{ref} cannot be read: {error}") from error
    return "whole"


def read_over(run: Path) -> Sight:
    """As `read_always`, and the version that comes is whole or refused."""
    read_always(run)
    return read_new("v2")(run)


def read_exchanged(run: Path) -> Sight:
    """As `read_always`, but who had begun to read when a purge exchanged the history may be refused that once."""
    before = _location(run)
    try:
        return read_always(run)
    except AssertionError:
        if _location(run) == before:
            raise
        return "refused"


def _location(run: Path) -> str | None:
    with reading(run / HOUSE) as opened:
        return metadata_location(opened.catalog)


# --- folders that come of a version


def shared_warehouse(shared: Path) -> None:
    """A warehouse that all runs read."""
    two_builds(shared)
    one_version(shared, shared)


def from_version(*words: str) -> Callable[[Path, Path], list[str]]:
    """A command that makes a folder of v1."""
    return lambda shared, run: [*words, "--warehouse", str(shared / HOUSE), "--out", str(run / "out")]


def read_exported(run: Path) -> Sight:
    """Compare all files of an export with its receipt."""
    out = run / "out"
    if not out.exists():
        return "refused"
    entries = [FileEntry.model_validate(one) for one in orjson.loads((out / RECEIPT).read_bytes())["files"]]
    _check_files((one, out / one.path) for one in entries)
    return "whole"


def all_files(run: Path) -> dict[str, str]:
    """Everything in the folder of the run, so that nothing is left beside a result, either."""
    return digests(run, but=("cache/*", *TEMPORARY))


# --- a store


def pushed(shared: Path) -> None:
    """The first build in a store."""
    two_builds(shared)
    medi("push", shared / "first", f"file://{shared / 'store'}", "--tag", "v1")


def copy_store(shared: Path, run: Path) -> None:
    """What was pushed before."""
    shutil.copytree(shared / "store", run / "store")


def read_store(run: Path) -> Sight:
    """Every version that has its number is whole; one was there before."""
    store = run / "store"
    versions = sorted(path for path in (store / "versions").iterdir() if not path.name.startswith("."))
    for path in versions:
        manifest = Manifest.model_validate_json(path.read_bytes())
        files = chain(manifest.files, *(one.shards for one in manifest.datasets))
        _check_files((one, store / key(one)) for one in files)
    assert versions[0].name == "00000001.json"
    return "whole" if len(versions) > 1 else "refused"


VERSIONS = (
    Victim("commit", two_builds, nothing, house_words("commit", "SHARED/first", "-m", "the first", "--tag", "v1"),
           state, read_new("v1")),
    Victim("commit over another", two_builds, one_version,
           house_words("commit", "SHARED/second", "-m", "the second", "--tag", "v2"), state, read_over),
    Victim("checkout", shared_warehouse, nothing, from_version("checkout", "v1"), all_files, read_built),
    Victim("gc", builds_and_a_smaller_one, versions_and_lost_ones, house_words("gc"), swept, read_always),
    Victim("purge", builds_and_a_text, two_versions, purge_words, purged, read_exchanged),
    Victim("export", shared_warehouse, nothing, from_version("export", "v1", "--format", "sentence-transformers"),
           all_files, read_exported),
    Victim("push", pushed, copy_store, lambda shared, run: [
        "push", str(shared / "second"), f"file://{run / 'store'}", "--tag", "v2"], all_files, read_store, TEMPORARY),
    Victim("pull", pushed, nothing, lambda shared, run: [
        "pull", f"file://{shared / 'store'}", "--out", str(run / "out")], all_files, read_built),
)  # fmt: skip
"""In a store a reader is refused the version that comes; the one before is whole at every look."""

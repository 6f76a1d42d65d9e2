"""Lock files: what a build resolved to, so that it can be made again, or be told what has moved."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from medi_build.content.cards import Card, Download
from medi_build.content.load import Content
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.manifest import environment
from medi_build.dataset.plain import told
from medi_build.dataset.reader import Manifest
from medi_build.dataset.receipt import Basis
from medi_build.errors import LockError
from medi_build.files import write_bytes
from medi_build.ingest.remotes import Pin
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import Plan

MOST_TOLD = 20
"""Changes that an error lists."""


class LockedDataset(BaseModel):
    """One dataset of a lock file.

    Attributes:
        rows: records.
        rows_sha256: digest of its rows in ``medi-data.json``.
        basis: what decided its files (`medi_build.dataset.receipt.Basis.dataset`).
        download: where its raw files came from, with the revision and the digests that were fetched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    rows_sha256: str
    basis: dict[str, Any]
    download: Download | None


class Lock(BaseModel):
    """What a build resolved to.

    Attributes:
        lock_version: of this form.
        medi_version: the version of medi that built it.
        environment: versions of Python and of the libraries whose arithmetic vectors depend on; told, not compared.
        pipeline: as it was run, overrides included.
        basis: what decided all datasets alike (`medi_build.dataset.receipt.Basis.build`).
        digest: over the rows of all datasets.
        datasets: by name, in the order of task ids.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lock_version: Literal[1] = 1
    medi_version: str
    environment: dict[str, str]
    pipeline: Pipeline
    basis: dict[str, Any]
    digest: str
    datasets: dict[str, LockedDataset]

    def options_under(self, options: BuildOptions) -> BuildOptions:
        """What the user decides beside it, with the datasets and numbers that it tells."""
        multiple = self.basis["batch_multiple"]
        return replace(options, sources=tuple(self.datasets), limit_per_dataset=None, batch_multiple=multiple)

    def pipeline_under(self, options: BuildOptions) -> Pipeline:
        """The pipeline, its encoder at the revision that was used; only fetching is still the user's to forbid."""
        encoders: list[dict[str, Any]] = self.basis["encoders"]
        encoder = self.pipeline.encoder.model_copy(update={"revision": encoders[0]["revision"]})
        return self.pipeline.model_copy(
            update={"encoder": encoder, "allow_missing": False, "offline": self.pipeline.offline or options.offline}
        )

    def check_content(self, content: Content) -> None:
        """Raise `LockError` if a dataset has no card any more."""
        gone = [name for name in self.datasets if name not in content.cards]
        if gone:
            raise _moved([f"{name}: there is no card of it any more" for name in gone])

    def pinned(self, content: Content) -> Content:
        """The content, its cards naming the revisions and digests of the files that were fetched."""
        pinned = {
            name: card.model_copy(update={"download": _pinned(card.download, one.download)})
            for name, one in self.datasets.items()
            for card in [content.cards[name]]
        }
        return replace(content, cards={**content.cards, **pinned})

    def cap(self, name: str) -> int:
        """Most examples of a dataset that were kept."""
        return int(self.datasets[name].basis["cap"])

    def check_plan(self, plan: Plan) -> None:
        """Raise `LockError` if the licence policy leaves a dataset out by what its card says now."""
        if plan.not_commercial:
            licences = plan.not_commercial.items()
            raise _moved([f"{name}: its card now says {spdx}, which the policy leaves out" for name, spdx in licences])

    def check(self, bases: Mapping[str, Basis]) -> None:
        """Raise `LockError` naming everything that decides one of these datasets and is not as it was."""
        moved: dict[str, None] = {}  # in order, each once
        for name, basis in bases.items():
            moved |= dict.fromkeys(told(self.basis, basis.build))
            own = told(self.datasets[name].basis, basis.dataset)
            moved |= dict.fromkeys(f"{name}: {change}" for change in own)
        if moved:
            raise _moved(list(moved))

    def check_rows(self, manifest: Manifest) -> None:
        """Raise `LockError` if what was built has other rows, though all that is known to decide them is the same."""
        other = [one.name for one in manifest.datasets if one.rows_sha256 != self.datasets[one.name].rows_sha256]
        if other:
            then = {**self.environment, "medi": self.medi_version}
            now = {**environment(), "medi": manifest.medi_version}
            moved = ", ".join(told(then, now)) or "the same libraries; perhaps another type of processor"
            raise LockError(
                f"built, but {len(other)} of {len(manifest.datasets)} datasets have other rows than the lock file "
                f"tells ({', '.join(other[:5])}): {moved}"
            )


def lock_of(manifest: Manifest) -> Lock:
    """What a finished build resolved to."""
    return Lock(
        medi_version=manifest.medi_version,
        environment=manifest.environment,
        pipeline=Pipeline.model_validate(manifest.pipeline),
        basis=manifest.basis,
        digest=manifest.digest,
        datasets={
            one.name: LockedDataset(
                rows=one.rows,
                rows_sha256=one.rows_sha256,
                basis={"card": {k: v for k, v in one.card.items() if k != "download"}, **one.basis},
                download=one.card["download"],
            )
            for one in manifest.datasets
        },
    )


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock file whole or not at all. Raises `OutputError`."""
    text = orjson.dumps(lock.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n"
    write_bytes(path, text, path.parent)


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        LockError: it is not there, or is none.
    """
    try:
        return Lock.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LockError(f"{path}: cannot be read ({error.strerror}); `medi lock DIR` writes one") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the whole"
        raise LockError(
            f"{path}: is no lock file of this version of medi ({where}: {fault['msg']}); `medi lock DIR` writes one"
        ) from error


def as_fetched(card: Card, pins: Mapping[str, Pin], used: Iterable[str]) -> Card:
    """A card whose ``download`` names what was fetched.

    Args:
        card: the card.
        pins: file name -> what a fetch got.
        used: digests of the files that the dataset was made from; a file of other origin pins nothing.
    """
    own = set(used)
    got = {name: pin for name, pin in pins.items() if pin.sha256 in own}
    if card.download is None or not got:
        return card
    commits = {
        pin.revision for name, pin in got.items() if pin.revision and "://" not in card.download.paths.get(name, "")
    }
    revision = commits.pop() if len(commits) == 1 else card.download.revision
    digests = {name: pin.sha256 for name, pin in got.items()}
    place = card.download.model_copy(update={"revision": revision, "sha256": {**card.download.sha256, **digests}})
    return card.model_copy(update={"download": place})


def _pinned(now: Download | None, then: Download | None) -> Download | None:
    """Where files come from now (a lock file holds no signed address), at the revision and with the digests of then."""
    if now is None or then is None:
        return now or then
    revision = then.revision if now.hub == then.hub else now.revision
    return now.model_copy(update={"revision": revision, "sha256": {**now.sha256, **then.sha256}})


def _moved(changes: list[str]) -> LockError:
    more = f"\n  and {len(changes) - MOST_TOLD:,} more" if len(changes) > MOST_TOLD else ""
    return LockError(
        f"{len(changes):,} thing(s) that decide the records moved since the lock file was written:\n  "
        + "\n  ".join(changes[:MOST_TOLD])
        + more
        + "\nPut back what moved, or build without --locked and write a new one with `medi lock`."
    )

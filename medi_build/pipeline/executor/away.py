"""One dataset built on another node: its files are brought there, its results are handed back in blocks.

What runs here knows nothing of Ray but what it is given.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from medi_build.dataset.receipt import Receipt
from medi_build.errors import EncoderError, MediError
from medi_build.files import remove_left_behind
from medi_build.ingest.adapters.base import Inputs
from medi_build.paths import cache_folder
from medi_build.pipeline.executor.bring import Blocks, Wanted, blocks_of, seen_here
from medi_build.pipeline.unit import UnitJob, embedders

Build = Callable[[UnitJob], Receipt]


class Errand(NamedTuple):
    """One attempt to build one dataset on another node; picklable.

    Attributes:
        job: as it would be built by the driver; all paths are the driver's, and absolute.
        inputs: its files, in the order of `files_of`.
        excluded: files of the index of evaluation texts; none where no text is excluded.
        cache: folder of downloads, vectors and indexes on every node; None for each node's default.
        token: file that the driver has laid beside the results, and what it holds: a worker that reads the same shares
            the disk.
        folder: of this attempt alone, for the results where the disk is shared; not there yet.
    """

    job: UnitJob
    inputs: tuple[Wanted, ...]
    excluded: tuple[Wanted, ...]
    cache: Path | None
    token: tuple[Path, str]
    folder: Path


class Begun(NamedTuple):
    """A worker has taken the errand."""

    node: str


class Block(NamedTuple):
    """Some bytes of a file of the results, in order; ``path`` is relative to the output folder."""

    path: str
    data: bytes


class Done(NamedTuple):
    """All results are handed over, or lie in the errand's folder."""

    receipt: Receipt
    seconds: float


def files_of(inputs: Inputs) -> list[Path]:
    """All files of a dataset: rows, then the extra roles by name."""
    return [*inputs.rows, *(path for _, paths in sorted(inputs.extra.items()) for path in paths)]


def build_away(errand: Errand, build: Build, served: Blocks) -> Iterator[Begun | Block | Done]:
    """Build one dataset on this node.

    Args:
        errand: what to build.
        build: how.
        served: gives a file of the driver's.

    Raises:
        MediError: see `medi_build.errors`; files have the names that they have on the driver.
    """
    yield Begun(socket.gethostname())
    begin = time.perf_counter()
    cache = errand.cache or cache_folder()
    shared = _shares_disk(*errand.token)
    with _own_folder(cache / "ray" / "attempts", errand.job) as own:
        out = errand.folder if shared else own / "out"
        job, top, seen = _as_here(errand, cache, own / "work", out, served)
        check_encoders(job)
        try:
            receipt = build(job)
        except MediError as error:
            raise type(error)(str(error).replace(str(seen), str(top))) from error
        if not shared:
            for entry in receipt.files:
                yield from (Block(entry.path, data) for data in blocks_of(str(out / entry.path)))
        yield Done(receipt, time.perf_counter() - begin)


def check_encoders(job: UnitJob) -> None:
    """Raise `EncoderError` where this node would make other vectors than the build's settings say."""
    expected = job.basis.build["encoders"]
    here = [one.encoder.about for one in embedders(job.pipeline, job.device, job.vectors)]
    if here != expected:
        differing = sorted({key for a, b in zip(here, expected, strict=True) for key in a if a[key] != b[key]})
        raise EncoderError(
            f"{job.pipeline.encoder.model}: node {socket.gethostname()} has another {', '.join(differing)} than the "
            f"build ({here} for {expected}); give all nodes the same model, and name --dtype and --device"
        )


def _shares_disk(token: Path, content: str) -> bool:
    try:
        return token.read_text(encoding="utf-8") == content
    except OSError:
        return False


@contextmanager
def _own_folder(attempts: Path, job: UnitJob) -> Iterator[Path]:
    """A folder on this node for one attempt; those of workers that died are removed."""
    attempts.mkdir(parents=True, exist_ok=True)
    remove_left_behind(attempts)
    own = attempts / f".{job.unit.task_id}-{time.time_ns()}.{os.getpid()}.tmp"
    (own / "work").mkdir(parents=True)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _as_here(errand: Errand, cache: Path, work: Path, out: Path, served: Blocks) -> tuple[UnitJob, Path, Path]:
    """The job with this node's paths, the folder that its raw files share on the driver, and where they are here."""
    job, own = errand.job, cache / "ray"
    top, seen = seen_here(errand.inputs, own, served)
    inputs = Inputs(
        rows=tuple(seen / path.relative_to(top) for path in job.inputs.rows),
        extra={role: tuple(seen / path.relative_to(top) for path in paths) for role, paths in job.inputs.extra.items()},
        cache=cache / "indexes",
    )
    excluded = job.excluded
    if excluded is not None:
        _, index = seen_here(errand.excluded, own, served)
        excluded = replace(excluded, index=index)
    out.mkdir(parents=True, exist_ok=True)
    job = replace(job, inputs=inputs, excluded=excluded, out=out, work=work, vectors=cache / "vectors")
    return job, top, seen

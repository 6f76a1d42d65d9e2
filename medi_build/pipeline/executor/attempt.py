"""The driver's side of one attempt to build a dataset on another node: what it is sent, and what came of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medi_build.dataset.receipt import Receipt
from medi_build.errors import OutputError, WorkerError
from medi_build.files import file_digest, put_in_place
from medi_build.pipeline.exclude_eval import Excluded
from medi_build.pipeline.executor.away import Begun, Block, Errand, files_of
from medi_build.pipeline.executor.bring import Wanted
from medi_build.pipeline.unit import UnitJob
from medi_build.progress import Silent


class Attempt:
    """One attempt to build one dataset, and what came of it so far."""

    def __init__(self, place: int, job: UnitJob, number: int) -> None:
        self.place, self.job, self.number = place, job, number
        self._folder = (job.work / f"{job.unit.task_id:05d}.{number}").absolute()

    def errand(self, cache: Path | None, token: tuple[Path, str], urls: Callable[[Path], str], device: str) -> Errand:
        """What the worker is sent."""
        given, dataset = self.job.inputs, self.job.basis.dataset
        digests = [*dataset["rows"], *(one for _, ones in sorted(dataset["extra"].items()) for one in ones)]
        inputs = tuple(
            Wanted(path.absolute(), path.stat().st_size, sha256, urls(path))
            for path, (_, sha256) in zip(files_of(given), digests, strict=True)
        )
        excluded = () if self.job.excluded is None else _index_files(self.job.excluded)
        return Errand(_absolute(self.job, device), inputs, excluded, cache, token, self._folder)

    def take(self, told: Begun | Block, progress: Silent) -> None:
        """Hear what the worker tells; raises `OutputError` where its results cannot be written."""
        if isinstance(told, Begun):
            progress.stage(self.job.unit.card.name, f"on {told.node}")
            return
        path = self._folder / told.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(told.data)
        except OSError as error:
            raise _unwritable(path, error) from error

    def keep(self, receipt: Receipt) -> None:
        """Give the results their names in the output folder."""
        for entry in receipt.files:
            arrived, path = self._folder / entry.path, self.job.out / entry.path
            try:
                if file_digest(arrived) != entry.sha256:
                    raise WorkerError(
                        f"{entry.path}: did not arrive as it was written; run the same command again, and look at the "
                        "disk and the network if this comes back"
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                put_in_place(arrived, path)
            except OSError as error:
                raise _unwritable(path, error) from error
        self.discard()

    def discard(self) -> None:
        """Remove what is left of it here."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); make room or choose another --out, then run the same "
        "command again: finished datasets are kept"
    )


def _absolute(job: UnitJob, device: str) -> UnitJob:
    """A job whose paths hold in any working folder."""
    inputs = replace(
        job.inputs,
        rows=tuple(path.absolute() for path in job.inputs.rows),
        extra={role: tuple(path.absolute() for path in paths) for role, paths in job.inputs.extra.items()},
    )
    return replace(job, inputs=inputs, out=job.out.absolute(), work=job.work.absolute(), device=device)


def _index_files(excluded: Excluded) -> tuple[Wanted, ...]:
    paths = sorted(path.absolute() for path in excluded.index.iterdir() if path.is_file())
    return tuple(Wanted(path, path.stat().st_size, file_digest(path)) for path in paths)

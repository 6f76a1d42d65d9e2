"""What a build is expected to take here: the servers are asked, the encoder is timed, the disks are looked at."""

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from medi_build.content.load import load_content
from medi_build.errors import OptionError, OutputError
from medi_build.ingest.remotes import Remote, place_of
from medi_build.ingest.sizes import ask
from medi_build.pipeline.estimate import Estimate, estimate
from medi_build.pipeline.options import BuildOptions, check_options, pipeline_of
from medi_build.pipeline.plan import Plan, remotes_lacking, resolve

_TIMED_QUERIES, _TIMED_CORPUS = 2048, 32768
_UNFINISHED = ("*.part", "*.incomplete")


@dataclass(frozen=True)
class Room:
    """What a disk has to hold.

    Attributes:
        folder: on it.
        certain: bytes to fetch, of which a server or a card tells.
        needed: bytes altogether, what is estimated included.
        free: bytes.
    """

    folder: Path
    certain: int
    needed: int
    free: int


def plan_of(options: BuildOptions) -> Plan:
    """What these options would build; datasets whose files nobody offers are in ``left_out``, allowed or not.

    Raises:
        MediError: as `build` before any work.
    """
    check_options(options)
    if isinstance(options.data, str):
        raise OptionError(f"data is {options.data!r}: a plan looks at files in a folder; name one, or build at once")
    content = load_content(options.content)
    pipeline = pipeline_of(content, replace(options, allow_missing=True))
    return resolve(
        content, pipeline, options.sources, options.data, options.limit_per_dataset, options.cache / "downloads"
    )


def survey(plan: Plan, cache: Path) -> Estimate:
    """The figures of a plan, after the servers were asked for what has to be fetched. The encoder's speed is not in it.

    Args:
        plan: what is to be built.
        cache: as in `BuildOptions`.
    """
    remotes = list(chain.from_iterable(remotes_lacking(plan).values()))
    return estimate(plan, ask(remotes), _begun(remotes, cache / "downloads"))


def _begun(remotes: Iterable[Remote], downloads: Path) -> dict[str, int]:
    """Bytes that interrupted fetches left, by transfer."""
    places = {one.transfer: downloads / one.source / place_of(one.transfer) for one in remotes}
    return {name: sum(map(_size, chain.from_iterable(map(place.rglob, _UNFINISHED)))) for name, place in places.items()}


def timed(figures: Estimate, plan: Plan, device: str | None) -> Estimate:
    """The same with the speed of the pipeline's main encoder, unless that has to be fetched first.

    Raises:
        EncoderError: it is here and cannot be loaded.
        OptionError: there is no such device.
    """
    from medi_build.encode.speed import measure

    return replace(figures, speed=measure(plan.pipeline.encoder, device))


def scores_per_second(dimension: int, device: str | None) -> float:
    """How many inner products an exact search for the 10 best makes in a second here: the better of two.

    Raises:
        OptionError: there is no such device.
    """
    import numpy as np

    from medi_build.devices import devices
    from medi_build.search.dense import topk

    drawn = np.random.default_rng(0).standard_normal((_TIMED_CORPUS, dimension), dtype=np.float32)
    corpus = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    took = []
    for _ in range(2):
        begin = time.perf_counter()
        topk(corpus[:_TIMED_QUERIES], corpus, 10, device=devices(device)[0])
        took.append(time.perf_counter() - begin)
    return _TIMED_QUERIES * _TIMED_CORPUS / min(took)


def rooms(figures: Estimate, cache: Path, out: Path) -> list[Room]:
    """What each disk has to hold beside what a killed build of the same left there."""
    vectors = max(0, figures.vectors - _size_below(cache / "vectors"))
    output = max(0, figures.output - _size_below(out))
    disks: dict[int, Room] = {}
    for folder, certain, estimated in (
        (cache, figures.download, figures.unpacked + vectors),
        (out, 0, output),
    ):
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        disk = disks.setdefault(there.stat().st_dev, Room(folder, 0, 0, shutil.disk_usage(there).free))
        disks[there.stat().st_dev] = replace(
            disk, certain=disk.certain + certain, needed=disk.needed + certain + estimated
        )
    return list(disks.values())


def check_rooms(rooms: Sequence[Room]) -> None:
    """Raise `OutputError` where a disk cannot hold what has to be fetched; what is estimated alone stops nobody."""
    for room in rooms:
        if room.certain > room.free:
            raise OutputError(
                f"{room.folder}: {room.certain / 1e9:,.1f} GB have to be fetched, with what is made of them about "
                f"{room.needed / 1e9:,.1f} GB, and {room.free / 1e9:,.1f} GB are free; make room or move --cache"
            )


def _size_below(folder: Path) -> int:
    return sum(map(_size, folder.rglob("*"))) if folder.is_dir() else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

"""Where the datasets of a build are built: on this machine, or on a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from medi_build.content.pipelines import Pipeline
from medi_build.devices import devices
from medi_build.paths import cache_folder
from medi_build.pipeline.executor.base import Executor
from medi_build.pipeline.executor.local import LocalExecutor
from medi_build.pipeline.options import BuildOptions
from medi_build.progress import Silent


class Where(NamedTuple):
    """Where datasets are built.

    Attributes:
        executor: what builds them.
        device: that each process there uses.
        here: device for which this process looks the encoders up.
        encoders: what they are there; None: the same as here.
    """

    executor: Executor
    device: str | None
    here: str | None
    encoders: list[dict[str, Any]] | None


@contextmanager
def opened_executor(
    options: BuildOptions, pipeline: Pipeline, urls: Callable[[Path], str], progress: Silent
) -> Iterator[Where]:
    """What a user chose, ready to work.

    Args:
        options: of the build.
        pipeline: with all overrides applied.
        urls: where else a raw file is to be had, or empty.
        progress: told of what happens elsewhere.

    Raises:
        OptionError: Ray is not installed, or there is no such device or address.
        WorkerError: no cluster answers, or a node has not what it needs.
    """
    if options.executor == "ray":
        with _on_ray(options, pipeline, urls, progress) as where:
            yield where
        return
    names = devices(options.device)
    if len(names) == 1:
        yield Where(LocalExecutor(options.jobs), options.device, options.device, None)
    else:  # of several GPUs each process has its own
        executor = LocalExecutor(max(options.jobs, len(names)), range(len(names)))
        yield Where(executor, "cuda:0", options.device, None)


@contextmanager
def _on_ray(
    options: BuildOptions, pipeline: Pipeline, urls: Callable[[Path], str], progress: Silent
) -> Iterator[Where]:
    from medi_build.pipeline.executor.cluster import check_nodes, connected, encoders_there, use_gpus
    from medi_build.pipeline.executor.ray import RayExecutor

    with connected(options.address) as cluster:
        gpus = use_gpus(cluster, options.device)
        check_nodes(cluster)
        cache = None if options.cache == cache_folder() else options.cache.absolute()
        encoders = encoders_there(cluster, pipeline, cache, gpus) if gpus else None
        yield Where(RayExecutor(cluster, gpus, cache, urls, progress), "cuda:0" if gpus else "cpu", "cpu", encoders)

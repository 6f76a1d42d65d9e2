"""No room for what a piece of work has made, in Ray's object store or on a worker's disk."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from medi_build.errors import WorkerError
from medi_build.pipeline.executor.cluster import connected
from medi_build.pipeline.executor.ray_errors import meant
from medi_build.pipeline.executor.ray_share import ray_share
from tests.ray.clusters import STORE_BYTES, started
from tests.ray.test_share import Size, sized

pytestmark = pytest.mark.slow


def shared_there(folder: Path) -> None:
    (folder / "began").touch()
    list(ray_share(sized, [Size(None, 3), Size(None, 2 * STORE_BYTES)]))


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/local/medi/vectors/x")


def test_a_full_store_and_a_full_disk_are_one_error(tmp_path: Path) -> None:
    """Ray takes its disk for full from 0.1 % on; the error is the piece's, and that of the task that asked for it.

    More than once, as Ray now and then aborts a process that cancels a task which has just failed.
    """
    with started(cpus=2, local_fs_capacity_threshold=0.001) as cluster, connected(cluster.address):
        for _ in range(30):
            with pytest.raises(WorkerError, match="Ray's object store is full, and the disk that it spills to"):
                list(ray_share(sized, [Size(None, 3), Size(None, 2 * STORE_BYTES)]))
        asked = ray.remote(shared_there).options(max_retries=0).remote(tmp_path)
        error = meant(raised(lambda: ray.get(asked)))
        assert isinstance(error, WorkerError) and "object store is full" in str(error)
        assert (tmp_path / "began").exists()
        error = meant(raised(lambda: ray.get(ray.remote(full_disk).options(max_retries=0).remote())))
        assert isinstance(error, WorkerError)
        assert "/local/medi/vectors/x: No space left on device; make room on its disk" in str(error)

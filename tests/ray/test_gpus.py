"""A split dataset on the GPUs of a cluster. They are Ray's count of them: no node here has one, and none is used."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from medi_build.dataset.receipt import Receipt
from medi_build.errors import InputError
from medi_build.pipeline.executor import ray_share
from medi_build.pipeline.executor.cluster import connected
from tests.encode.tiny_models import save_t5, unigram_tokenizer
from tests.pipeline.test_split import built, job
from tests.ray.clusters import MISSED_SOON, SECONDS, STORE_BYTES, environment, kill, started

pytestmark = pytest.mark.slow


@contextmanager
def gpus(folder: Path, count: int = 3) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """A cluster of nodes with a CPU and a GPU each, and those nodes by their ids."""
    with started(cpus=0, **MISSED_SOON) as cluster:
        nodes = [
            cluster.add_node(
                num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES,
                env_vars=environment(MEDI_CACHE=str(folder / f"cache-{number}")),
            )
            for number in range(count)
        ]  # fmt: skip
        with connected(cluster.address) as there:
            assert there.gpus == count
            yield cluster, {node.node_id: node for node in nodes}


def until(what: Any) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def noted(number: int, folder: Path) -> int:
    """A piece, which tells on which node it was done."""
    if number == -1:
        raise InputError("a bad piece")
    assert len(ray.get_gpu_ids()) == 1
    time.sleep(0.1)
    (folder / f"{ray.get_runtime_context().get_node_id()}.{number}").touch()
    return number * number


def coordinated(folder: Path) -> tuple[list[int], str]:
    """Hands out pieces until somebody says stop, and a bad one."""

    def pieces() -> Iterator[int]:
        number = 0
        while not (folder / "stop").exists():
            yield number
            number += 1
        yield -1

    ray_share.WORTH_SECONDS = 0.0
    (folder / f"asked-by-{ray.get_runtime_context().get_node_id()}").touch()
    found: list[int] = []
    try:
        found.extend(ray_share.gpu_share(partial(noted, folder=folder), pieces()))  # those before the error stay
    except InputError as error:
        return found, str(error)
    raise AssertionError("the bad piece was no error")


def alone(folder: Path, number: int, others: int) -> list[int]:
    """Begins once all GPUs are held by tasks like this one."""
    (folder / f"task-{number}").touch()
    until(lambda: len(list(folder.glob("task-*"))) == others)
    ray_share.WORTH_SECONDS = 0.0
    return list(ray_share.gpu_share(partial(noted, folder=folder), range(8)))


@pytest.mark.long
def test_pieces_spread_over_the_gpus_that_are_free(tmp_path: Path) -> None:
    """One of the nodes dies meanwhile; an error of a piece is raised in its place; at the end all GPUs are free."""
    folder = tmp_path / "pieces"
    folder.mkdir()

    def by() -> Counter[str]:
        return Counter(path.name.partition(".")[0] for path in folder.glob("*.*"))

    with gpus(tmp_path) as (cluster, nodes):
        asked = ray.remote(coordinated).options(num_cpus=1, num_gpus=1, max_retries=0).remote(folder)
        until(lambda: set(by()) == set(nodes))
        (asking,) = folder.glob("asked-by-*")
        here = ray.get_runtime_context().get_node_id()  # any of them: Ray takes the first that it finds
        others = [name for name in nodes if name != asking.name.removeprefix("asked-by-")]
        kept, lost = sorted(others, key=here.__ne__)
        kill(cluster, nodes[lost])
        before = by()[kept]
        until(lambda: by()[kept] > before + 3)
        (folder / "stop").touch()
        found, error = ray.get(asked, timeout=SECONDS)
        assert found == [number * number for number in range(len(found))]
        assert error == "a bad piece"
        until(lambda: ray.available_resources().get("GPU") == 2.0)
        alone_there = ray.remote(alone).options(num_cpus=1, num_gpus=1, max_retries=0)
        assert (
            ray.get([alone_there.remote(tmp_path, number, 2) for number in range(2)], timeout=SECONDS)
            == [found[:8]] * 2
        )


def built_there(model: Path, out: Path, cache: Path) -> tuple[Receipt, list[bytes]]:
    ray_share.WORTH_SECONDS = 1.0
    return built(job(model, out, cache, 20), ray_share.gpu_share)


def test_a_dataset_in_pieces_has_the_bytes_of_one_that_is_whole(tmp_path: Path) -> None:
    model = save_t5(tmp_path / "model", unigram_tokenizer())
    with gpus(tmp_path, 2):
        task = ray.remote(built_there).options(num_cpus=1, num_gpus=1, max_retries=0)
        there = ray.get(task.remote(model, tmp_path / "pieces", tmp_path / "one"), timeout=SECONDS)
    assert there == built(job(model, tmp_path / "whole", tmp_path / "other"))

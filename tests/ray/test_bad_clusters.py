"""What can be wrong with a cluster is one clear error before any work, and nothing is written."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from medi_build.errors import MediError, OptionError, WorkerError
from medi_build.pipeline.executor import cluster as clusters
from medi_build.pipeline.executor.cluster import connected
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.ray.clusters import STORE_BYTES, environment, started
from tests.ray.conftest import SOURCES

pytestmark = pytest.mark.slow


def refused(tmp_path: Path, error: type[MediError], message: str, **options: Any) -> None:
    with pytest.raises(error, match=message):
        build(BuildOptions(tmp_path / "out", sources=(SOURCES,), cache=tmp_path / "cache", **options))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def port() -> Iterator[int]:
    """Where something listens that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_nothing_answers(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path, WorkerError, "127.0.0.1:9: nothing answers there", executor="ray", address="127.0.0.1:9")
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 2)
    address = f"127.0.0.1:{port}"
    refused(tmp_path, WorkerError, f"{address}: something answers there, but no Ray", executor="ray", address=address)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # left over from an earlier cluster
    refused(tmp_path, WorkerError, "127.0.0.1:9: nothing answers there", executor="ray", address="auto")


def test_no_cluster_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(clusters, "CURRENT", tmp_path / "none")
    refused(tmp_path, WorkerError, "no Ray cluster runs on this machine", executor="ray", address="auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "ray", "address": "ray://head:10001"}, "has to run on a node of the cluster"),
        ({"executor": "ray", "address": "head:port"}, "has to be auto or HOST:PORT"),
        ({"executor": "ray", "jobs": 2}, "each CPU or GPU of the cluster"),
        ({"address": "auto"}, "only --executor ray uses"),
    ],
)
def test_options_that_contradict(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    refused(tmp_path, OptionError, message, **options)


def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(tmp_path, OptionError, r"pip install 'medi-build\[ray\]'", executor="ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started() as cluster:
        yield cluster


def test_a_gpu_that_no_node_has(tmp_path: Path, cluster: Cluster) -> None:
    refused(tmp_path, OptionError, "no node of the Ray cluster has a GPU", executor="ray", address=cluster.address,
            device="cuda")  # fmt: skip


def test_a_worker_with_another_version_or_without_the_package(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers find what the driver has in its own folder
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 240)  # a busy machine takes long to start a process
    old = tmp_path / "old" / "medi_build-0.0.1.dist-info"
    old.mkdir(parents=True)
    metadata = distribution("medi-build").read_text("METADATA") or ""
    (old / "METADATA").write_text(metadata.replace(f"Version: {distribution('medi-build').version}", "Version: 0.0.1"))
    absent = tmp_path / "absent" / "medi_build"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'medi_build'\")")
    for folder, message in ((old, "medi-build is 0.0.1, .* here"), (absent, "medi-build is not installed")):
        path = f"{folder.parent}:{environment()['PYTHONPATH']}"
        node = cluster.add_node(
            num_cpus=1, object_store_memory=STORE_BYTES, env_vars={**environment(), "PYTHONPATH": path}
        )
        refused(tmp_path, WorkerError, message, executor="ray", address=cluster.address)
        cluster.remove_node(node)


@pytest.mark.long
def test_a_cluster_that_asks_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 240)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=1",
         f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not clusters.reachable(f"127.0.0.1:{port}"):
            assert head.poll() is None
            time.sleep(0.2)
        refused(tmp_path, WorkerError, "asks for a token", executor="ray", address=f"127.0.0.1:{port}")
    finally:
        head.terminate()
        head.wait(60)


def test_a_cluster_that_was_started_ends_with_the_build() -> None:
    import ray

    with connected(None) as one:
        assert one.cpus >= 1
        address = one.address
    assert not ray.is_initialized()
    assert not clusters.reachable(address)

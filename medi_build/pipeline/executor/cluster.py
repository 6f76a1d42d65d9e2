"""A Ray cluster: connected to or started, looked over before any work, left again."""

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from medi_build.content.pipelines import Pipeline
from medi_build.dataset.manifest import VECTOR_LIBRARIES, WRITER_LIBRARIES
from medi_build.devices import cores
from medi_build.errors import OptionError, WorkerError
from medi_build.pipeline.fingerprint import STAGE_VERSIONS

ANSWER_SECONDS = 40
"""A cluster that has not answered by then, and a node that has not run a task of a second, are given up."""
DEFAULT_PORT = 6379
CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where ``ray start`` writes the address that ``auto`` stands for."""
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); ray.shutdown()"
_INSTALL = "pip install 'medi-build[ray]'"


class Cluster(NamedTuple):
    """What there is to work with.

    Attributes:
        nodes: ids of those that live and have a CPU.
        here: id of the driver's own.
        cpus, gpus: of all nodes.
        address: of its head.
    """

    nodes: tuple[str, ...]
    here: str
    cpus: int
    gpus: int
    address: str


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine; left, and stopped if it was started, at the end.

    Args:
        address: ``auto`` or ``HOST:PORT``; None to start one on this machine.

    Raises:
        OptionError: Ray is not installed, or the address is none.
        WorkerError: no cluster answers there.
    """
    lost: list[str] = []
    atexit.register(_leave, lost)  # runs after what Ray registers
    try:
        import ray
    except ImportError as error:
        raise OptionError(f"--executor ray needs Ray, which is not installed: {_INSTALL}") from error
    found = None if address is None else _resolved(address)
    if found is not None:
        _check_answers(found)
    with _own_signals():
        try:
            context = ray.init(
                address=found or "local",  # never what RAY_ADDRESS or a file of an earlier cluster say
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **({} if found else {"num_cpus": cores(), "include_dashboard": False}),
            )
        except Exception as error:  # what Ray raises is not listed anywhere
            raise WorkerError(
                f"Ray: no cluster at {found or 'this machine'} ({type(error).__name__}: {error})"
            ) from error
    gcs = context.address_info["gcs_address"]
    try:
        with _quiet():
            yield _looked_at(ray, gcs)
    finally:
        if reachable(gcs):
            with _own_signals():
                ray.shutdown()
        else:  # nobody is there to take leave of: Ray would wait for a minute and then end this process
            atexit.unregister(ray.shutdown)
            lost.append(gcs)


def _leave(lost: list[str]) -> None:
    """End this process where a cluster was lost: what Ray has left in it breaks when it is taken down."""
    if lost:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Ray prints of nodes that die, a screen for each; what matters of it we say ourselves."""
    try:
        from ray._private import worker
    except ImportError:
        yield
        return
    before = getattr(worker, "_worker_logs_enabled", True)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, in whose place Ray puts its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _resolved(address: str) -> str:
    """``HOST:PORT`` of an address."""
    where = address
    if address.startswith("ray://"):
        raise OptionError(
            f"--address {address}: a build has to run on a node of the cluster, whose disk and network it uses; start "
            "it there (`ray job submit -- medi build ... --executor ray --address auto`)"
        )
    if address == "auto":
        with suppress(OSError):
            where = os.environ.get("RAY_ADDRESS") or CURRENT.read_text(encoding="utf-8").strip()
        if where == "auto":
            raise WorkerError(
                "--address auto: no Ray cluster runs on this machine (neither RAY_ADDRESS nor "
                f"{CURRENT} names one); start it with `ray start`, name HOST:PORT, or leave --address out for Ray on "
                "this machine alone"
            )
    host, _, port = where.rpartition(":")
    if not host and not port.isdecimal():
        host, port = port, str(DEFAULT_PORT)
    if not host or not port.isdecimal():
        raise OptionError(f"--address {address}: has to be auto or HOST:PORT, such as 10.0.0.1:{DEFAULT_PORT}")
    return f"{host}:{port}"


def _check_answers(address: str) -> None:
    """Raise `WorkerError` unless a Ray cluster answers.

    Ray itself waits for minutes, and may end the process; so another process asks first.
    """
    if not reachable(address):
        raise WorkerError(
            f"--address {address}: nothing answers there (a cluster that has ended, or a firewall); look with "
            f"`ray status --address {address}`, or start one with `ray start --head`"
        )
    asked = subprocess.Popen(
        [sys.executable, "-c", _PROBE, address], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, told = asked.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        told = f"no answer within {ANSWER_SECONDS} s\n"
    finally:
        asked.kill()
        asked.wait()
    if asked.returncode and "InvalidAuthToken" in told:
        raise WorkerError(
            f"--address {address}: the Ray cluster there asks for a token that this process has not; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as where its head was started"
        )
    if asked.returncode:
        last = (told.strip().splitlines() or ["it ended without a word"])[-1]
        raise WorkerError(
            f"--address {address}: something answers there, but no Ray cluster that this machine belongs to, with the "
            f"same versions of Ray and Python ({last}); run `ray start --address {address}` here, or `ray status`"
        )


def reachable(address: str) -> bool:
    """Whether something listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _looked_at(ray: Any, address: str) -> Cluster:
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise WorkerError(f"Ray at {address}: no node has a CPU to work with; start nodes with `ray start --address`")
    total = ray.cluster_resources()
    return Cluster(
        tuple(node["NodeID"] for node in nodes),
        ray.get_runtime_context().get_node_id(),
        int(total.get("CPU", 0)),
        int(total.get("GPU", 0)),
        address,
    )


def use_gpus(cluster: Cluster, device: str | None) -> bool:
    """Whether datasets are built on GPUs. Raises `OptionError` for a device that no node has."""
    if device not in (None, "cpu", "cuda"):
        raise OptionError(f"--device {device}: with --executor ray it has to be cpu or cuda; Ray deals out the GPUs")
    if device == "cuda" and not cluster.gpus:
        raise OptionError(
            f"--device cuda: no node of the Ray cluster has a GPU ({len(cluster.nodes)} nodes, {cluster.cpus} CPUs); "
            "leave it out, or start nodes with `ray start --num-gpus`"
        )
    return cluster.gpus > 0 and device != "cpu"


def check_nodes(cluster: Cluster) -> None:
    """Raise `WorkerError` where a node has not what this build needs: this package and the same versions."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    names = (*WRITER_LIBRARIES, *VECTOR_LIBRARIES, "medi-build")
    look = ray.remote(_look())
    asked = {}
    for node in cluster.nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[look.options(num_cpus=0, max_retries=1, scheduling_strategy=there).remote(names)] = node
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    here = {"stages": str(STAGE_VERSIONS), **{name: version(name) for name in names}}
    faults = [f"{asked[one]}: runs no task" for one in silent]
    for one in answered:
        try:
            found = ray.get(one)
        except ray.exceptions.RayError as error:
            faults.append(f"{asked[one]}: {_first_line(error)}")
            continue
        faults += [
            f"{found['host']}: {name} is {found.get(name) or 'not installed'}, {value} here"
            for name, value in here.items()
            if found.get(name) != value
        ]
    if faults:
        raise WorkerError(
            "all nodes of a Ray cluster have to have the same medi-build and libraries, or records would differ:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nInstall the driver's versions on each node ({_INSTALL}), or put them into the image"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _look() -> Callable[[Sequence[str]], dict[str, str]]:
    """A function that can be sent to a node which has not this package: a local one is sent by value."""

    def look(names: Sequence[str]) -> dict[str, str]:
        import importlib.metadata
        import socket

        found = {"host": socket.gethostname()}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = ""
        try:
            from medi_build.pipeline.fingerprint import STAGE_VERSIONS

            found["stages"] = str(STAGE_VERSIONS)
        except ImportError as error:
            found["stages"] = found["medi-build"] = ""
            found["host"] += f" ({error})"
        return found

    return look


def encoders_there(cluster: Cluster, pipeline: Pipeline, cache: Path | None, gpus: bool) -> list[dict[str, Any]]:
    """What the pipeline's encoders are where datasets are built: on a GPU that the driver may not have."""
    import ray

    about = ray.remote(_about).options(num_cpus=1, num_gpus=int(gpus), max_retries=3)
    try:
        answer: list[dict[str, Any]] = ray.get(about.remote(pipeline, "cuda:0" if gpus else "cpu", cache))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return answer


def _about(pipeline: Pipeline, device: str, cache: Path | None) -> list[dict[str, Any]]:
    from medi_build.paths import cache_folder
    from medi_build.pipeline.unit import embedders

    return [one.encoder.about for one in embedders(pipeline, device, (cache or cache_folder()) / "vectors")]


def cancel(running: Iterable[Any]) -> None:
    """End all tasks that are not over, with what they have begun on their nodes.

    Ray 2.60 aborts this process where a task is cancelled whose answer is here and not yet taken down ("Tried to
    complete task that was not pending"), as that of a task which has just failed is.
    """
    import ray

    for task in running:
        with suppress(Exception):  # whatever Ray says of tasks and nodes that are gone
            answer = task.completed() if isinstance(task, ray.ObjectRefGenerator) else task
            if not ray.wait([answer], timeout=0.0)[0]:
                ray.cancel(task, force=True, recursive=True)

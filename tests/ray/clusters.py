"""Clusters of several nodes in this machine, and builds on them."""

import filecmp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from tests.conftest import ROOT

GATE = ROOT / "tests" / "ray" / "gate"
STORE_BYTES = 80_000_000
MISSED_SOON = {"health_check_period_ms": 1000, "health_check_failure_threshold": 4}
"""For clusters whose nodes die; elsewhere a node that is only slow should be waited for."""
SECONDS = 240
"""More than anything here takes on a machine that is busy with other things."""


@contextmanager
def started(cpus: int = 1, **system: object) -> Iterator[Cluster]:
    """A cluster of one node, the head, with further settings of Ray's own system."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": cpus,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_system_config": {"worker_niceness": 0, **system},  # as nice as others, which else leave them nothing
            "env_vars": environment(),
        },
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()


def environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def add_node(cluster: Cluster, cache: Path, gate: Path | None = None, at: str = "") -> Any:
    """A node with one CPU and a cache of its own; the first process that comes ``at`` a function waits at the gate."""
    more = gated(gate, at) if gate else {}
    return cluster.add_node(
        num_cpus=1, object_store_memory=STORE_BYTES, env_vars=environment(MEDI_CACHE=str(cache), **more)
    )


def gated(gate: Path, at: str) -> dict[str, str]:
    """The environment in which the first process that comes ``at`` a function waits."""
    return {"GATE": str(gate), "GATE_AT": at, "PYTHONPATH": f"{GATE}{os.pathsep}{ROOT}"}


def kill(cluster: Cluster, node: Any) -> None:
    """End all processes of a node as a power cut does."""
    for process in (one for ones in node.all_processes.values() for one in ones):
        process.process.send_signal(signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


class Building:
    """``medi build`` in a process of its own, and a group of its own as a shell makes one."""

    def __init__(self, out: Path, cache: Path, *arguments: object, **more: str) -> None:
        self.out, self._told = out, out.with_name(f"{out.name}.{time.time_ns()}.txt")
        command = [sys.executable, "-m", "medi_build", "build", "--no-report", "--out", str(out), *map(str, arguments)]
        out.parent.mkdir(parents=True, exist_ok=True)
        with self._told.open("w") as file:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment(MEDI_CACHE=str(cache), **more)},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def told(self) -> str:
        return self._told.read_text()

    def ended(self) -> int:
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something that happens while it runs."""
        end = time.monotonic() + SECONDS
        while not what():
            assert self.process.poll() is None, self.told
            assert time.monotonic() < end, self.told
            time.sleep(0.05)


def differing(one: Path, other: Path) -> list[str]:
    """Files of two built folders that are not the same, or in one of them only."""
    names = {path.relative_to(folder) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    same = filecmp.cmpfiles(one, other, [str(name) for name in names], shallow=False)[0]
    return sorted(str(name) for name in names if str(name) not in same)

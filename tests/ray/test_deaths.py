"""Nodes that die while they work, and the head of the cluster: what is built is what would have been built."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.ray.clusters import MISSED_SOON, Building, add_node, differing, gated, kill, started
from tests.ray.conftest import SOURCES

pytestmark = pytest.mark.slow
STAGES = {
    "adapting": "medi_build.ingest.adapt:keep_whole_queries",
    "encoding": "medi_build.encode.store:VectorStore.put",
    "mining": "medi_build.search.dense:exact_topk",
    "writing": "medi_build.dataset.shards:entry",
}
"""Where a node is ended: the function that begins then."""
ON_RAY = ("--sources", SOURCES, "--executor", "ray", "--address")


@pytest.mark.long
def test_nodes_that_die_in_every_stage_change_nothing(tmp_path: Path, local: Path) -> None:
    with started(cpus=0, **MISSED_SOON) as cluster:
        gates = {stage: tmp_path / stage for stage in STAGES}
        nodes = {
            stage: add_node(cluster, tmp_path / f"cache-{stage}", gates[stage], at) for stage, at in STAGES.items()
        }
        run = Building(tmp_path / "out", tmp_path / "cache", *ON_RAY, cluster.address)
        for stage, node in nodes.items():
            run.until(gates[stage].exists)
            kill(cluster, node)
        add_node(cluster, tmp_path / "cache-last")
        assert run.ended() == 0, run.told
    assert run.told.count("its worker died") == len(STAGES)
    assert differing(run.out, local) == []
    assert list((tmp_path / "cache-last" / "ray" / "attempts").iterdir()) == []


@pytest.mark.long
def test_after_the_head_died_the_same_command_goes_on(tmp_path: Path, local: Path) -> None:
    receipts, gate = tmp_path / "out" / ".medi" / "receipts", tmp_path / "gate"
    with started(**MISSED_SOON) as cluster:
        add_node(cluster, tmp_path / "cache-1", gate, STAGES["encoding"])
        run = Building(tmp_path / "out", tmp_path / "cache", *ON_RAY, cluster.address)
        run.until(lambda: gate.exists() and any(receipts.glob("*.json")))
        kill(cluster, cluster.head_node)
        assert run.ended() == 1
        assert "run the same command" in " ".join(run.told.split())
        assert "Traceback" not in run.told
    finished = {path: path.stat().st_mtime_ns for path in receipts.iterdir()}
    assert 0 < len(finished) < 6
    with started(**MISSED_SOON) as cluster:
        run = Building(tmp_path / "out", tmp_path / "cache", *ON_RAY, cluster.address)
        assert run.ended() == 0, run.told
    assert run.told.count("already built") == len(finished)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert differing(run.out, local) == []


@pytest.mark.long
def test_a_driver_that_is_told_to_stop_leaves_nobody_at_work(tmp_path: Path) -> None:
    """The worker waits at a gate that nobody opens; it is gone with the driver, and the cluster is still there.

    By SIGTERM, for which Ray has a handler of its own.
    """
    with started(cpus=0, **MISSED_SOON) as cluster:
        gate = tmp_path / "gate"
        add_node(cluster, tmp_path / "cache-1", gate, STAGES["encoding"])
        run = Building(tmp_path / "out", tmp_path / "cache", *ON_RAY, cluster.address)
        run.until(gate.exists)
        (worker,) = (one for one in psutil.process_iter() if holds(one, gate))
        run.process.terminate()
        assert run.ended() == 128 + signal.SIGTERM
        worker.wait(60)
        assert "stopped by SIGTERM" in run.told
        assert not (run.out / "manifest.json").exists()
        assert list((run.out / ".medi").rglob("*.tmp")) == []
        assert cluster.remaining_processes_alive()


@pytest.mark.long
def test_ctrl_c_ends_a_ray_of_the_build_s_own_and_the_same_command_goes_on(tmp_path: Path, local: Path) -> None:
    """As a terminal does it: the signal goes to the build and to all that it started, Ray's own processes too."""
    gate, here = tmp_path / "gate", ("--sources", SOURCES, "--executor", "ray")
    run = Building(tmp_path / "out", tmp_path / "cache", *here, **gated(gate, STAGES["encoding"]))
    run.until(gate.exists)
    started_by_it = psutil.Process(run.process.pid).children(recursive=True)
    assert any(holds(one, gate) for one in started_by_it)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.ended() == 128 + signal.SIGINT
    assert run.told.splitlines()[-1].startswith("stopped by SIGINT; what is finished is kept")
    assert "Traceback" not in run.told
    assert psutil.wait_procs(started_by_it, timeout=60)[1] == []
    assert not (run.out / "manifest.json").exists()
    receipts = len(list((run.out / ".medi").glob("receipts/*.json")))
    kept = {path for path in run.out.rglob("*") if path.is_file() and path.name != "lock"}
    assert len(kept) == 3 * receipts, "of each that is finished a shard, a fragment and a receipt"
    again = Building(tmp_path / "out", tmp_path / "cache", *here)
    assert again.ended() == 0, again.told
    assert again.told.count("already built") == receipts
    assert differing(again.out, local) == []


def holds(process: psutil.Process, gate: Path) -> bool:
    """Whether a process is one that runs tasks on the node with this gate."""
    try:
        return process.environ().get("GATE") == str(gate) and process.name().startswith("ray::_task")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False

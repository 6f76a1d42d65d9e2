"""Nodes that die while they work, and the head of the cluster: what is built is what would have been built."""

from pathlib import Path

import pytest

from tests.ray.clusters import Building, add_node, differing, kill, started
from tests.ray.conftest import SOURCES

pytestmark = pytest.mark.slow
STAGES = {
    "adapting": "medi_build.ingest.adapt:keep_whole_queries",
    "encoding": "medi_build.encode.store:VectorStore.put",
    "mining": "medi_build.search.dense:topk",
    "writing": "medi_build.dataset.shards:entry",
}
"""Where a node is ended: the function that begins then."""


def test_nodes_that_die_in_every_stage_change_nothing(tmp_path: Path, local: Path) -> None:
    with started(cpus=0) as cluster:
        gates = {stage: tmp_path / stage for stage in STAGES}
        nodes = {
            stage: add_node(cluster, tmp_path / f"cache-{stage}", gates[stage], at) for stage, at in STAGES.items()
        }
        run = Building(
            tmp_path / "out",
            tmp_path / "cache",
            "--sources",
            SOURCES,
            "--executor",
            "ray",
            "--address",
            cluster.address,
        )
        for stage, node in nodes.items():
            run.until(gates[stage].exists)
            kill(cluster, node)
        add_node(cluster, tmp_path / "cache-last")
        assert run.ended() == 0, run.told
    assert run.told.count("its worker died") == len(STAGES)
    assert differing(run.out, local) == []
    assert list((tmp_path / "cache-last" / "ray" / "attempts").iterdir()) == []


def test_after_the_head_died_the_same_command_goes_on(tmp_path: Path, local: Path) -> None:
    receipts, gate = tmp_path / "out" / ".medi" / "receipts", tmp_path / "gate"
    options = ("--sources", SOURCES, "--executor", "ray", "--address")
    with started() as cluster:
        add_node(cluster, tmp_path / "cache-1", gate, STAGES["encoding"])
        run = Building(tmp_path / "out", tmp_path / "cache", *options, cluster.address)
        run.until(lambda: gate.exists() and any(receipts.glob("*.json")))
        kill(cluster, cluster.head_node)
        assert run.ended() == 1
        assert "run the same command" in " ".join(run.told.split())
        assert "Traceback" not in run.told
    finished = {path: path.stat().st_mtime_ns for path in receipts.iterdir()}
    assert 0 < len(finished) < 6
    with started() as cluster:
        run = Building(tmp_path / "out", tmp_path / "cache", *options, cluster.address)
        assert run.ended() == 0, run.told
    assert run.told.count("already built") == len(finished)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert differing(run.out, local) == []

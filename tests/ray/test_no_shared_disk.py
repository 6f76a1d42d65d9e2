"""A worker that sees nothing of the driver's disk: its files come from S3 or are brought, its results are handed back.

The dataset is split there, too, into pieces that are tasks of their own.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
import xxhash
from ray.cluster_utils import Cluster

from medi_build.files import file_digest
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.bad_input.team import Team
from tests.loopback_s3 import KEYS, moto_server
from tests.ray.clusters import STORE_BYTES, Building, differing, environment, started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
        reason="only root may hide a folder from a process",
    ),
]


@contextmanager
def node_without(hidden: Path, cluster: Cluster, cache: Path) -> Iterator[None]:
    """A node that has an empty folder in place of one of the driver's."""
    start = (
        f"{sys.executable} -m ray.scripts.scripts start --block --address={cluster.address} --num-cpus=1 "
        f"--object-store-memory={STORE_BYTES}"
    )
    command = f"mount -t tmpfs none {hidden} && exec {start}"
    node = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", command],
        env={**os.environ, **environment(MEDI_CACHE=str(cache))},  # with the keys of S3
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while len(cluster.global_state.node_table()) < 2:
            assert node.poll() is None
            time.sleep(0.1)
        yield
    finally:
        node.terminate()
        node.wait(60)


def tied_rows(count: int) -> list[list[str]]:
    """Pairs; each positive of the first half stands in the second in capitals, which the encoder does not see.

    So to any query both are alike to the last bit, and in different parts of the candidates.
    """
    half = count // 2
    texts = [f"part {i} is number {xxhash.xxh32_intdigest(str(i).encode())}" for i in range(half)]
    return [
        *([f"what is part {i}", text] for i, text in enumerate(texts)),
        *([f"and which one is {i}", text.upper()] for i, text in enumerate(texts)),
    ]


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What an S3 was asked for."""
    log = tmp_path / "s3.txt"
    with moto_server(log) as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
            monkeypatch.setenv(name, value)
        yield log


@pytest.mark.long
def test_files_are_brought_and_results_handed_back(tmp_path: Path, requests: Path) -> None:
    """Raw rows from S3, enough for files of several hundred kB, ties across parts; texts of an evaluation stay out."""
    team = Team(tmp_path / "driver", tmp_path / "driver" / "cache")
    rows = tied_rows(3000)
    (team.folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    excluded = tmp_path / "driver" / "evaluation.txt"
    excluded.write_text("what is part 17\nwhat is part 170\n")
    options = {"sources": ("our_team/tickets",), "pipeline": "plain", "content": team.content}
    build(BuildOptions(tmp_path / "local", data=team.data, cache=team.cache, exclude_eval=(str(excluded),), **options))
    s3 = fsspec.filesystem("s3", skip_instance_cache=True)
    s3.mkdir("team")
    s3.put(f"{team.data}/", "team/raw/", recursive=True)
    with started(cpus=0) as cluster, node_without(tmp_path / "driver", cluster, tmp_path / "cache"):
        run = Building(
            tmp_path / "driver" / "out", team.cache, "--sources", "our_team/tickets", "--pipeline", "plain",
            "--content", team.content, "--data", "s3://team/raw", "--exclude-eval", excluded,
            "--executor", "ray", "--address", cluster.address, "--split-above", 1000,
        )  # fmt: skip
        assert run.ended() == 0, run.told
    assert differing(run.out, tmp_path / "local") == []
    assert requests.read_text().count('"GET /team/raw/our_team/t.jsonl') == 2, "the driver once and the worker once"
    brought = {path.name for path in (tmp_path / "cache" / "ray" / "files").iterdir() if path.name[0] != "."}
    assert file_digest(team.folder / "t.jsonl") in brought
    assert len(brought) > 1  # the index of evaluation texts
    assert list((tmp_path / "cache" / "ray" / "attempts").iterdir()) == []
    assert max(path.stat().st_size for path in (run.out / ".medi" / "json").iterdir()) > 200_000

"""How datasets spread over Ray workers of one core each, and what Ray costs for each dataset.

The work is simulated: a unit sleeps, as a core does while a GPU works, and writes a file. So this measures handing out,
bringing back and committing, not mining; several workers share this machine without sharing its cores. Each worker is a
node of its own in this machine. Rounds are interleaved, figures are medians.

    OMP_NUM_THREADS=1 python benchmarks/ray_scaling.py --rounds 3
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ray.cluster_utils import Cluster

from medi_build.dataset.receipt import Basis, Receipt
from medi_build.dataset.shards import fragment_path, shard_path
from medi_build.files import write_bytes
from medi_build.pipeline import fingerprint
from medi_build.pipeline.executor.base import Executor
from medi_build.pipeline.executor.cluster import connected
from medi_build.pipeline.executor.local import LocalExecutor
from medi_build.pipeline.executor.ray import RayExecutor
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import inputs_of
from medi_build.pipeline.prepare import prepare
from medi_build.pipeline.unit import UnitJob, opened_embedders
from medi_build.progress import Silent

STORE_BYTES = 80_000_000


def simulated(job: UnitJob, seconds: float, size: int, share: object = None) -> Receipt:
    """Sleep as long as a GPU would work, and write a shard."""
    time.sleep(seconds)
    out, task, name = job.out, job.unit.task_id, job.unit.card.name
    shard = write_bytes(shard_path(out, task, name, 0), os.urandom(size), out, rows=1)
    fragment = write_bytes(fragment_path(out, task), b"{}", out, rows=1)
    return Receipt(
        basis=job.basis, dataset=name, task_id=task, kind="pairs", licence=job.unit.card.licence, instructions=[],
        shards=[shard], fragment=fragment, ledger={},
    )  # fmt: skip


def jobs_of(count: int, folder: Path) -> list[UnitJob]:
    """Copies of one small dataset under their own task ids."""
    options = BuildOptions(folder / "out", ("embedding_training_data/sample_faq",), cache=folder / "cache")
    plan = prepare(options).plan
    (unit,) = plan.units
    with opened_embedders() as opened:
        abouts = [one.encoder.about for one in opened(plan.pipeline, "cpu", folder / "cache" / "vectors")]
    common = fingerprint.basis_of_build(plan.pipeline, abouts, 1)
    inputs = inputs_of(unit, folder / "cache" / "indexes")
    basis = Basis(build=common, dataset=fingerprint.basis_of_dataset(unit, inputs))
    work = options.out / ".medi" / "work"
    work.mkdir(parents=True)
    job = UnitJob(unit, inputs, plan.pipeline, basis, options.out, work, folder / "cache" / "vectors", device="cpu")
    return [replace(job, unit=replace(unit, task_id=number)) for number in range(count)]


@contextmanager
def on_ray(workers: int, folder: Path) -> Iterator[RayExecutor]:
    """An executor over nodes of one core each, whose processes have started."""
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(workers):
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    try:
        with connected(cluster.address) as there:
            yield RayExecutor(there, False, folder / "cache", lambda path: "", Silent())
    finally:
        cluster.shutdown()


def timed(executor: Executor, jobs: list[UnitJob], seconds: float, size: int) -> float:
    begin = time.perf_counter()
    with closing(executor.map(partial(simulated, seconds=seconds, size=size), jobs, len(jobs))) as results:
        assert len(list(results)) == len(jobs)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a unit sleeps")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of a unit's shard")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    slept: dict[int, list[float]] = {workers: [] for workers in arguments.workers}
    empty: dict[str, list[float]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_of(arguments.units, Path(folder))
        for _ in range(arguments.rounds):
            empty["local"].append(timed(LocalExecutor(1), jobs, 0.0, arguments.size))
            for workers in arguments.workers:
                with on_ray(workers, Path(folder)) as executor:
                    timed(executor, jobs[: 2 * workers], 1.0, arguments.size)  # processes start, libraries are loaded
                    slept[workers].append(timed(executor, jobs, arguments.seconds, arguments.size))
                    if workers == 1:
                        empty["ray"].append(timed(executor, jobs, 0.0, arguments.size))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; a simulated device: units that sleep")
    print(f"{arguments.units} units of {arguments.seconds} s and {arguments.size:,} bytes, {arguments.rounds} rounds")
    one = statistics.median(slept[arguments.workers[0]])
    for workers, seconds in slept.items():
        took = statistics.median(seconds)
        ideal = arguments.units * arguments.seconds / workers
        print(
            f"{workers} workers: {took:6.1f} s, {one / took:4.2f} x the first, {ideal / took:4.0%} of what they slept"
        )
    if empty["ray"]:
        local, ray = (statistics.median(empty[name]) / arguments.units for name in ("local", "ray"))
        print(f"a unit that does not sleep: {local * 1e3:.0f} ms here, {ray * 1e3:.0f} ms by Ray")


if __name__ == "__main__":
    main()

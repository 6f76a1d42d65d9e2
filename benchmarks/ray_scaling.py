"""How datasets spread over Ray workers of one core each, and what Ray costs for each dataset.

The work is simulated: a unit sleeps, as a core does while a GPU works, and writes a file. So this measures handing out,
bringing back and committing, not mining; several workers share this machine without sharing its cores. Each worker is a
node of its own in this machine; nodes are added to one cluster, as starting them is what takes long. In each round come
units that sleep and units that do not, here and by Ray. Figures are medians.

    OMP_NUM_THREADS=1 python benchmarks/ray_scaling.py --rounds 3
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from contextlib import closing
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


def rounds_on_ray(cluster: Cluster, jobs: list[UnitJob], given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of all units in each round, sleeping and not, here and on the nodes that there are."""
    found: dict[str, list[float]] = {"here": [], "here, empty": [], "ray": [], "ray, empty": []}
    with connected(cluster.address) as there:
        on_ray = RayExecutor(there, False, given.folder / "cache", lambda path: "", Silent())
        timed(on_ray, jobs[: 2 * there.cpus], 1.0, given.size)  # processes start, libraries are loaded
        for _ in range(given.rounds):
            found["ray"].append(timed(on_ray, jobs, given.seconds, given.size))
            found["ray, empty"].append(timed(on_ray, jobs, 0.0, given.size))
            found["here, empty"].append(timed(LocalExecutor(1), jobs, 0.0, given.size))
            if there.cpus == min(given.workers):
                found["here"].append(timed(LocalExecutor(1), jobs, given.seconds, given.size))
    return found


def timed(executor: Executor, jobs: list[UnitJob], seconds: float, size: int) -> float:
    begin = time.perf_counter()
    with closing(executor.map(partial(simulated, seconds=seconds, size=size), jobs, len(jobs))) as results:
        assert len(list(results)) == len(jobs)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a unit sleeps")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of a unit's shard")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; a simulated device: units that sleep")
    print(f"{given.units} units of {given.seconds} s and {given.size:,} bytes, {given.rounds} rounds")
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        with tempfile.TemporaryDirectory() as folder:
            given.folder, here = Path(folder), 0.0
            jobs, nodes = jobs_of(given.units, given.folder), 0
            for workers in sorted(given.workers):
                for _ in range(workers - nodes):
                    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
                nodes = workers
                took = {
                    name: statistics.median(ones) for name, ones in rounds_on_ray(cluster, jobs, given).items() if ones
                }
                here, ideal = took.get("here", here), given.units * given.seconds / workers
                empty = {name: took[f"{name}, empty"] / given.units * 1e3 for name in ("here", "ray")}
                print(
                    f"{workers} workers: {took['ray']:5.1f} s, ideal {ideal:5.1f} s ({ideal / took['ray']:.0%}), "
                    f"this process alone {here:5.1f} s ({here / took['ray']:.2f} x); a unit that does not sleep: "
                    f"{empty['ray']:.0f} ms by Ray, {empty['here']:.0f} ms here",
                    flush=True,
                )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()

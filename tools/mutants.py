"""Does a test notice a fault? `make mutants` puts small faults into mining, search and the batch planner, one by one.

A seeded sample of the faults that `tools.mutation` knows is drawn, some from every file. Each is compiled in memory, in
a forked process that has torch and the like imported already, and the tests of that file run until one fails; the
working tree is never touched. Results are lines of JSON, and the command goes on where it was: what was killed stays
so, what survived is run again once its tests have changed. First come the faults of `tests/planted_faults.py`, each of
which has to be noticed. Survivors are told with the reason that `tests/surviving_mutants.tsv` gives for them.
"""

import argparse
import ast
import csv
import hashlib
import importlib
import importlib.machinery
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from tools.mutation import Mutant, mutants, mutated

ROOT = Path(__file__).resolve().parent.parent
MINE = ("tests/mine", "tests/search/test_fusion.py", "tests/search/test_devices.py")
DENSE = (
    "tests/search/test_dense_lists.py",
    "tests/search/test_dense.py",
    "tests/search/test_devices.py",
    "tests/mine/test_false_negatives.py",
)
CUDA = (*DENSE, "tests/search/test_gpu.py")
PLANNER = (
    "tests/train/test_conflicts.py",
    "tests/train/test_plan.py",
    "tests/train/test_planned_batches.py",
    "tests/train/test_data.py",
)
TESTS = {
    "medi_build/mine/result.py": (*MINE, "tests/pipeline/test_mine_output.py"),
    "medi_build/mine/*.py": MINE,
    "medi_build/search/dense_cuda.py": CUDA,
    "medi_build/search/fixed_lists.py": CUDA,
    "medi_build/search/settle.py": CUDA,
    "medi_build/search/transfer.py": CUDA,
    "medi_build/search/dense*.py": DENSE,
    "medi_build/search/parts.py": ("tests/search/test_parts.py", *DENSE),
    "medi_build/search/bm25.py": ("tests/search/test_bm25.py", "tests/mine/test_filters.py"),
    "medi_build/search/bm25_steps.py": ("tests/search/test_bm25.py",),
    "medi_build/search/sparse_add.py": ("tests/search/test_bm25.py",),
    "medi_build/search/fusion.py": ("tests/search/test_fusion.py",),
    "medi_build/search/exclusions.py": ("tests/search", "tests/mine/test_paper.py"),
    "medi_build/search/ranking.py": ("tests/search",),
    "medi_build/train/batches.py": PLANNER,
    "medi_build/train/conflicts.py": PLANNER,
    "medi_build/train/plan.py": PLANNER,
    "medi_build/train/keys.py": PLANNER,
}
"""Files and the tests that cover them, those first that fail soonest."""
LIBRARIES = [
    *("numpy", "polars", "pyarrow.compute", "pyarrow.parquet", "scipy.optimize", "scipy.sparse", "torch", "pydantic"),
    *("hypothesis", "pytest", "sentence_transformers", "transformers", "xxhash", "rank_bm25", "orjson"),
]
FEWEST = 3
"""Mutants of each file, if it has so many; the others are shared out by size."""
MEMORY = 16 << 30
FAILED, PASSED = 1, 0


class Job(NamedTuple):
    """A module with a fault in it, and the tests that should notice."""

    key: str
    path: str
    what: str
    code: Callable[[], ast.Module]
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """Whether a fault was noticed: "killed", "survived" or "timeout", by which test, after how much time of the CPU."""

    outcome: str
    by: str
    seconds: float


def main() -> None:
    """Run what has not been run, and tell the score and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="how many mutants")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "mutants.jsonl")
    parser.add_argument("--only", default="", help="run only files whose path contains this")
    options = parser.parse_args()
    os.chdir(ROOT)
    sample = [mutant for mutant in drawn(options.sample, options.seed) if options.only in mutant.path]
    jobs = [*planted(options.only), *map(job, sample)]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    known = read(options.results)
    todo = [one for one in jobs if not is_settled(known.get(one.key), one.tests)]
    print(f"{len(jobs)} faults, {len(todo)} to run")
    for name in LIBRARIES:
        importlib.import_module(name)
    limits = {tests: limit(tests) for tests in sorted({one.tests for one in todo})}
    with options.results.open("a") as results:
        for count, (one, outcome) in enumerate(run_all(todo, limits, options.jobs), 1):
            line = {"key": one.key, "path": one.path, "what": one.what, "tests": digest(one.tests), **outcome._asdict()}
            results.write(json.dumps(line) + "\n")
            results.flush()
            print(
                f"{count}/{len(todo)} {outcome.outcome:8} {outcome.seconds:5.1f} s  {one.path}: {one.what}", flush=True
            )
    tell(jobs, read(options.results))


def drawn(size: int, seed: int) -> list[Mutant]:
    """The sample: of each file those with the lowest seeded hashes, by its size, but at least `FEWEST`."""
    found: list[list[Mutant]] = []
    for path in sorted({path for pattern in TESTS for path in ROOT.glob(pattern)}):
        every = mutants(str(path.relative_to(ROOT)), path.read_text())
        found.append(sorted(every, key=lambda one: hashlib.sha256(f"{seed} {one.key}".encode()).digest()))
    whole = sum(map(len, found))
    fewest = sum(min(FEWEST, len(every)) for every in found)
    shares = [min(FEWEST, len(every)) + (size - fewest) * len(every) / whole for every in found]
    sample = [mutant for every, share in zip(found, shares, strict=True) for mutant in every[: max(0, round(share))]]
    return sorted(sample)  # by key, so that a part of the run is a sample as well


def job(mutant: Mutant) -> Job:
    """A mutant as something to run."""
    source = (ROOT / mutant.path).read_text()
    what = f"{mutant.function or 'module'}: {mutant.before} -> {mutant.after}"
    return Job(mutant.key, mutant.path, what, lambda: mutated(source, mutant), covering(mutant.path))


def planted(only: str) -> Iterator[Job]:
    """The faults of `tests/planted_faults.py`."""
    from tests.planted_faults import FAULTS

    for name, (path, before, after) in FAULTS.items():
        source = (ROOT / path).read_text()
        assert source.count(before) == 1, f"{name}: {path} has {source.count(before)} times {before!r}"
        code = source.replace(before, after)
        key = hashlib.sha256(code.encode()).hexdigest()[:16]
        if only in path:
            yield Job(key, path, f"planted: {name}", lambda code=code: ast.parse(code), covering(path))


def covering(path: str) -> tuple[str, ...]:
    """The tests that cover a file."""
    return next(tests for pattern, tests in TESTS.items() if Path(path).match(pattern))


def digest(tests: Iterable[str]) -> str:
    """Of the text of some tests."""
    files = sorted(
        file for name in tests for file in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("*.py"))
    )
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def is_settled(line: dict[str, Any] | None, tests: tuple[str, ...]) -> bool:
    """Whether a fault needs no further run."""
    return line is not None and (line["outcome"] != "survived" or line["tests"] == digest(tests))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The last result of each fault."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["key"]: line for line in lines}


def limit(tests: tuple[str, ...]) -> int:
    """Seconds of the CPU after which a run is given up, from one without a fault.

    Raises:
        SystemExit: the tests fail without a fault.
    """
    (_, outcome) = next(run_all([Job("", "", "", lambda: ast.Module([], []), tests)], {tests: 600}, 1))
    if outcome.outcome != "survived":
        raise SystemExit(f"{' '.join(tests)}: {outcome.outcome} without a fault, by {outcome.by}")
    return 20 + 3 * round(outcome.seconds)


def run_all(jobs: Iterable[Job], limits: dict[tuple[str, ...], int], at_once: int) -> Iterator[tuple[Job, Outcome]]:
    """Run the jobs, some at a time, each in a process of its own.

    Time is that of the CPU, which a busy machine does not change; ten times as long by the clock is a run that waits.
    """
    waiting, running = list(jobs)[::-1], dict[int, tuple[Job, float, int]]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                one, (reader, writer) = waiting.pop(), os.pipe()
                if not (process := os.fork()):
                    _in_child(one, writer, limits[one.tests])
                os.close(writer)
                running[process] = one, time.monotonic(), reader
            time.sleep(0.02)
            for process, (one, start, reader) in list(running.items()):
                late = time.monotonic() - start > 10 * limits[one.tests]
                if late:
                    os.killpg(process, signal.SIGKILL)
                ended, status, usage = os.wait4(process, 0 if late else os.WNOHANG)
                if ended:
                    del running[process]
                    with os.fdopen(reader) as by:
                        code = os.waitstatus_to_exitcode(status)
                        slow = late or code in (-signal.SIGXCPU, -signal.SIGKILL)
                        how = "survived" if code == PASSED else "timeout" if slow else "killed"
                        yield one, Outcome(how, by.read(), round(usage.ru_utime + usage.ru_stime, 1))
    finally:
        for process in running:
            os.killpg(process, signal.SIGKILL)


def _in_child(job: Job, writer: int, seconds: int) -> None:
    """Run the job's tests over the module with the fault, and end the process."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    status: int = FAILED
    try:
        import hypothesis
        import pytest

        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
        hypothesis.settings.load_profile("mutants")
        _put_in(job)
        quick = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = pytest.main([*quick, *job.tests], plugins=[_FirstFailure(writer)])
    finally:
        os._exit(status)


def _put_in(job: Job) -> None:
    """Let the import of the job's file give the module with the fault."""
    plain = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        if job.path and self.path == str(ROOT / job.path):
            return compile(job.code(), self.path, "exec")
        return plain(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


class _FirstFailure:
    """Writes the name of the test that failed."""

    def __init__(self, writer: int) -> None:
        self.writer = writer

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(self.writer, report.nodeid.encode())

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            os.write(self.writer, b"import")


def tell(jobs: list[Job], known: dict[str, dict[str, Any]]) -> None:
    """Print the score and the survivors."""
    for one in jobs:
        if one.what.startswith("planted") and one.key in known:
            print(f"{known[one.key]['outcome']:8} {one.what}  [{known[one.key]['by']}]")
    table = ROOT / "tests" / "surviving_mutants.tsv"
    reasons = {(row["path"], row["what"]): row["reason"] for row in csv.DictReader(table.open(), delimiter="\t")}
    sample = [one for one in jobs if one.key in known and not one.what.startswith("planted")]
    counts, of_file = Counter[str](), dict[str, Counter[str]]()
    for one in sample:
        outcome = known[one.key]["outcome"]
        counts[outcome] += 1
        of_file.setdefault(one.path, Counter())[outcome] += 1
        if outcome == "survived":
            print(f"{one.path}: {one.what}\n    {reasons.get((one.path, one.what), 'NO REASON GIVEN')}")
    for path, own in of_file.items():
        print(f"{own['killed'] + own['timeout']:4} of {own.total():4}  {path}")
    noticed = counts["killed"] + counts["timeout"]
    print(f"{noticed} of {counts.total()} mutants noticed ({noticed / max(1, counts.total()):.1%}), {dict(counts)}")


if __name__ == "__main__":
    sys.exit(main())

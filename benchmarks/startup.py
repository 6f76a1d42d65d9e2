"""How long commands take to answer, against the import of torch: medians of fresh processes, wall clock and CPU time.

The commands are measured in turns. ``show`` counts up to its first line; a build counts up to the start of its first
dataset, which includes the import of torch.

    OMP_NUM_THREADS=1 python benchmarks/startup.py --rounds 7
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medi_build import BuildOptions, build

FIRST_DATASET = """
import os, sys
from pathlib import Path
from medi_build import BuildOptions, build
from medi_build.progress import Silent

class Stop(Silent):
    def stage(self, dataset, stage):
        os._exit(0)

build(BuildOptions(out=Path(sys.argv[1]), cache=Path(sys.argv[2])), Stop())
"""
TORCH = "python -c 'import torch'"


def once(command: list[str], first_line: bool) -> tuple[float, float]:
    """Seconds until a command ended, or until it wrote its first line, and of the processor."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output = process.stdout.readline() if first_line else process.stdout.read()
        took = time.perf_counter() - start
        if first_line and output:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if not first_line and process.returncode:
            raise SystemExit(f"{command}: {process.stderr.read().decode()}")
    return took, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        built, cache = Path(folder) / "built", Path(folder) / "cache"
        build(BuildOptions(out=built, cache=cache))
        commands = {
            "python -c pass": ["-c", "pass"],
            TORCH: ["-c", "import torch"],
            "python -c 'import medi_build'": ["-c", "import medi_build"],
            "medi --help": ["-m", "medi_build", "--help"],
            "medi ls pipelines": ["-m", "medi_build", "ls", "pipelines"],
            "medi ls sources": ["-m", "medi_build", "ls", "sources"],
            "medi show medmcqa, first line": ["-m", "medi_build", "show", "medmcqa"],
            "medi verify DIR": ["-m", "medi_build", "verify", str(built)],
            "medi build, first dataset": ["-c", FIRST_DATASET, f"{folder}/out", f"{folder}/empty"],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                measured = once(command, first_line="first line" in name)
                if number:  # the first round brings the files into memory
                    times[name].append(measured)
    medians = {name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in times.items()}
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, median of {rounds}")
    print(f"{'':32} {'wall s':>8} {'of torch':>8} {'CPU s':>8} {'of torch':>8}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:32} {wall:8.2f} {wall / medians[TORCH][0]:8.2f} {cpu:8.2f} {cpu / medians[TORCH][1]:8.2f}")


if __name__ == "__main__":
    main()

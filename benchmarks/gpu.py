"""All that runs on a GPU, checked and timed by one command in under eight minutes.

    python benchmarks/gpu.py --json out/gpu.json [--parts peak,encode] [--small]

It needs torch 2.11 or later and transformers 5.17 or later; what needs more packages is skipped by name where they are
absent. Weights are random and tokens made up: nothing is downloaded. Each part runs in a process of its own and is
stopped where its budget ends; a line is printed, and the JSON file written, as soon as something is measured. A part
that fails is told with its error, and the others go on; the exit code is then 1. ``--small`` is the form that takes
seconds on a CPU: it shows that the code runs, its figures say nothing.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # this checkout, for the parts and for medi_build; not this folder, whose names are common ones

TOTAL = 470.0
"""Seconds for everything."""
PATIENCE = 20
"""Times as many in the small form, for a CPU that others use, too."""
Line = dict[str, Any]


class Part(NamedTuple):
    """A module of gpu_parts, and the seconds that it may take."""

    name: str
    budget: float


PARTS = (
    Part("peak", 20),
    Part("checks", 110),
    Part("encode", 130),
    Part("memory", 30),
    Part("search", 110),
    Part("training", 110),
)


def main() -> int:
    """Run the parts; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures are written, too")
    parser.add_argument("--parts", help=f"some of {','.join(part.name for part in PARTS)}")
    parser.add_argument("--small", action="store_true", help="seconds on a CPU; figures that say nothing")
    options = parser.parse_args()
    known = {part.name: part for part in PARTS}
    wanted = options.parts.split(",") if options.parts else list(known)
    if strangers := [name for name in wanted if name not in known]:
        parser.error(f"--parts: {strangers[0]!r} is none; there are {', '.join(known)}")
    device = _device()
    if device == "cpu" and not options.small:
        parser.error("no GPU is visible here; --small runs on the CPU, to show that everything runs")
    report: Line = {"about": _about(options.small), "lines": []}
    print(json.dumps(report["about"]), flush=True)
    patience = PATIENCE if options.small else 1
    end = time.monotonic() + patience * TOTAL
    for name in wanted:
        seconds = min(patience * known[name].budget, end - time.monotonic())
        for found in _lines(name, seconds, device, options.small):
            report["lines"].append({"part": name, **found})
            print(_told(report["lines"][-1]), flush=True)
            if options.json:
                _write(options.json, report)
    return int(any("error" in found for found in report["lines"]))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _about(small: bool) -> Line:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    packages = {}
    for name in ("torch", "transformers", "sentence-transformers", "triton", "faiss-cpu", "faiss-gpu", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"gpus": gpus, "cuda": torch.version.cuda, "python": platform.python_version(), **packages} | {
        "date": when,
        "small": small,
    }


def _lines(name: str, budget: float, device: str, small: bool) -> Iterator[Line]:
    """What a part measures, from a process of its own; what ends it too early is a line of its own."""
    begin = time.monotonic()
    context = _context(device)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(name, device, small, send))
    process.start()
    send.close()
    try:
        while receive.poll(max(0.0, begin + budget - time.monotonic())):
            yield receive.recv()
        yield {"what": "the rest", "error": f"stopped after {time.monotonic() - begin:.0f} s, its budget"}
        process.kill()
    except EOFError:  # its end
        process.join()
        if process.exitcode:
            yield {"what": "the rest", "error": f"its process died with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()
    yield {"what": "the whole part", "value": time.monotonic() - begin, "unit": "s"}


def _context(device: str) -> Any:
    """Processes that share nothing of CUDA with this one; on the CPU some that have the slow imports already."""
    if device == "cuda" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "benchmarks.gpu_parts.networks"])
    return context


def _run(name: str, device: str, small: bool, send: Connection) -> None:
    """A part, in its process."""
    try:
        for found in import_module(f"benchmarks.gpu_parts.{name}").run(device, small):
            send.send(found)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        ours = missing in ("benchmarks", "medi_build")
        said = f"no module {error.name}" if ours else f"{missing or error} is not installed"
        send.send({"what": "the rest", "error" if ours else "skipped": said})
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}"[:600]
        send.send({"what": "the rest", "error": said, "note": f"{Path(where.filename).name}:{where.lineno}"})


def _told(found: Line) -> str:
    """A line as it is printed."""
    head = f"{found['part']:9} {found['what']:58}"
    for name in ("error", "skipped"):
        if name in found:
            return f"{head} {name}: {found[name]}" + (f" ({found['note']})" if "note" in found else "")
    value = found["value"]
    said = value if isinstance(value, str) else f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    ratio = f"  {found['ratio']:.2f} of {found['to']}" if "ratio" in found else ""
    return f"{head} {said:>14} {found.get('unit', '')}{ratio}" + (f"  ({found['note']})" if "note" in found else "")


def _write(path: Path, report: Line) -> None:
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(report, indent=1), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())

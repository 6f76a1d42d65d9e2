"""Runs commands of ours in forked processes that have torch and the like imported already.

A line of JSON on standard input is a command: ``arguments``, ``environment`` to add, ``told`` (a file for what it
prints). Answers on standard output are two lines: the process id, which is that of its group, too, and the exit code
once it has ended.
"""

import gc
import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

HOOK = Path(__file__).resolve().parent / "hook" / "sitecustomize.py"
LIBRARIES = (
    "numpy", "polars", "pyarrow.parquet", "scipy.sparse", "torch", "pydantic", "typer", "rich", "datasets",
    "sentence_transformers", "sentence_transformers.sentence_transformer.trainer", "transformers", "matplotlib.figure",
    "medi_build.cli", "medi_build.pipeline.run", "medi_build.pipeline.unit", "medi_build.pipeline.mine_file",
    "medi_build.train.trainer", "torch.optim.lr_scheduler", "transformers.trainer",
    "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow", "fsspec.implementations.local",
    "medi_build.dataset.versions.commit", "medi_build.dataset.versions.checkout", "medi_build.dataset.versions.gc",
    "medi_build.dataset.versions.purge", "medi_build.dataset.export.run", "medi_build.dataset.remote.push",
)  # fmt: skip
"""Imported once."""


def run(order: dict[str, Any]) -> None:
    """A command in this process, which it ends."""
    os.setsid()
    told = os.open(order["told"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, told), (2, told)):
        os.dup2(target, stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.environ.update(order["environment"])
    if "SURVIVAL_STEPS" in os.environ:
        runpy.run_path(str(HOOK))
    sys.argv = ["medi", *order["arguments"]]
    from medi_build.cli import main

    main()


def serve() -> None:
    """Take orders until standard input ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # a fork that ends does not look through what all of this imported
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()

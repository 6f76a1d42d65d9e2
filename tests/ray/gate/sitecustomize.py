"""Holds a process up where a function of ours begins, so that a test can end its node just there.

Python imports a module of this name at its start, so that a folder on PYTHONPATH is all it takes. Two variables of the
environment tell it: GATE_AT, such as ``medi_build.encode.store:VectorStore.put``, and GATE, a file that appears when
the first process comes there. That process waits until it is killed, or the file is gone; others pass.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, name: str, gate: str) -> None:
        self.module, self.name, self.gate = module, name, gate

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            *outer, last = self.name.split(".")
            holder: Any = module
            for part in outer:
                holder = getattr(holder, part)
            setattr(holder, last, self.gated(getattr(holder, last)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def gated(self, function: Any) -> Any:
        def wait(*args: Any, **kwargs: Any) -> Any:
            try:
                os.close(os.open(self.gate, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return function(*args, **kwargs)
            while Path(self.gate).exists():
                time.sleep(0.05)
            return function(*args, **kwargs)

        return wait


if "GATE_AT" in os.environ:
    sys.meta_path.insert(0, _Finder(*os.environ["GATE_AT"].split(":"), os.environ["GATE"]))

"""What other libraries keep private is used nowhere but where it is listed here, and can be missed."""

import ast
import builtins
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from medi_build.devices import has_fast_bfloat16
from tests.conftest import ROOT
from tests.test_imports import modules

ALLOWED = {
    # Added up row by row where it is missing: tests/search/test_bm25.py.
    "medi_build.search.sparse_add": {"_sparsetools"},
    # Linear layers are cast in every pass where one is missing: tests/encode/test_linears.py.
    "medi_build.encode.linears": {"_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"},
    # Where it is not called any more, a full disk is told in torch's words, not in ours.
    "medi_build.train.planned_trainer": {"_save_checkpoint"},
    # Where it is not called any more, sentence-transformers' own loop encodes: tests/encode/test_instructor_forms.py.
    "medi_build.encode.instructor": {"_inference"},
    # Where _load_model is not called any more, an int8 folder is refused with an error; the cap keeps that off. Without
    # _int_mm weights are expanded in every pass: tests/encode/test_int8.py.
    "medi_build.encode.int8": {"_load_model", "_int_mm"},
    # Where it is not there any more, or not asked, Ray prints a screen of its own for each node that dies.
    "medi_build.pipeline.executor.cluster": {"_private", "_worker_logs_enabled"},
}
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Documented, whatever their names look like: named tuples', and ``os._exit``."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def private_names(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """Private names of others that a module uses; ``ours`` are those that the package itself defines.

    By import, as an attribute (one of ``super()`` is never ours), in ``getattr`` and its kin, and by overriding.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split(".") if is_private(part))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if not module.startswith("medi_build"):
                parts = [*module.split("."), *(alias.name for alias in node.names)]
                yield from (part for part in parts if is_private(part) and module != "__future__")
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            parent = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
            if parent or node.attr not in ours:
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in ours:
                yield str(name.value)
        elif isinstance(node, ast.ClassDef):
            bases = [base for base in map(ast.unparse, node.bases) if not hasattr(builtins, base)]
            for base in filter(None, (foreign(tree, base) for base in bases)):
                yield from (name for name in defined(node) if is_private(name) and hasattr(base, name))


def foreign(tree: ast.AST, base: str) -> object:
    """The class of another library that a module knows under this name; None for one of ours."""
    name, *rest = base.partition("[")[0].split(".")
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if (alias.asname or alias.name.split(".")[0]) != name:
                continue
            module = node.module if isinstance(node, ast.ImportFrom) else alias.name
            if not module or module.startswith("medi_build"):
                return None
            found = importlib.import_module(module)
            for part in [alias.name, *rest] if isinstance(node, ast.ImportFrom) else rest:
                found = getattr(found, part)
            return found
    return None


def defined(tree: ast.AST) -> set[str]:
    """Names of functions, classes and variables that a module or class defines, and attributes it gives ``self``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


def test_private_names_of_others_are_used_only_where_it_is_said() -> None:
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules().items()}
    ours = set().union(*map(defined, trees.values()))
    used = {name: set(private_names(tree, ours)) for name, tree in trees.items()}
    assert {name: names for name, names in used.items() if names} == ALLOWED


def test_their_libraries_are_capped_and_the_constraints_keep_within() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    for name in ("scipy", "sentence-transformers", "torch", "transformers"):
        assert any(one.operator == "<" for one in wanted[name]), f"{name} has no cap"
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    assert [name for name, allowed in wanted.items() if pins[name] not in allowed] == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from numpy._core import x", "_core"),
        ("from scipy.sparse import _sparsetools", "_sparsetools"),
        ("import numpy._core as core", "_core"),
        ("import torch\ndef f():\n    return torch.cpu._is_avx512_bf16_supported()", "_is_avx512_bf16_supported"),
        ("getattr(model, '_flag', 1)", "_flag"),
        ("model._flag = 1", "_flag"),
        ("class A(B):\n    def _own(self):\n        return super()._own()", "_own"),
        (
            "from transformers import Trainer\nclass A(Trainer):\n    def _save_checkpoint(self): ...",
            "_save_checkpoint",
        ),
        ("import torch.nn as nn\nclass A(nn.Module):\n    def _apply(self): ...", "_apply"),
    ],
)
def test_every_way_to_use_one_is_found(code: str, name: str) -> None:
    tree = ast.parse(code)
    assert name in set(private_names(tree, defined(tree)))


def test_our_own_private_names_are_no_fault() -> None:
    code = (
        "import os\nclass A:\n    def __init__(self): self._x = self._f()\n    def _f(self): os._exit(a._replace(b=1))"
    )
    assert not set(private_names(ast.parse(code), defined(ast.parse(code))))


def test_a_scipy_without_its_private_module_is_found_out() -> None:
    code = (
        "import sys, scipy.sparse; sys.modules['scipy.sparse._sparsetools'] = None\n"
        "from medi_build.search import sparse_add\n"
        "assert sparse_add.csr_matvecs is None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("able", "fast"),
    [
        ({}, False),
        ({"avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_tile": True, "cpu_name": "Intel Xeon"}, True),
    ],
)
def test_bfloat16_is_fast_only_where_the_processor_says_so(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, Any], fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert has_fast_bfloat16() is fast

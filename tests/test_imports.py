"""Imports run one way: plain data <- content <- stages <- build <- cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "medi_build"
LAYERS = [
    {"errors", "records", "ledger", "mining_rule", "embedding", "settings", "devices"},
    {"cards", "recipe", "instruct", "super_ni_table", "content"},
    {"adapters", "encode", "mine", "write", "engine", "fetch", "download", "progress", "raw", "super_ni_choice"},
    {"adapt", "plan", "options", "limits", "fingerprint", "verify", "new_source", "instructor", "quantize", "train"},
    {"build", "validate"},
    {"cli", "__init__", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "_content" not in p.parts)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_level_or_below(path: Path) -> None:
    here = layer_of(path)
    assert here in LEVEL, f"say in which layer {here} belongs"
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medi_build"):
            names = [node.module] if node.module.count(".") else [f"medi_build.{a.name}" for a in node.names]
            modules = [name.split(".")[1] for name in names]
        elif isinstance(node, ast.Import):
            modules = [a.name.split(".")[1] for a in node.names if a.name.startswith("medi_build.")]
        for module in modules:
            assert LEVEL[module] <= LEVEL[here], f"{path}: {here} must not import {module}"


@pytest.mark.parametrize("command", [["--help"], ["ls", "pipelines"], ["build", "--help"]])
def test_looking_around_does_not_import_torch(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['medi', *{command!r}]\n"
        "from medi_build.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'datasets' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

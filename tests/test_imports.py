"""Imports run one way: downward between folders, and in no circle between files."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medi_build
from medi_build import BuildOptions, build

PACKAGE = Path(__file__).parent.parent / "medi_build"
FOLDERS = [
    "",
    "pages",
    "content",
    "dataset",
    "search",
    "mine",
    "ingest",
    "encode",
    "evaluate",
    "pipeline",
    "train",
    "browse",
    "cli",
]
"""From the bottom to the top; the first stands for the modules beside the folders."""
ENTRIES = {"medi_build", "medi_build.__main__", "medi_build.compat"}
"""What users import and run; nothing of ours imports it."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, packages without ``.__init__``."""
    files = (path for path in PACKAGE.rglob("*.py") if "_content" not in path.parts)
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of ours that a module imports, inside functions and for type checks too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute here"
            module = node.module or ""
            found |= {full if (full := f"{module}.{alias.name}") in modules() else module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found & modules().keys())


def folder(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


@pytest.mark.parametrize("name", sorted(modules().keys() - ENTRIES))
def test_a_module_imports_from_its_own_folder_or_below(name: str) -> None:
    assert folder(name) in FOLDERS, f"say at which height the folder {folder(name)} stands"
    for other in imports(name):
        assert other not in ENTRIES, f"{name} imports {other}, which is for users"
        assert FOLDERS.index(folder(other)) <= FOLDERS.index(folder(name)), f"{name} must not import {other}"


def circle(graph: dict[str, frozenset[str]]) -> list[str]:
    """Some circle of a graph; empty if it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_run_in_a_circle() -> None:
    assert circle({name: imports(name) for name in modules()}) == []
    between: dict[str, set[str]] = {}
    for name in modules().keys() - ENTRIES:
        between.setdefault(folder(name), set()).update({folder(other) for other in imports(name)} - {folder(name)})
    assert circle({name: frozenset(others) for name, others in between.items()}) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"})})


def test_an_init_file_imports_nothing_but_for_users() -> None:
    """A package that imports its modules makes each of them import all the others."""
    exempt = {"medi_build", "medi_build.cli"}
    packages = {name for name, path in modules().items() if path.name == "__init__.py"} - exempt
    assert packages
    assert {name: imports(name) for name in packages if imports(name)} == {}


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh process has imported after some code, which may end by SystemExit."""
    lines = ["import sys", "try:", *(f"    {line}" for line in code.splitlines()), "except SystemExit:", "    pass"]
    lines.append("print('packages', *{name.partition('.')[0] for name in sys.modules})")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("packages ")
    return set(last.split())


def loaded_by_command(*command: str) -> set[str]:
    return loaded_by(f"sys.argv = ['medi', *{list(command)!r}]\nfrom medi_build.cli import main\nmain()")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "out"
    build(BuildOptions(out=folder, sources=("embedding_training_data/sample_entailment",)))
    return folder


HEAVY = {"torch", "datasets", "sentence_transformers", "transformers", "pandas"}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["build", "--help"],
        ["ls", "pipelines"],
        ["ls", "templates"],
        ["ls", "sources"],
        ["show", "medmcqa", "--data", "nowhere"],  # which ends where it misses the files, after the card
        ["verify", "BUILT"],
    ],
)
def test_looking_around_does_not_import_torch(command: list[str], built: Path) -> None:
    found = loaded_by_command(*(str(built) if word == "BUILT" else word for word in command))
    assert "medi_build" in found
    assert not found & HEAVY


def test_help_reads_no_content() -> None:
    assert not loaded_by_command("--help") & {"pydantic", "yaml", "jinja2", "pyarrow", "polars", "numpy"}


def test_the_package_imports_what_is_used_of_it() -> None:
    libraries = {"torch", "pyarrow", "polars", "pydantic", "numpy", "typer", "rich"}
    assert not loaded_by("import medi_build") & libraries
    assert not loaded_by("from medi_build import BuildOptions, BuildResult, build") & HEAVY
    assert "torch" in loaded_by("from medi_build import Instructor")


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert all(hasattr(medi_build, name) for name in medi_build.__all__)
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        medi_build.biuld  # noqa: B018

"""The notebook of examples/ runs from the first cell to the last, and is saved without what its cells printed."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "own_pairs.ipynb"


def test_every_notebook_is_saved_without_outputs() -> None:
    found = list((ROOT / "examples").glob("*.ipynb"))
    assert found == [NOTEBOOK]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [None] * len(cells)
    assert [cell.outputs for cell in cells] == [[]] * len(cells)


@pytest.mark.slow
def test_the_notebook_runs_and_the_model_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    before, after = re.findall(r"before: ([\d.]+)%, after: ([\d.]+)%", printed)[0]
    assert float(after) > float(before) + 30

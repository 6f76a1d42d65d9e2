"""Evaluation data in folders, in the forms in which it is passed around; read without a network."""

import os
from pathlib import Path

from medi_build.errors import EvaluationError
from medi_build.evaluate.local_beir import FORM, is_beir, read_beir
from medi_build.evaluate.local_data import LocalSet
from medi_build.evaluate.local_files import choose_split
from medi_build.evaluate.local_tables import FORMS, read_line_files, read_tables


def read_local_set(path: Path, split: str | None = None) -> LocalSet:
    """The evaluation set in a folder, whose form is told by its files.

    Args:
        path: the folder; its name is the set's.
        split: which part is evaluated; None for test, or the only one.

    Raises:
        EvaluationError: there is no such folder or split, its form is none of those known, or what is in it is no
            sound evaluation data.
        InputError: a file cannot be read.
    """
    if not path.is_dir():
        what = "is a file; name the folder it lies in" if path.exists() else "no such folder; check the path"
        raise EvaluationError(f"{path}: {what}")
    folder = Path(os.path.abspath(path))  # noqa: PTH100  # a link keeps its name
    if is_beir(folder):
        return read_beir(folder, split)
    titles, labels = ([*folder.glob(f"{name}_*.txt")] for name in ("title", "label"))
    if titles or labels:
        if len(titles) != 1 or len(labels) != 1:
            raise EvaluationError(
                f"{folder}: has {len(titles)} files title_*.txt and {len(labels)} label_*.txt; it has to be one of each"
            )
        choose_split(folder, ["test"], split)
        return read_line_files(titles[0], labels[0], folder.name)
    there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    return read_tables(folder, split, f"{folder}: holds {there}; the forms are {FORM}, {FORMS}")

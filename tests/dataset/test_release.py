"""A built folder beside releases of MEDI in every public form."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.release import Comparison, Shared, compare, plain_instruction, side_of_build, side_of_release
from medi_build.errors import InputError, MediError, MissingInputError
from medi_build.ingest.release_rows import release_rows
from tests.dataset.built import write_built
from tests.dataset.release_files import (
    BOATS,
    LAMPS,
    rows_of_2022,
    rows_of_2023,
    rows_of_gritlm,
    rows_of_reupload,
    texts,
    write_array,
    write_lines,
    write_parquet,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets toy/1 (lamps), toy/2 (boats) and toy/3 (cups), 40 rows each."""
    records = []
    for task, kind in enumerate(("lamp", "boat", "cup"), 1):
        records += rows_of_2023((f"Represent the {kind}", "Represent it"), texts(kind, range(40)), task_id=task)
    return write_built(tmp_path_factory.mktemp("built") / "out", records)


def compared(built: Path, source: Path) -> Comparison:
    return compare(side_of_build(open_dataset(built)), side_of_release(release_rows(str(source))))


def folder_of_gritlm(root: Path) -> Path:
    root = root / "medi"
    root.mkdir()
    write_lines(root / "17.jsonl", rows_of_gritlm(LAMPS, texts("lamp", range(10, 50))))
    write_lines(root / "4.jsonl", rows_of_gritlm(BOATS, texts("boat", range(35, 55))))
    return root


def both(make: Callable[..., list[Any]], *tasks: Any, **more: Any) -> list[Any]:
    lamps, boats = (
        make(LAMPS, texts("lamp", range(10, 50)), tasks[0]),
        make(BOATS, texts("boat", range(35, 55)), tasks[1]),
    )
    return lamps + boats


def of_2023(instructions: tuple[str, str], rows: list[tuple[str, str, str]], task: int) -> list[dict[str, Any]]:
    return rows_of_2023(instructions, rows, task_id=task)


def in_lists(instructions: tuple[str, str], rows: list[tuple[str, str, str]], task: str) -> list[dict[str, Any]]:
    return rows_of_reupload(instructions, rows, task, lists=True)


FORMS: dict[str, Callable[[Path], Path]] = {
    "2022, lists of four": lambda root: write_array(root / "m.json", both(rows_of_2022, "lamps", "boats")),
    "2022, lists of four in lines": lambda root: write_lines(root / "m.jsonl", both(rows_of_2022, "lamps", "boats")),
    "2023, one array": lambda root: write_array(root / "medi-data.json", both(of_2023, 17, 4)),
    "2023, lines": lambda root: write_lines(root / "medi-data.jsonl", both(of_2023, 17, 4)),
    "a file per id": folder_of_gritlm,
    "reupload, lines": lambda root: write_lines(root / "m.jsonl", both(rows_of_reupload, "lamps", "boats")),
    "reupload, array": lambda root: write_array(root / "m.json", both(rows_of_reupload, "lamps", "boats")),
    "reupload, lists": lambda root: write_lines(root / "m.jsonl", both(in_lists, "lamps", "boats")),
    "reupload, parquet": lambda root: write_parquet(root / "m.parquet", both(rows_of_reupload, "lamps", "boats")),
    "reupload, parquet of lists": lambda root: write_parquet(root / "m.parquet", both(in_lists, "lamps", "boats")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_same(form: str, built: Path, tmp_path: Path) -> None:
    found = compared(built, FORMS[form](tmp_path))
    assert [(one.built.name, one.by) for one in found.matches] == [("toy/1", "queries"), ("toy/2", "queries")]
    assert [one.released.rows for one in found.matches] == [40, 20]
    told = [(one.released.query_instruction, one.released.document_instruction) for one in found.matches]
    assert told == [LAMPS, BOATS]
    assert [one.queries for one in found.matches] == [Shared(40, 30), Shared(40, 5)]
    assert [one.negatives for one in found.matches] == [Shared(40, 30), Shared(40, 5)]
    assert [task.name for task in found.only_built] == ["toy/3"] and not found.unresolved
    assert (found.released_rows, found.built_rows) == (60, 120)
    assert found.queries == found.negatives == Shared(120, 35)


def test_a_name_goes_before_queries_and_what_is_neither_is_unresolved(built: Path, tmp_path: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_bytes())
    side = side_of_build(open_dataset(built))
    names = ("x/Old-Lamps", "x/boats", "x/cups")
    tasks = [replace(task, name=name) for task, name in zip(side.tasks, names, strict=True)]
    named = replace(side, tasks=tasks)
    rows = rows_of_reupload(LAMPS, texts("other", range(9)), "old_lamps.jsonl.gz")
    rows += rows_of_reupload(BOATS, texts("boat", range(2)), "ships")  # two shared queries are too few
    found = compare(named, side_of_release(release_rows(str(write_lines(tmp_path / "m.jsonl", rows)))))
    assert [(one.released.name, one.by, one.queries.there) for one in found.matches] == [
        ("old_lamps.jsonl.gz", "name", 0)
    ]
    assert [task.name for task in found.unresolved] == ["ships"]
    assert [task.name for task in found.only_built] == ["x/boats", "x/cups"]
    assert found.queries.there == 2 and manifest["rows"] == found.built_rows


def test_two_datasets_that_share_as_much_are_not_guessed_between(tmp_path: Path) -> None:
    records = [row for task in (1, 2) for row in rows_of_2023(LAMPS, texts("lamp", range(30)), task_id=task)]
    built = write_built(tmp_path / "out", records)
    path = write_array(tmp_path / "m.json", rows_of_2023(LAMPS, texts("lamp", range(30)), task_id=9))
    found = compared(built, path)
    assert not found.matches and [task.name for task in found.unresolved] == ["9"]


@pytest.mark.parametrize(
    "text", ["Represent the lamp; Input: ", "Represent the lamp;", " Represent  the lamp:", "Represent the lamp Input:"]
)
def test_the_separator_is_no_part_of_an_instruction(text: str) -> None:
    assert plain_instruction(text) == "Represent the lamp"


def test_the_commonest_instruction_stands_for_a_task(tmp_path: Path) -> None:
    rows = rows_of_2023(LAMPS, texts("lamp", range(5)), task_id=1) + rows_of_2023(
        BOATS, texts("x", range(4)), task_id=1
    )
    side = side_of_release(release_rows(str(write_array(tmp_path / "m.json", rows))))
    assert [(task.query_instruction, task.phrasings, task.rows) for task in side.tasks] == [(LAMPS[0], 2, 9)]


GOOD = rows_of_2023(LAMPS, texts("lamp", range(3)), task_id=1)
BAD: dict[str, tuple[str, Any, str]] = {
    "empty": ("m.json", "", "holds no rows"),
    "an empty array": ("m.json", "[]", "holds no rows"),
    "not JSON": ("m.json", "lamp\nboat\n", r"m.json:1: invalid_json.*fetch it again"),
    "an array that is cut": ("m.json", json.dumps(GOOD)[:-30], "is the file whole|is it whole"),
    "lines that are cut": ("m.jsonl", "".join(json.dumps(r) + "\n" for r in GOOD)[:-30], r"m.jsonl:3: invalid_json"),
    "no parquet": ("m.parquet", "PAR1 and no more", "not a readable Parquet file"),
    "other columns": ("m.jsonl", {"anchor": "a", "positive": "b"}, "no query, no pos, no neg; its columns are anchor"),
    "no task": ("m.jsonl", {side: ["", "a"] for side in ("query", "pos", "neg")}, "has no task_id or task_name"),
    "a text without an instruction": ("m.jsonl", {**GOOD[0], "query": "lamp"}, "query is 'lamp'"),
    "a number for a text": ("m.jsonl", {**GOOD[0], "query": ["", 3]}, r"row 1: query is \['', 3\]"),
    "no rows but words": ("m.json", '["a", "b"]', "row 1: is 'a'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text) + "\n")
    with pytest.raises(InputError, match=message) as told:
        side_of_release(release_rows(str(path)))
    assert str(path) in str(told.value)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    for source, message in ((str(tmp_path / "no.json"), "no such file"), (str(tmp_path), "holds no file of rows")):
        with pytest.raises(MissingInputError, match=message):
            list(release_rows(source))


MEASURE = """
import resource, sys
from medi_build.dataset.release import side_of_release
from medi_build.ingest.release_rows import release_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
side = side_of_release(release_rows(sys.argv[1]))
print(sum(task.rows for task in side.tasks), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_a_large_file(tmp_path: Path) -> None:
    """200,000 rows of about 1 KB of text; what is kept of a row are 40 bytes."""
    path = tmp_path / "medi-data.json"
    filler = "word " * 60
    with path.open("w") as file:
        file.write("[\n")
        for task in range(20):
            rows = [(f"{task} {n} {filler}", f"p {n} {filler}", f"n {n} {filler}") for n in range(10_000)]
            part = ",\n".join(map(json.dumps, rows_of_2023(LAMPS, rows, task_id=task)))
            file.write(part + (",\n" if task < 19 else "\n]\n"))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    rows, mebibytes = map(int, done.stdout.split())
    assert rows == 200_000
    assert mebibytes < path.stat().st_size / 2**20 / 2, f"{mebibytes} MiB for a file of {path.stat().st_size} bytes"


def test_errors_are_of_the_one_family(tmp_path: Path) -> None:
    with pytest.raises(MediError):
        list(release_rows(str(tmp_path / "nothing" / "there.jsonl")))

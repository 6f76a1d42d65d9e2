"""The tool behind `make mutants`: the faults it puts in, and that its lists still fit the code."""

import ast
import csv

from tests.conftest import ROOT
from tests.planted_faults import FAULTS
from tools.mutants import TESTS, covering, drawn
from tools.mutation import mutants, mutated

SOURCE = '''
def f(a: int, b: int = 1) -> int:
    """What it does: a - b."""
    if not a < b:
        a += g(b, a)
    return max(a, -2) if a in b and True else a * b
'''


def test_every_kind_of_fault_is_put_in_once():
    found = mutants("f.py", SOURCE)
    assert {(one.before, one.after) for one in found} >= {
        ("a < b", "a <= b"),
        ("a < b", "a >= b"),
        ("not a < b", "a < b"),
        ("a += g(b, a)", "pass"),
        ("a += g(b, a)", "a -= g(b, a)"),
        ("g(b, a)", "g(a, b)"),
        ("max", "min"),
        ("-2", "2"),
        ("2", "3"),
        ("a in b", "a not in b"),
        ("a in b and True", "a in b or True"),
        ("True", "False"),
        ("a * b", "a + b"),
        ("1", "0"),
    }
    assert len({one.key for one in found}) == len(found)
    plain = ast.unparse(ast.parse(SOURCE))
    for one in found:
        text = ast.unparse(mutated(SOURCE, one))
        assert text != plain
        assert "a - b." in text
        compile(mutated(SOURCE, one), "f.py", "exec")


def test_a_fault_keeps_its_key_where_the_rest_of_the_file_changes():
    moved = mutants("f.py", "import os\n\nx = 3\n" + SOURCE)
    assert {one.key for one in mutants("f.py", SOURCE)} < {one.key for one in moved}


def test_the_sample_has_mutants_of_every_file_and_depends_on_the_seed_alone():
    sample = drawn(400, 13)
    assert 390 <= len(sample) <= 410
    paths = {str(path.relative_to(ROOT)) for pattern in TESTS for path in ROOT.glob(pattern)}
    assert {one.path for one in sample} == {path for path in paths if not path.endswith("__init__.py")}
    assert sample == drawn(400, 13) != drawn(400, 14)
    assert all((ROOT / name).exists() for path in paths for name in covering(path))


def test_the_lists_fit_the_code():
    for name, (path, before, _) in FAULTS.items():
        assert (ROOT / path).read_text().count(before) == 1, name
    with (ROOT / "tests" / "surviving_mutants.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    known = {
        (one.path, f"{one.function or 'module'}: {one.before} -> {one.after}")
        for path in {row["path"] for row in rows}
        for one in mutants(path, (ROOT / path).read_text())
    }
    for row in rows:
        assert (row["path"], row["what"]) in known
        assert row["reason"]

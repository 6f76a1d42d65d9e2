"""Differences of plain data: every leaf by its path."""

from medi_build.dataset.plain import differences, told
from medi_build.dataset.receipt import Basis


def test_every_leaf_is_named() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "rows": [["x.txt", "0" * 64]], "e": [{"m": "p"}], "gone": True, "f": {}}
    new = {"a": {"b": 2, "c": [1, 3]}, "rows": [["x.txt", "1" * 64], ["y", "2" * 64]], "e": [{"m": "r"}], "g": {}}
    assert told(old, old) == []
    assert told(old, new) == [
        "a.b: 1 -> 2",
        "a.c: [1,2] -> [1,3]",
        f"rows.x.txt: {'0' * 16}... -> {'1' * 16}...",
        f"rows.y: none -> {'2' * 16}...",
        "e.0.m: p -> r",
        "gone: true -> none",
    ]
    assert differences({"words": [["a", "b"]]}, {"words": [["a", "c"]]}) == [("words", [["a", "b"]], [["a", "c"]])]


def test_files_of_one_name_in_different_folders_are_both_looked_at() -> None:
    old = Basis(build={}, dataset={"rows": [["x", "1" * 64], ["x", "2" * 64]]})
    new = Basis(build={}, dataset={"rows": [["x", "3" * 64], ["x", "2" * 64]]})
    assert old.fingerprint != new.fingerprint
    assert told(old.dataset, new.dataset)

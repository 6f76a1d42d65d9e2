"""Files that cannot be used: an error that names the file, nothing whole, and the next good run succeeds."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from medi_build.dataset.verify import verify
from medi_build.errors import (
    InputError,
    MediError,
    MissingInputError,
)
from tests.bad_input.team import GOOD, TABLE, Team, pairs, parquet

UNUSABLE = {
    "truncated gzip": ("t.jsonl.gz", gzip.compress(GOOD)[:-40], r"t\.jsonl\.gz: gzip stream ends or breaks"),
    "gzip damaged inside": (
        "t.jsonl.gz",
        gzip.compress(GOOD)[:60] + bytes(20) + gzip.compress(GOOD)[80:],
        r"t\.jsonl\.gz: gzip stream ends or breaks",
    ),
    "empty": ("t.jsonl", b"", r"no rows in .*t\.jsonl"),
    "empty gzip": ("t.jsonl.gz", gzip.compress(b""), r"no rows in .*t\.jsonl\.gz"),
    "blank lines": ("t.jsonl", b"\n\r\n\n", r"no rows in .*t\.jsonl"),
    "a web page": ("t.jsonl", b"<html>\nnot found\n</html>\n", r"3 of 3 rows .*invalid_json 3.*t\.jsonl:1"),
    "UTF-16": ("t.jsonl", GOOD.decode().encode("utf-16"), r"t\.jsonl: is UTF-16 .*iconv"),
    "another form": ("t.jsonl", b'{"a": 1}\n' * 4, r"4 of 4 rows .*unknown_form 4.*t\.jsonl:1"),
    "half a document": ("t.jsonl", b'[\n ["a", "b"],\n ["c"', r"t\.jsonl: element 1 is not JSON .*whole"),
    "one row": ("t.jsonl", pairs(1)[0], r"1 of 1 rows .*no_negative 1.*t\.jsonl"),
    "one text for all": ("t.jsonl", b'["a", "x"]\n["b", "x"]\n["c", "x"]', r"3 of 3 rows .*no_negative 3.*t\.jsonl"),
    "half a Parquet": ("t.parquet", TABLE[: len(TABLE) // 2], r"t\.parquet: not a readable Parquet file"),
    "damaged Parquet": ("t.parquet", TABLE[:150] + bytes(90) + TABLE[240:], r"t\.parquet: not a readable Parquet"),
    "empty Parquet": ("t.parquet", b"", r"t\.parquet: not a readable Parquet file"),
    "no such columns": ("t.parquet", parquet(a=["x"], b=["y"]), r"t\.parquet: has the columns a, b, which name no"),
    "numbers for texts": ("t.parquet", parquet(query=[1], pos=[2]), r"1 of 1 rows .*wrong_type 1.*t\.parquet:1"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_file_is_one_error_that_names_it(team: Team, case: str) -> None:
    name, content, message = UNUSABLE[case]
    team.card(file=name)
    (team.folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        team.build()
    team.nothing_looks_whole()
    (team.folder / name).write_bytes(TABLE if name.endswith(".parquet") else GOOD)
    assert team.build().manifest.rows == verify(team.out).rows == 24


def test_the_columns_that_a_card_names_have_to_be_there(team: Team) -> None:
    team.card(file="t.parquet", options="{adapter: pairs, query: title, positive: pos}")
    (team.folder / "t.parquet").write_bytes(TABLE)
    with pytest.raises(InputError, match=r"t\.parquet: no column 'title', which the card's options name; it has query"):
        team.build()


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (lambda path: path.mkdir(), MissingInputError, "our_team/tickets: t.jsonl"),
        (lambda path: path.symlink_to("nowhere"), InputError, r"t\.jsonl: cannot be read \(No such file"),
        (lambda path: path.symlink_to("/proc/self/mem"), InputError, r"t\.jsonl: cannot be read \(Input/output error"),
        (lambda path: None, MissingInputError, "our_team/tickets: t.jsonl"),
    ],
    ids=["folder", "dangling link", "unreadable", "absent"],
)
def test_what_is_no_readable_file(
    team: Team, place: Callable[[Path], None], error: type[MediError], message: str
) -> None:
    if message.endswith("output error") and not Path("/proc/self/mem").exists():
        pytest.skip("needs a file whose reading fails, for root too")
    place(team.folder / "t.jsonl")
    with pytest.raises(error, match=message):
        team.build()


def test_a_glob_that_matches_nothing(team: Team) -> None:
    team.card(file="part-*.jsonl")
    (team.folder / "t.jsonl").write_bytes(GOOD)
    with pytest.raises(MissingInputError, match=r"our_team/tickets: part-\*\.jsonl"):
        team.build()

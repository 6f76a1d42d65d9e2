"""Rows that cannot be used: counted under a reason, with the line."""

from pathlib import Path

import pytest

from medi_build.dataset.verify import verify
from medi_build.errors import OutputError
from tests.bad_input.team import GOOD, NAME, SAMPLES, Team

BAD_ROWS = {
    b"{broken": "invalid_json",
    b'["a"': "invalid_json",
    b'["caf\xe9", "latin 1"]': "invalid_json",
    b"[" * 5000: "invalid_json",
    b'["\\ud800 lone", "surrogate"]': "invalid_unicode",
    b'["a", "\\udfff"]': "invalid_unicode",
    b'["", "b"]': "empty_text",
    b'["a", " \\t "]': "empty_text",
    b"[1, 2]": "wrong_type",
    b'["a", null]': "wrong_type",
    b'["a", {"b": "c"}]': "wrong_type",
    b'["same", "same "]': "positive_equals_query",
    b'{"set": ["alone"]}': "set_too_small",
    b'{"query": "a", "pos": []}': "no_positive",
    b'["a", "' + b"x" * 100_001 + b'"]': "too_long",
    b'"a text"': "unknown_form",
    b"null": "unknown_form",
    b'["a", "b", "c", "d"]': "unknown_form",
}


def test_bad_rows_are_counted_under_a_reason_with_their_line(team: Team) -> None:
    team.card(max_loss=0.9)
    (team.folder / "t.jsonl").write_bytes(b"\n".join([GOOD, *BAD_ROWS]))
    [ledger] = team.build().ledgers
    reasons = list(BAD_ROWS.values())
    assert ledger.dropped["adapt"] == {reason: reasons.count(reason) for reason in reasons}
    assert ledger.read == 24 + len(BAD_ROWS)
    assert ledger.written == 24
    for reason in set(reasons):
        lines = [25 + row for row, why in enumerate(reasons) if why == reason]
        assert ledger.places[f"adapt/{reason}"] == [f"t.jsonl:{line}" for line in lines[:3]]
    verify(team.out)


def test_a_byte_order_mark_and_windows_line_ends_cost_no_row(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    [ledger] = team.build().ledgers
    assert (ledger.read, ledger.written, ledger.dropped) == (24, 24, {})


def test_a_dataset_of_which_nothing_is_left_is_no_dataset(team: Team) -> None:
    team.card(max_loss=1.0)
    (team.folder / "t.jsonl").write_bytes(b"{broken\n" * 4)
    with pytest.raises(OutputError, match=r"no record is left of 1 dataset.*4 invalid_json"):
        team.build()
    team.nothing_looks_whole()
    (team.folder / "t.jsonl").write_bytes(GOOD)
    with pytest.raises(OutputError, match=r"no record is left of 1 dataset.*24 batch_multiple"):
        team.build(batch_multiple=1000)
    team.nothing_looks_whole()
    result = team.build(sources=(NAME, "medmcqa/sample"), data=samples_beside(team), limit_per_dataset=24)
    assert {d.name: d.rows for d in result.manifest.datasets} == {"medmcqa/sample": 24, NAME: 24}
    (team.folder / "t.jsonl").write_bytes(b"{broken\n" * 4)
    result = team.build(sources=(NAME, "medmcqa/sample"), limit_per_dataset=24)
    assert {d.name: d.rows for d in result.manifest.datasets} == {"medmcqa/sample": 24, NAME: 0}
    assert verify(team.out).rows == 24


def samples_beside(team: Team) -> Path:
    """The team's data folder with the sample data of MedMCQA in it."""
    (team.data / "medmcqa").symlink_to(SAMPLES / "medmcqa")
    return team.data

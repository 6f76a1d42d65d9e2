import pytest

from medi_build.errors import OutputError
from medi_build.ledger import MAX_PLACES, Ledger


def test_balanced_ledger_passes_and_survives_a_round_trip() -> None:
    ledger = Ledger("kilt/nq", read=10, adapted=8, written=5)
    ledger.drop("adapt", "invalid_json", 2, where="a:3")
    ledger.drop("mine", "no_negative", 2)
    ledger.drop("sample", "over_cap")
    ledger.note("truncated_texts", 4)
    ledger.measure("length_auc", 0.6132)
    ledger.check()
    assert Ledger.from_dict(ledger.to_dict()) == ledger


@pytest.mark.parametrize(("read", "written"), [(11, 8), (10, 7)])
def test_a_lost_row_is_noticed(read: int, written: int) -> None:
    ledger = Ledger("kilt/nq", read=read, adapted=8, written=written)
    ledger.drop("adapt", "invalid_json", 2)
    with pytest.raises(OutputError, match="kilt/nq"):
        ledger.check()


def test_places_are_bounded_but_counts_are_not() -> None:
    ledger = Ledger("x")
    for line in range(100):
        ledger.drop("adapt", "invalid_json", where=f"file:{line}")
    assert ledger.dropped_in("adapt") == 100
    assert ledger.places["adapt/invalid_json"] == [f"file:{n}" for n in range(MAX_PLACES)]

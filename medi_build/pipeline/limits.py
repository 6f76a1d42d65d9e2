"""How much a build may lose before it fails instead of going on."""

from collections.abc import Sequence

from medi_build.dataset.receipt import Receipt
from medi_build.errors import InputError, OutputError
from medi_build.ledger import Ledger
from medi_build.pipeline.plan import Unit


def check_loss(unit: Unit, ledger: Ledger) -> None:
    """Raise if a dataset lost more of its rows as bad than its card allows."""
    files = ", ".join(map(str, unit.located.found.get("rows", ()))) or "its files"
    if not ledger.read:
        raise InputError(f"{unit.card.name}: no rows in {files}; fetch the data again, or leave the dataset out")
    lost = ledger.dropped_in("adapt", "mine")
    if lost > unit.max_loss * ledger.read:
        reasons = {r: n for stage in ("adapt", "mine") for r, n in ledger.dropped.get(stage, {}).items()}
        worst = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items(), key=lambda x: -x[1]))
        places = "; ".join(place for places in ledger.places.values() for place in places[:1])
        raise InputError(
            f"{unit.card.name}: {lost:,} of {ledger.read:,} rows were dropped ({worst}), more than the "
            f"{unit.max_loss:.0%} its card allows"
            + (f"; for example {places}" if places else "")
            + f". Look at {files}, or raise max_loss in the card or pipeline"
        )


def check_something_left(receipts: Sequence[Receipt]) -> None:
    """Raise if no dataset has a record: an empty dataset would load nowhere."""
    if not any(receipt.rows for receipt in receipts):
        total = Ledger("all")
        for receipt in receipts:
            for stage, reasons in receipt.ledger["dropped"].items():
                for reason, count in reasons.items():
                    total.drop(stage, reason, count)
        reasons = [f"{count:,} {reason}" for counter in total.dropped.values() for reason, count in counter.items()]
        raise OutputError(
            f"no record is left of {len(receipts)} dataset(s): {', '.join(reasons)}; look at the data, raise the "
            "limit or lower the batch multiple"
        )

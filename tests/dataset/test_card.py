"""What the README.md of a built dataset says about the build."""

from medi_build.dataset.card import dataset_card
from medi_build.dataset.reader import DatasetEntry
from medi_build.ledger import Ledger
from tests.dataset.built import dataset_entry, toy_manifest


def with_auc(name: str, length_auc: float, shortcut: int) -> DatasetEntry:
    ledger = Ledger(name, read=3, adapted=3, written=3)
    ledger.measure("length_auc", length_auc)
    ledger.note("length_shortcut", shortcut)
    return dataset_entry(name, 1, 3, ledger=ledger.to_dict())


def test_datasets_with_a_length_shortcut_are_named_with_their_auc() -> None:
    even, uneven = with_auc("medmcqa", 0.5213, 0), with_auc("kilt/nq", 0.7064, 3)
    told = dataset_card(toy_manifest([even, uneven])).split("## Shortcuts")[1].split("## Sources")[0]
    assert "- **kilt/nq**: 0.71" in told
    assert "medmcqa" not in told
    assert "In no dataset" in dataset_card(toy_manifest([even]))

"""What the README.md of a built dataset says about the build."""

from medi_build.content.cards import Licence
from medi_build.content.load import load_content
from medi_build.dataset.card import dataset_card
from medi_build.dataset.receipt import Receipt
from medi_build.files import FileEntry
from medi_build.ledger import Ledger


def receipt(name: str, length_auc: float, shortcut: int) -> Receipt:
    ledger = Ledger(name, read=3, adapted=3, written=3)
    ledger.measure("length_auc", length_auc)
    ledger.note("length_shortcut", shortcut)
    return Receipt(
        fingerprint="f",
        dataset=name,
        task_id=1,
        kind="pairs",
        licence=Licence(spdx="MIT", commercial_use="allowed"),
        instructions=[("Represent the question;", "Represent the answer;")],
        shards=[],
        fragment=FileEntry(path="part.json", size=1, rows=3, sha256="0"),
        ledger=ledger.to_dict(),
    )


def test_datasets_with_a_length_shortcut_are_named_with_their_auc() -> None:
    content = load_content()
    even = receipt("medmcqa", 0.5213, 0)
    uneven = receipt("kilt/nq", 0.7064, 3)
    pipeline = content.pipelines["quickstart"]
    told = dataset_card(pipeline, [even, uneven], content.cards, []).split("## Shortcuts")[1].split("## Sources")[0]
    assert "- **kilt/nq**: 0.71" in told
    assert "medmcqa" not in told
    assert "In no dataset" in dataset_card(pipeline, [even], content.cards, [])

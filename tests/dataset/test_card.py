"""What the README.md of a built dataset says about the build."""

from pathlib import Path
from typing import Any

import datasets

from medi_build.dataset.card import dataset_card
from medi_build.dataset.reader import DatasetEntry, open_dataset
from medi_build.ledger import Ledger
from tests.dataset.built import dataset_entry, toy_manifest, write_built


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


def sources(*datasets: DatasetEntry) -> list[str]:
    return dataset_card(toy_manifest(list(datasets))).split("## Sources\n\n")[1].splitlines()[2:]


def with_download(**download: Any) -> DatasetEntry:
    card = {"name": "kilt/nq", "description": "Toys.", "citation": "A | B\n(2020).", "download": download or None}
    return dataset_entry("kilt/nq", 1, 3, card=card)


def test_the_sources_table_says_where_the_raw_files_came_from() -> None:
    commit = "0123456789abcdef"
    hub = with_download(hub="o/n", url=None, archive=None, paths={"b": "https://b", "c": "c.json"}, revision=commit)
    url = with_download(hub=None, url="http://dl/KILT/", archive=None, paths={}, revision="unconfirmed")
    archive = with_download(archive={"url": "https://x.tar.gz", "members": "m/"}, revision=commit)
    assert sources(hub, url, archive, with_download()) == [
        "| kilt/nq | https://huggingface.co/datasets/o/n<br>https://b | `0123456789ab` | CC0-1.0 | A \\| B (2020). |",
        "| kilt/nq | http://dl/KILT/ |  | CC0-1.0 | A \\| B (2020). |",
        "| kilt/nq | https://x.tar.gz | `0123456789ab` | CC0-1.0 | A \\| B (2020). |",
        "| kilt/nq | own files |  | CC0-1.0 | A \\| B (2020). |",
    ]


def test_load_dataset_knows_all_and_each(tmp_path: Path) -> None:
    rows = [{"task_id": task, "id": str(number), "query": ["", "a"]} for number, task in enumerate([1, 1, 1, 2])]
    folder = write_built(tmp_path / "built", rows)
    card = dataset_card(open_dataset(folder).manifest)
    (folder / "README.md").write_text(card, encoding="utf-8")

    def ids(*name: str) -> list[str]:
        return list(datasets.load_dataset(str(folder), *name, split="train", cache_dir=str(tmp_path / "cache"))["id"])

    assert ids() == ids("default") == ["0", "1", "2", "3"]
    assert ids("toy_1") == ["0", "1", "2"]
    assert ids("toy_2") == ["3"]
    assert 'load_dataset("path/to/this/folder", "toy_1", split="train")' in card

"""Croissant metadata is valid for its own library, and that reads the records by it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from medi_build.dataset.export.croissant import CROISSANT, of_build
from medi_build.dataset.export.run import export
from medi_build.dataset.export.writers import FORMATS, ExportFormat
from medi_build.dataset.reader import BuiltDataset, open_dataset
from medi_build.files import file_digest
from medi_build.progress import Silent
from tests.dataset.export.conftest import ANSWER, QUESTION, SEVERAL, rewrite

mlc = pytest.importorskip("mlcroissant")


def opened(path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """The data set; no error, no deviation from the standard context, and no warning but of the missing date."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = mlc.Dataset(jsonld=str(path))
    issues = found.metadata.issues
    assert not issues.errors
    assert [one for one in issues.warnings if "datePublished" not in one] == []
    assert "not standard" not in caplog.text
    return found


def rows(found: Any, name: str) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode()
        return [plain(one) for one in value] if isinstance(value, list) else value

    start = f"records/{name}"
    return [{key.removeprefix(f"{start}/"): plain(value) for key, value in row.items()} for row in found.records(start)]


def test_a_build(toy: BuiltDataset, caplog: pytest.LogCaptureFixture) -> None:
    (toy.root / CROISSANT).write_bytes(of_build(toy.manifest))
    found = opened(toy.root / CROISSANT, caplog)
    assert [one.uuid.removeprefix("records/") for one in found.metadata.record_sets] == [
        "kilt_nq", "plain_texts", "own_several", "kilt_wow",
    ]  # fmt: skip
    several = sorted(rows(found, "own_several"), key=lambda row: str(row["id"]))  # which lies in two shards
    assert [row["id"] for row in several] == [f"toy/3/{number}" for number in range(8)]
    assert several[1]["query"] == [SEVERAL[1][0], "question 1?"]
    assert several[1]["hard_negatives"] == ["wrong 1 0"]
    assert several[1]["neg_score"] == 0.5
    described = json.loads((toy.root / CROISSANT).read_bytes())
    for file in described["distribution"]:
        if file["@type"] == "cr:FileObject":
            assert file["sha256"] == file_digest(toy.root / file["contentUrl"])
    assert len(described["distribution"]) == 8 + 4 + 1
    assert described["license"] == [
        "https://spdx.org/licenses/CC-BY-NC-4.0.html", "https://spdx.org/licenses/CC0-1.0.html",
    ]  # fmt: skip
    assert described["citeAs"] == "None."


@pytest.mark.parametrize("form", FORMATS)
def test_every_export(form: ExportFormat, toy: BuiltDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export(toy, form, tmp_path / "out", "commercial", Silent())
    found = opened(tmp_path / "out" / CROISSANT, caplog)
    described = json.loads((tmp_path / "out" / CROISSANT).read_bytes())
    assert described["license"] == ["https://spdx.org/licenses/CC0-1.0.html"]
    for file in described["distribution"]:
        assert file["sha256"] == file_digest(tmp_path / "out" / file["contentUrl"])
    first = rows(found, "kilt_nq")[0] if form not in ("medi-json", "tevatron") else None
    expected: dict[str, Any] = {
        "medi-json": None,
        "tevatron": None,
        "sentence-transformers": {
            "anchor": "question 0?", "positive": 'answer "0"\n',
            "negative_1": "wrong 0", "negative_2": "wrong 0 0", "negative_3": "wrong 0",
        },
        "flagembedding": {
            "query": "question 0?", "pos": [f'{ANSWER}answer "0"\n'], "prompt": QUESTION,
            "neg": [f"{ANSWER}wrong 0", f"{ANSWER}wrong 0 0"],
        },
    }  # fmt: skip
    if form == "jsonl":
        assert first is not None and (first["query"], first["task_id"]) == ([QUESTION, "question 0?"], 1)
    else:
        assert first == expected[form]


def test_licences_without_a_page_and_where_the_files_came_from(toy: BuiltDataset) -> None:
    card = toy.manifest.datasets[0].card | {"download": {"hub": "o/n", "paths": {}, "revision": "abc"}}
    changes = [{"licence": "unconfirmed", "card": card}, {"licence": "LicenseRef-own"}, {"licence": "MIT"}, {}]
    rewrite(toy.root, datasets=changes)
    described = json.loads(of_build(open_dataset(toy.root).manifest))
    assert "unconfirmed" in described["license"] and "LicenseRef-own" in described["license"]
    assert "https://spdx.org/licenses/MIT.html" in described["license"]
    assert described["isBasedOn"] == ["https://huggingface.co/datasets/o/n"]

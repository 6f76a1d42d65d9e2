"""KILT's files for tests: fixtures, pages as they are written, and a task file adapted."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from medi_build.content.cards import Card
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.ingest.adapt import ADAPTERS
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kilt"
PAGES = FIXTURES / "pages.jsonl"
FORMS = {
    "aidayago2": "entity",
    "cweb": "entity",
    "wned": "entity",
    "fever": "claim",
    "structured_zeroshot": "slot",
    "trex": "slot",
    "wow": "dialogue",
}
Rows = list[dict[str, Any]]


def card(**options: Any) -> Card:
    return Card.model_validate(
        {
            "name": "kilt/x",
            "description": "a task",
            "options": {"adapter": "kilt", **options},
            "files": {"dev": ["x.jsonl"]},
            "licence": {"spdx": "MIT", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "retrieval"},
        }
    )


def run(
    rows: Path, cache: Path, pages: tuple[Path, ...] = (PAGES,), questions: tuple[Path, ...] = (), **options: Any
) -> tuple[Rows, Rows, Ledger]:
    """Adapt one task file; the counts have to add up every time."""
    ledger = Ledger("kilt/x")
    options.setdefault("input_form", FORMS.get(rows.name.split("-")[0], "question"))
    extra = {"pages": pages, "questions": questions}
    adapted = ADAPTERS["kilt"](card(**options), Inputs((rows,), extra, cache), ledger)
    examples = pa.Table.from_batches(adapted.examples, EXAMPLES).to_pylist()
    documents = pa.Table.from_batches(adapted.documents, DOCUMENTS).to_pylist()
    assert ledger.adapted == len(examples)
    assert ledger.read == ledger.adapted + ledger.dropped_in("adapt")
    return examples, documents, ledger


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def page(number: int | str, *paragraphs: str) -> dict[str, Any]:
    return {
        "_id": f"{number}",
        "wikipedia_id": f"{number}",
        "wikipedia_title": f"Page {number}",
        "text": [f"Page {number}\n", *paragraphs],
    }

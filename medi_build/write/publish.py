"""The last step of a build: join ``medi-data.json``, write the tasks table and the card, the manifest last."""

import csv
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from medi_build.cards import Card
from medi_build.errors import OutputError
from medi_build.recipe import Recipe
from medi_build.write.atomic import FileEntry, atomic_file, entry, write_bytes
from medi_build.write.dataset_card import dataset_card
from medi_build.write.output import MANIFEST, OutputFolder
from medi_build.write.receipt import Receipt

WRITER_LIBRARIES = ("pyarrow", "polars")
"""Their versions may change the bytes of a file, never its rows."""


def publish(
    output: OutputFolder,
    recipe: Recipe,
    encoder_identity: str,
    receipts: Sequence[Receipt],
    cards: Mapping[str, Card],
) -> dict[str, Any]:
    """Write everything that describes the whole dataset and return the manifest.

    A folder that already holds exactly this is left as it is.

    Args:
        output: the folder; the receipts' files are there.
        recipe: as it was run, overrides included.
        encoder_identity: of the mining encoder.
        receipts: in the order of task ids.
        cards: dataset name -> card.

    Raises:
        OutputError: a file cannot be written.
    """
    head: dict[str, Any] = {
        "format": 1,
        "medi_version": version("medi-build"),
        "writers": {name: version(name) for name in WRITER_LIBRARIES},
        "recipe": recipe.model_dump(mode="json"),
        "encoder": encoder_identity,
        "rows": sum(r.rows for r in receipts),
        "digest": content_digest(receipts),
        "datasets": [_manifest_entry(r, cards[r.dataset]) for r in receipts],
    }
    finished = output.manifest()
    if finished is not None and orjson.dumps({**head, "files": finished["files"]}) == orjson.dumps(finished):
        return finished
    output.uncover()
    output.remove_strangers(receipts)
    out = output.root
    files = [
        _join_json(out, receipts),
        _tasks_table(out, receipts, cards),
        write_bytes(out / "README.md", dataset_card(recipe, receipts, cards).encode(), out),
    ]
    manifest = orjson.dumps({**head, "files": [f.model_dump() for f in files]}, option=orjson.OPT_INDENT_2) + b"\n"
    write_bytes(out / MANIFEST, manifest, out)
    return dict(orjson.loads(manifest))


def content_digest(receipts: Sequence[Receipt]) -> str:
    """Digest over all rows of ``medi-data.json``, the same whatever library version wrote the Parquet files."""
    lines = "".join(f"{r.task_id} {r.rows} {r.fragment.sha256}\n" for r in receipts)
    return hashlib.sha256(lines.encode()).hexdigest()


def _manifest_entry(receipt: Receipt, card: Card) -> dict[str, Any]:
    return {
        "name": receipt.dataset,
        "task_id": receipt.task_id,
        "kind": receipt.kind,
        "rows": receipt.rows,
        "licence": card.licence.spdx,
        "commercial_use": card.licence.commercial_use,
        "instructions": receipt.instructions,
        "rows_sha256": receipt.fragment.sha256,
        "shards": [s.model_dump() for s in receipt.shards],
        "ledger": receipt.ledger,
    }


def _join_json(out: Path, receipts: Sequence[Receipt]) -> FileEntry:
    """One JSON array, streamed from the datasets' parts; rows of one task stand next to each other."""
    path = out / "medi-data.json"
    with atomic_file(path) as file:
        file.write(b"[")
        first = True
        for receipt in receipts:
            if not receipt.rows:
                continue
            file.write(b"\n" if first else b",\n")
            first = False
            try:
                with (out / receipt.fragment.path).open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)
            except FileNotFoundError as error:
                raise OutputError(
                    f"{out / receipt.fragment.path}: gone while the build ran; run the command again"
                ) from error
        file.write(b"\n]\n")
    return entry(path, out, file, sum(r.rows for r in receipts))


def _tasks_table(out: Path, receipts: Sequence[Receipt], cards: Mapping[str, Card]) -> FileEntry:
    """``tasks.csv``: which id is which dataset, and under what terms."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    header = ("task_id", "task_name", "kind", "rows", "licence", "commercial_use")
    table.writerow((*header, "query_instruction", "document_instruction"))
    for r in receipts:
        licence = cards[r.dataset].licence
        about = (r.task_id, r.dataset, r.kind, r.rows, licence.spdx, licence.commercial_use)
        table.writerow((*about, *r.instructions[0]))
    return write_bytes(out / "tasks.csv", buffer.getvalue().encode(), out, len(receipts))

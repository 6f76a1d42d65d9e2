"""The last step of a build: join ``medi-data.json``, write the tasks table and the card, the manifest last."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import orjson

from medi_build.content.cards import Card
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.card import dataset_card
from medi_build.dataset.folder import OutputFolder
from medi_build.dataset.overlap import overlaps_of
from medi_build.dataset.reader import DatasetEntry, ExcludedSet, Manifest, SidePrompts
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.schema import MANIFEST, SCHEMA_VERSION
from medi_build.errors import OutputError
from medi_build.files import FileEntry, HashingFile, atomic_file, entry, write_bytes

WRITER_LIBRARIES = ("pyarrow", "polars")
"""Their versions may change the bytes of a file, never its rows."""


def publish(
    output: OutputFolder,
    pipeline: Pipeline,
    encoder_identity: str,
    prompts: dict[str, SidePrompts],
    receipts: Sequence[Receipt],
    cards: Mapping[str, Card],
    excluded: Sequence[ExcludedSet],
) -> Manifest:
    """Write everything that describes the whole dataset and return the manifest.

    A folder that already holds exactly this is left as it is.

    Args:
        output: the folder; the receipts' files are there.
        pipeline: as it was run, overrides included.
        encoder_identity: of the mining encoder.
        prompts: of each encoder, by its name.
        receipts: in the order of task ids.
        cards: dataset name -> card.
        excluded: evaluation sets whose texts were kept out.

    Raises:
        OutputError: a file cannot be written.
        DatasetError: a shard cannot be read.
    """
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        medi_version=version("medi-build"),
        writers={name: version(name) for name in WRITER_LIBRARIES},
        pipeline=pipeline.model_dump(mode="json"),
        encoder=encoder_identity,
        prompts=prompts,
        rows=sum(r.rows for r in receipts),
        digest=content_digest(receipts),
        datasets=[_entry(r) for r in receipts],
        overlaps=[],
        excluded=list(excluded),
        files=[],
    )
    finished = output.finished()
    if finished is not None and finished.model_copy(update={"overlaps": [], "files": []}) == manifest:
        return finished  # what its datasets have in common follows from their rows
    output.invalidate()
    output.remove_ignored(receipts)
    out = output.root
    overlaps = overlaps_of(out, receipts)
    files = [
        _join_json(output, receipts),
        _tasks_table(out, receipts),
        write_bytes(out / "README.md", dataset_card(pipeline, receipts, cards, overlaps, excluded).encode(), out),
    ]
    manifest = manifest.model_copy(update={"overlaps": overlaps, "files": files})
    text = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n"
    write_bytes(out / MANIFEST, text, out)
    return manifest


def content_digest(receipts: Sequence[Receipt]) -> str:
    """Digest over all rows of ``medi-data.json``, the same whatever library version wrote the Parquet files."""
    lines = "".join(f"{r.task_id} {r.rows} {r.fragment.sha256}\n" for r in receipts)
    return hashlib.sha256(lines.encode()).hexdigest()


def _entry(receipt: Receipt) -> DatasetEntry:
    return DatasetEntry(
        name=receipt.dataset,
        task_id=receipt.task_id,
        kind=receipt.kind,
        rows=receipt.rows,
        licence=receipt.licence.spdx,
        commercial_use=receipt.licence.commercial_use,
        instructions=receipt.instructions,
        rows_sha256=receipt.fragment.sha256,
        shards=receipt.shards,
        ledger=receipt.ledger,
    )


def _join_json(output: OutputFolder, receipts: Sequence[Receipt]) -> FileEntry:
    """One JSON array, streamed from the datasets' parts; rows of one task stand next to each other.

    Raises:
        OutputError: a part is gone, or is not what was written; its dataset then counts as unfinished.
    """
    out = output.root
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
                digest = _copy(out / receipt.fragment.path, file)
            except FileNotFoundError as error:
                raise OutputError(
                    f"{out / receipt.fragment.path}: gone while the build ran; run the command again"
                ) from error
            if digest != receipt.fragment.sha256:
                output.forget(receipt.task_id)
                raise OutputError(
                    f"{out / receipt.fragment.path}: sha256 is {digest}, but {receipt.fragment.sha256} was written: "
                    f"something changed it, or the disk is failing. Run the same command again, which makes "
                    f"{receipt.dataset} anew"
                )
        file.write(b"\n]\n")
    return entry(path, out, file, sum(r.rows for r in receipts))


def _copy(part: Path, file: HashingFile) -> str:
    """Append a file; returns the digest of what it held."""
    digest = hashlib.sha256()
    with part.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _tasks_table(out: Path, receipts: Sequence[Receipt]) -> FileEntry:
    """``tasks.csv``: which id is which dataset, and under what terms."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    header = ("task_id", "task_name", "kind", "rows", "licence", "commercial_use")
    table.writerow((*header, "query_instruction", "document_instruction"))
    for r in receipts:
        about = (r.task_id, r.dataset, r.kind, r.rows, r.licence.spdx, r.licence.commercial_use)
        table.writerow((*about, *r.instructions[0]))
    return write_bytes(out / "tasks.csv", buffer.getvalue().encode(), out, len(receipts))

"""The last step of a build: join ``medi-data.json``, write the tasks table and the card, the manifest last."""

import csv
import hashlib
import io
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

import orjson

from medi_build.content.cards import Card
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.card import dataset_card
from medi_build.dataset.folder import OutputFolder
from medi_build.dataset.overlap import overlaps_of
from medi_build.dataset.reader import DatasetEntry, ExcludedSet, Manifest, MarksUsed, SidePrompts
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.schema import MANIFEST, SCHEMA_VERSION
from medi_build.dataset.shards import write_json_array
from medi_build.errors import OutputError
from medi_build.files import FileEntry, atomic_file, entry, write_bytes
from medi_build.secrets import redacted_values

WRITER_LIBRARIES = ("pyarrow", "polars")
"""Their versions may change the bytes of a file, never its rows."""
VECTOR_LIBRARIES = ("numpy", "sentence-transformers", "tokenizers", "torch", "transformers")


def publish(
    output: OutputFolder,
    pipeline: Pipeline,
    encoder_identity: str,
    prompts: dict[str, SidePrompts],
    receipts: Sequence[Receipt],
    cards: Mapping[str, Card],
    excluded: Sequence[ExcludedSet],
    marks: MarksUsed | None,
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
        marks: the file of marks that was honoured.

    Raises:
        OutputError: a file cannot be written.
        DatasetError: a shard cannot be read.
    """
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        medi_version=version("medi-build"),
        writers={name: version(name) for name in WRITER_LIBRARIES},
        environment=environment(),
        pipeline=pipeline.model_dump(mode="json"),
        basis=receipts[0].basis.build,
        encoder=encoder_identity,
        prompts=prompts,
        rows=sum(r.rows for r in receipts),
        digest=content_digest((r.task_id, r.rows, r.fragment.sha256) for r in receipts),
        datasets=[_entry(r, cards[r.dataset]) for r in receipts],
        overlaps=[],
        excluded=list(excluded),
        marks=marks,
        explanations=[file for r in receipts for file in r.explanations],
        files=[],
    )
    finished = output.finished()
    if finished is not None and finished.model_copy(update={"overlaps": [], "files": []}) == manifest:
        return finished  # what its datasets have in common follows from their rows
    output.invalidate()
    output.remove_ignored(receipts)
    out = output.root
    overlaps = overlaps_of([(r.dataset, [out / shard.path for shard in r.shards]) for r in receipts])
    manifest = manifest.model_copy(update={"overlaps": overlaps})
    files = [
        _join_json(output, receipts),
        write_bytes(out / "tasks.csv", tasks_table(manifest), out, len(receipts)),
        write_bytes(out / "README.md", dataset_card(manifest).encode(), out),
    ]
    manifest = manifest.model_copy(update={"files": files})
    write_bytes(out / MANIFEST, manifest_bytes(manifest), out)
    return manifest


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that vectors depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VECTOR_LIBRARIES}}


def manifest_bytes(manifest: Manifest) -> bytes:
    """The content of ``manifest.json``."""
    return orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n"


def content_digest(datasets: Iterable[tuple[int, int, str]]) -> str:
    """Digest over all rows of ``medi-data.json``, the same whatever library version wrote the Parquet files.

    Args:
        datasets: task id, rows, and digest of its rows in ``medi-data.json``, in their order.
    """
    lines = "".join(f"{task_id} {rows} {sha256}\n" for task_id, rows, sha256 in datasets)
    return hashlib.sha256(lines.encode()).hexdigest()


def _entry(receipt: Receipt, card: Card) -> DatasetEntry:
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
        fingerprint=receipt.fingerprint,
        basis={key: value for key, value in receipt.basis.dataset.items() if key != "card"},
        card=redacted_values(card.model_dump(mode="json")),  # the URLs of its downloads may be signed
    )


def _join_json(output: OutputFolder, receipts: Sequence[Receipt]) -> FileEntry:
    """One JSON array, streamed from the datasets' parts; rows of one task stand next to each other.

    Raises:
        OutputError: a part is gone, or is not what was written; its dataset then counts as unfinished.
    """
    out = output.root
    path = out / "medi-data.json"
    with atomic_file(path) as file:
        write_json_array(file, (_pieces(output, receipt) for receipt in receipts if receipt.rows))
    return entry(path, out, file, sum(r.rows for r in receipts))


def _pieces(output: OutputFolder, receipt: Receipt) -> Iterator[bytes]:
    """A dataset's part of the array, checked once it has been read."""
    part, digest = output.root / receipt.fragment.path, hashlib.sha256()
    try:
        with part.open("rb") as source:
            while piece := source.read(1 << 20):
                digest.update(piece)
                yield piece
    except FileNotFoundError as error:
        raise OutputError(f"{part}: gone while the build ran; run the command again") from error
    if digest.hexdigest() != receipt.fragment.sha256:
        output.forget(receipt.task_id)
        raise OutputError(
            f"{part}: sha256 is {digest.hexdigest()}, but {receipt.fragment.sha256} was written: something changed it, "
            f"or the disk is failing. Run the same command again, which makes {receipt.dataset} anew"
        )


def tasks_table(manifest: Manifest) -> bytes:
    """The content of ``tasks.csv``: which id is which dataset, and under what terms."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    header = ("task_id", "task_name", "kind", "rows", "licence", "commercial_use")
    table.writerow((*header, "query_instruction", "document_instruction"))
    for one in manifest.datasets:
        about = (one.task_id, one.name, one.kind, one.rows, one.licence, one.commercial_use)
        table.writerow((*about, *one.instructions[0]))
    return buffer.getvalue().encode()

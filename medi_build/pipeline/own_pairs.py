"""A user's own pairs, in whatever file or folder they lie, as examples and further candidates."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from medi_build.content.cards import Card, InstructionSpec, Licence, PairsOptions
from medi_build.dataset.schema import EXAMPLES
from medi_build.errors import InputError, MissingInputError, OptionError
from medi_build.ingest.adapters import pairs
from medi_build.ingest.adapters.base import Inputs, number_repeats
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger

FILE_ENDINGS = (".jsonl", ".json", ".gz", ".bz2", ".xz", ".zst", ".parquet", ".csv", ".tsv", ".txt")
"""What tells the name of a file from a hub id, which may have dots as well."""


class Columns(NamedTuple):
    """Where pairs stand in a row.

    Attributes:
        query: column of the query; None for the forms that are recognised (see the pairs adapter).
        positive: column of the positive or of the list of positives; given together with the query's.
        negative: column of the given negative(s); None takes those in columns with a known name.
    """

    query: str | None = None
    positive: str | None = None
    negative: str | None = None


NONE_NAMED = Columns()


@dataclass(frozen=True)
class OwnPairs:
    """Where a user's pairs lie, and how they are read.

    Attributes:
        source: JSON lines or a JSON array, CSV, TSV or Parquet, also gzip, bzip2, xz or zstd; or the train split of a
            dataset on the hub, or of a folder of its files or of `save_to_disk`.
        columns: what its columns are.
        corpus: further candidates, a file as `read_corpus` takes it.
        symmetric: queries are candidates too, and all texts are encoded as queries.
    """

    source: str
    columns: Columns = NONE_NAMED
    corpus: Path | None = None
    symmetric: bool = False


class ReadPairs(NamedTuple):
    """Pairs as mining takes them.

    Attributes:
        examples: schema ``EXAMPLES``.
        documents: schema ``DOCUMENTS``, or None where no corpus was given.
        ledger: with every row of the source that was read, and no more.
    """

    examples: pa.Table
    documents: pa.Table | None
    ledger: Ledger


def read_pairs(own: OwnPairs) -> ReadPairs:
    """Read the pairs and their corpus.

    Raises:
        InputError: a file is damaged, lacks the columns, or has no row that can be used.
        MissingInputError: there is no such file, and no such dataset on the hub.
        OptionError: only one of the two columns is named.
    """
    query, positive, negative = own.columns
    if (query is None) != (positive is None) or (negative and not query):
        raise OptionError(
            f"query column {query!r} and positive column {positive!r}: name both, or neither (and no negative column) "
            "where the file has one of the known line forms"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = _local(own.source, Path(folder))
        card = _card(path, own)
        ledger = Ledger(card.name)
        adapted = pairs.adapt(card, Inputs((path,), {}, Path(folder)), ledger)
        examples = pa.Table.from_batches(number_repeats(adapted.examples), schema=EXAMPLES)
    if not examples.num_rows:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(ledger.dropped.get("adapt", {}).items()))
        raise InputError(
            f"{own.source}: none of its {ledger.read:,} rows can be used ({reasons or 'it is empty'}); name columns "
            "with --query-column and --positive-column, or use a form that is known, such as {query, positive} or "
            "[a, b]"
        )
    return ReadPairs(examples, None if own.corpus is None else read_corpus(own.corpus, ledger), ledger)


def _local(source: str, folder: Path) -> Path:
    """The source as a local file; a dataset of the hub or in a folder becomes a Parquet file in ``folder``."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _from_folder(path, folder)
    if path.suffix in FILE_ENDINGS or path.is_absolute() or source.count("/") > 1:
        raise MissingInputError(
            f"{source}: no such file or folder; give a .jsonl, .csv or .parquet file, a dataset's folder or its hub id"
        )
    from datasets import load_dataset

    try:
        dataset = load_dataset(source, split="train")
    except Exception as error:  # whatever the hub client raises, often on several lines
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingInputError(f"{source}: neither a file nor a dataset that the hub gives out ({told})") from error
    path = folder / f"{source.rsplit('/', maxsplit=1)[-1]}.parquet"
    dataset.to_parquet(path)
    return path


def _from_folder(source: Path, folder: Path) -> Path:
    """The train split of a folder, one that `save_to_disk` wrote or one of files as `load_dataset` finds them."""
    from datasets import Dataset, load_dataset, load_from_disk

    saved = any((source / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        loaded = load_from_disk(str(source)) if saved else load_dataset(str(source.resolve()), split="train")
        dataset = loaded if isinstance(loaded, Dataset) else loaded["train"]
    except Exception as error:  # whatever the library raises, often on several lines
        told = " ".join(f"{type(error).__name__}: {error}".split())
        files = sorted(path.name for path in source.iterdir() if path.suffix in FILE_ENDINGS)
        raise InputError(
            f"{source}: is a folder without a train split that datasets reads ({told}); give a file of pairs"
            + (f", of which it holds {', '.join(files[:5])}" if files else "")
            + ", or a folder of a dataset's files or of save_to_disk"
        ) from error
    path = folder / f"{source.resolve().name}.parquet"
    dataset.to_parquet(path)
    return path


def _card(path: Path, own: OwnPairs) -> Card:
    """A card for a file that has none, so that the pairs adapter can read it."""
    stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", path.name.split(".")[0]) or "pairs"
    return Card(
        name=f"{pairs.OWN_FILES}/{stem}",
        description="one's own pairs",
        options=PairsOptions(adapter="pairs", symmetric=own.symmetric, **own.columns._asdict()),
        files={"train": (path.name,)},
        licence=Licence(spdx="unconfirmed", commercial_use="unknown"),
        citation="",
        instruction=InstructionSpec(template="none"),
    )

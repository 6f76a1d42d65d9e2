"""Hard negatives for anyone's own pairs: a file in, files for the trainers of one's choice out."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from medi_build.content.cards import Card, InstructionSpec, Licence, PairsOptions
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.formats import Format, from_mined, write_format
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.devices import Device
from medi_build.embedding import Embed
from medi_build.errors import InputError, MissingInputError, OptionError
from medi_build.files import atomic_file
from medi_build.ingest.adapters import pairs
from medi_build.ingest.adapters.base import Inputs, clean, content_id, number_repeats
from medi_build.ingest.lines import json_lines, parquet_batches
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine

JSON_FORMATS = ("flagembedding", "tevatron")
FILE_ENDINGS = (".jsonl", ".json", ".gz", ".parquet", ".csv", ".tsv", ".txt")
"""What tells the name of a file from a hub id, which may have dots as well."""


def mine_file(
    source: str,
    out: Path,
    *,
    embed: Embed,
    rule: MiningRule,
    query_column: str | None = None,
    positive_column: str | None = None,
    corpus: Path | None = None,
    formats: Sequence[Format] = ("triplet",),
    scores: bool = False,
    instructions: tuple[str, str] = ("", ""),
    symmetric: bool = False,
    seed: int = 42,
    others: Mapping[str, Embed] | None = None,
    device: Device = "cpu",
) -> Ledger:
    """Mine negatives for the pairs of a file and write them.

    Args:
        source: a ``.jsonl``, ``.json``, ``.jsonl.gz`` or ``.parquet`` file, or a dataset on the hub (its train split).
        out: folder for ``{format}.parquet`` or ``{format}.jsonl`` of each format, and ``ledger.json``.
        embed: the encoder.
        rule: the knobs of mining.
        query_column: column of the query; None for the forms that are recognised (see the pairs adapter).
        positive_column: column of the positive or of the list of positives; given together with the query's.
        corpus: further candidates, a file with ``text`` and optionally ``_id`` or ``id`` (else the text's hash is its
            id) and ``title``, which goes in front of the text.
        formats: forms to write; queries that have too few negatives for ``n-tuple`` are noted as
            ``left_out_of_n_tuple``.
        scores: scores in place of labels and beside tuples, see `write_format`.
        instructions: those of the query and of the document side, for encoding; of the forms only ``flagembedding``
            tells the query's.
        symmetric: queries are candidates too.
        seed: of every choice that is not by score.
        others: the encoders that the rule names (``rule.others``), by these names.
        device: where to search; the result is the same everywhere.

    Returns:
        The ledger of the source, with every row accounted for.

    Raises:
        InputError: a file is damaged, or lacks the columns.
        MissingInputError: there is no such file, and no such dataset on the hub.
        MiningError: there is nothing to search in.
        OptionError: only one of the two columns is named.
    """
    if (query_column is None) != (positive_column is None):
        raise OptionError(
            f"query column {query_column!r} and positive column {positive_column!r}: name both, or neither where the "
            "file has one of the known line forms"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = _local(source, Path(folder))
        card = _card(path, query_column, positive_column, symmetric)
        ledger = Ledger(card.name)
        adapted = pairs.adapt(card, Inputs((path,), {}, Path(folder)), ledger)
        examples = pa.Table.from_batches(number_repeats(adapted.examples), schema=EXAMPLES)
    if not examples.num_rows:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(ledger.dropped.get("adapt", {}).items()))
        raise InputError(
            f"{source}: none of its {ledger.read:,} rows can be used ({reasons or 'it is empty'}); name columns with "
            "--query-column and --positive-column, or use a form that is known, such as {query, positive} or [a, b]"
        )
    documents = None if corpus is None else read_corpus(corpus, ledger)
    mined = mine(
        examples,
        documents,
        kind="pairs",
        rule=rule,
        embed=embed,
        others=others,
        device=device,
        instructions=instructions,
        symmetric=symmetric,
        seed=seed,
        ledger=ledger,
    )
    ledger.written = mined.num_rows
    ledger.check()
    tuples = from_mined(examples, mined, instructions[0])
    for form in dict.fromkeys(formats):
        ending = "jsonl" if form in JSON_FORMATS else "parquet"
        rows = write_format([tuples], form, out / f"{form}.{ending}", scores=scores)
        if form == "n-tuple":
            ledger.note("left_out_of_n_tuple", tuples.num_rows - rows)
    with atomic_file(out / "ledger.json") as file:
        file.write(orjson.dumps(ledger.to_dict(), option=orjson.OPT_INDENT_2))
    return ledger


def read_corpus(path: Path, ledger: Ledger) -> pa.Table:
    """Candidate texts (schema ``DOCUMENTS``) from JSON lines or Parquet; unusable ones are noted, not dropped.

    They are no rows of the dataset, so the ledger only notes ``corpus_{reason}``.

    Raises:
        InputError: a row is no text and has no column ``text``, or no row is usable.
    """
    ids: list[str] = []
    texts: list[str] = []
    for number, row in _corpus_rows(path, Ledger("corpus")):
        value = {"text": row} if isinstance(row, str) else row
        if not isinstance(value, dict) or "text" not in value:
            raise InputError(f"{path}: row {number} has no column 'text'; rename the column that holds the text")
        title = value.get("title")
        joined = f"{title} {value['text']}" if title and isinstance(value["text"], str) else value["text"]
        text, reason = clean(joined)
        if reason is not None:
            ledger.note(f"corpus_{reason}")
            continue
        name = value.get("_id", value.get("id"))
        ids.append(content_id(text) if name is None else str(name))
        texts.append(text)
    if not texts:
        raise InputError(f"{path}: holds no usable text; leave out --corpus to mine among the positives alone")
    return pa.table([ids, texts, [[]] * len(ids)], schema=DOCUMENTS)


def _corpus_rows(path: Path, book: Ledger) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; give a .jsonl or .parquet file of texts")
    if path.suffix != ".parquet":
        yield from json_lines(path, book)
        return
    number = 0
    for batch in parquet_batches(path, None, book):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _local(source: str, folder: Path) -> Path:
    """The source as a local file; a dataset of the hub becomes a Parquet file in ``folder``."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.suffix in FILE_ENDINGS or path.is_absolute() or source.count("/") > 1:
        raise MissingInputError(f"{source}: no such file; give a .jsonl or .parquet file, or a dataset's hub id")
    from datasets import load_dataset

    try:
        dataset = load_dataset(source, split="train")
    except Exception as error:  # whatever the hub client raises, often on several lines
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingInputError(f"{source}: neither a file nor a dataset that the hub gives out ({told})") from error
    path = folder / f"{source.rsplit('/', maxsplit=1)[-1]}.parquet"
    dataset.to_parquet(path)
    return path


def _card(path: Path, query: str | None, positive: str | None, symmetric: bool) -> Card:
    """A card for a file that has none, so that the pairs adapter can read it."""
    stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", path.name.split(".")[0]) or "pairs"
    return Card(
        name=f"own/{stem}",
        description="one's own pairs",
        options=PairsOptions(adapter="pairs", query=query, positive=positive, symmetric=symmetric),
        files={"train": (path.name,)},
        licence=Licence(spdx="unconfirmed", commercial_use="unknown"),
        citation="",
        instruction=InstructionSpec(template="none"),
    )

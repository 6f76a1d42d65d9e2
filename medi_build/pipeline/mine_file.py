"""Hard negatives for anyone's own pairs: a file in, files for the trainers of one's choice out."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Floats32, take_rows
from medi_build.content.cards import Card, InstructionSpec, Licence, PairsOptions
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.formats import Format, Score, from_mined, write_formats
from medi_build.dataset.passages import Passages
from medi_build.dataset.schema import EXAMPLES
from medi_build.devices import Device
from medi_build.embedding import Embed, Prompt, both_sides
from medi_build.errors import InputError, MissingInputError, OptionError
from medi_build.files import atomic_file
from medi_build.ingest.adapters import pairs
from medi_build.ingest.adapters.base import Inputs, number_repeats
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.result import Mined

PAIRS_AT_ONCE = 8192
JSON_FORMATS = ("flagembedding", "tevatron")
FILE_ENDINGS = (".jsonl", ".json", ".gz", ".bz2", ".xz", ".zst", ".parquet", ".csv", ".tsv", ".txt")
"""What tells the name of a file from a hub id, which may have dots as well."""


def mine_file(
    source: str,
    out: Path,
    *,
    embed: Embed,
    rule: MiningRule,
    query_column: str | None = None,
    positive_column: str | None = None,
    negative_column: str | None = None,
    corpus: Path | None = None,
    formats: Sequence[Format] = ("triplet",),
    scores: bool = False,
    instructions: tuple[str | None, str | None] = (None, None),
    symmetric: bool = False,
    seed: int = 42,
    others: Mapping[str, Embed] | None = None,
    device: Device = "cpu",
) -> Ledger:
    """Mine negatives for the pairs of a file and write them.

    Args:
        source: JSON lines or a JSON array, CSV, TSV or Parquet, also gzip, bzip2, xz or zstd; or the train split of a
            dataset on the hub, or of a folder of its files or of `save_to_disk`.
        out: folder for ``{format}.parquet`` or ``{format}.jsonl`` of each format, and ``ledger.json``.
        embed: the encoder.
        rule: the knobs of mining.
        query_column: column of the query; None for the forms that are recognised (see the pairs adapter).
        positive_column: column of the positive or of the list of positives; given together with the query's.
        negative_column: column of the given negative(s); None takes those in columns with a known name.
        corpus: further candidates, a file as `read_corpus` takes it.
        formats: forms to write; queries that have too few negatives for ``n-tuple`` are noted as
            ``left_out_of_n_tuple``. ``flagembedding`` and ``tevatron`` hold all positives of a row, the others one,
            which leaves out as many as ``positives_left_out_of_{form}`` says. Given negatives that a filter rejected,
            or that are more than the rule asks for, are noted as ``given_negative_not_used``.
        scores: scores in place of labels and beside tuples, see `write_format`.
        instructions: those of the query and of the document side, for encoding; None for what an encoder has saved
            for the side, as `mine` says. Of the forms only ``flagembedding`` tells the query's, where it is given.
        symmetric: queries are candidates too, and all texts are encoded as queries.
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
    if (query_column is None) != (positive_column is None) or (negative_column and not query_column):
        raise OptionError(
            f"query column {query_column!r} and positive column {positive_column!r}: name both, or neither (and no "
            "negative column) where the file has one of the known line forms"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = _local(source, Path(folder))
        card = _card(path, (query_column, positive_column, negative_column), symmetric)
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
    ledger.written = len(mined)
    ledger.check()
    scored = "flagembedding" in formats and not rule.cross_encoder_scores
    score = _cosines(embed, both_sides(instructions, alike=symmetric)) if scored else None
    counts: Counter[str] = Counter()
    written = write_formats(
        _tuples(mined, instructions[0] or "", score, counts),
        formats,
        out,
        negatives=mined.most_negatives(),
        scores=scores,
        passages=Passages(documents) if "tevatron" in formats else None,
    )
    ledger.note("given_negative_not_used", _texts_in(examples["negatives"]) - counts["given_negatives_used"])
    for form, rows in written.items():
        if form not in JSON_FORMATS:
            ledger.note(f"positives_left_out_of_{form}", counts["further_positives"])
        if form == "n-tuple":
            ledger.note("left_out_of_n_tuple", len(mined) - rows)
    with atomic_file(out / "ledger.json") as file:
        file.write(orjson.dumps(ledger.to_dict(), option=orjson.OPT_INDENT_2))
    return ledger


def _tuples(mined: Mined, instruction: str, score: Score | None, counts: Counter[str]) -> Iterator[pa.Table]:
    """Tables of schema ``TUPLES``, a block each.

    Counted are ``further_positives``, which mining did not choose, and ``given_negatives_used``, which it did.
    """
    for block in mined.tables():
        tuples = from_mined(mined.examples, block, instruction, score)
        counts["further_positives"] += _texts_in(tuples["further_positives"])
        given = take_rows(mined.examples.select(["negatives"]), block["row"].to_numpy())["negatives"]
        if _texts_in(given):
            lists = zip(given.to_pylist(), tuples["negatives"].to_pylist(), strict=True)
            counts["given_negatives_used"] += sum(len({*own} & {*kept}) for own, kept in lists)
        yield tuples


def _texts_in(lists: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.list_value_length(lists)).as_py() or 0)


def _cosines(embed: Embed, prompts: tuple[Prompt, Prompt]) -> Score:
    """The scores of mining, for positives that it did not look at; their vectors are in the store."""

    def score(queries: list[str], texts: list[str]) -> Floats32:
        found = np.empty(len(texts), np.float32)
        for start in range(0, len(texts), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            left, right = (
                embed(side[some], *prompt).vectors.astype(np.float32)
                for side, prompt in zip((queries, texts), prompts, strict=True)
            )
            found[some] = (left * right).sum(axis=1)
        return found

    return score


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


def _card(path: Path, columns: tuple[str | None, str | None, str | None], symmetric: bool) -> Card:
    """A card for a file that has none, so that the pairs adapter can read it."""
    query, positive, negative = columns
    stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", path.name.split(".")[0]) or "pairs"
    return Card(
        name=f"{pairs.OWN_FILES}/{stem}",
        description="one's own pairs",
        options=PairsOptions(adapter="pairs", query=query, positive=positive, negative=negative, symmetric=symmetric),
        files={"train": (path.name,)},
        licence=Licence(spdx="unconfirmed", commercial_use="unknown"),
        citation="",
        instruction=InstructionSpec(template="none"),
    )

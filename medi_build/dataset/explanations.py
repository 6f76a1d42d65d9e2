"""Why each negative: what mining looked at for each record, in files beside the shards.

For each dataset there are two: ``explain/NNNNN-NAME.parquet`` of schema `EXPLANATIONS`, and its ``.texts.parquet`` of
schema `TEXTS` with every text that was a candidate. Both are beside the dataset: its shards are the same without them.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.errors import DatasetError

GIVEN = -1
LONGEST_TEXT = 500
"""Characters of a candidate's text that are kept."""

TAKEN, LIFTED, SPARE, SKIPPED, NOT_SCORED, MARKED = "taken", "lifted", "spare", "skipped", "not_scored", "marked"
VERDICTS = {
    TAKEN: "a negative of the record",
    LIFTED: "a negative of the record, though a filter rejects it, as it does every text that was drawn",
    SPARE: "nothing against it, but there were enough better ones",
    SKIPPED: "ranked above range_min",
    NOT_SCORED: "further down than the cross-encoder looks",
    MARKED: "somebody marked it as no negative of this query",
}
"""What became of a candidate. Anything else is the filter that rejected it, by its name in the ledger."""


def _list(kind: pa.DataType) -> pa.ListType:
    return pa.list_(pa.field("item", kind, nullable=False))


_NAME = pa.dictionary(pa.int16(), pa.string())
SCORES = ("score", "guide_score", "cross_encoder_score", "false_negative_probability")
EXPLANATIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the record, or of a row without a negative
        pa.field("candidate", _list(pa.int64()), nullable=False),  # `number` of its text
        pa.field("rank", _list(pa.int32()), nullable=False),  # as in the records; -1: given, -2: not ranked
        pa.field("found_by", _list(_NAME), nullable=False),  # "given", "random", or the rankings that had it
        pa.field("verdict", _list(_NAME), nullable=False),  # of `VERDICTS`, or a filter
        *(pa.field(name, _list(pa.float32()), nullable=False) for name in SCORES),  # NaN where nothing was scored
    ]
)
"""One row for each record; its lists are as long as it has candidates."""
TEXTS = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),  # `pos_id` and `neg_id` of the records
        pa.field("text", pa.string(), nullable=False),  # its first `LONGEST_TEXT` characters
    ]
)


def explanation_paths(out: Path, task_id: int, name: str) -> tuple[Path, Path]:
    """Where the explanations of a dataset lie, and where the texts that they name."""
    stem = f"{task_id:05d}-{name.replace('/', '--')}"
    return out / "explain" / f"{stem}.parquet", out / "explain" / f"{stem}.texts.parquet"


@dataclass(frozen=True)
class Candidate:
    """A text that was looked at for a record.

    Attributes:
        id: of the text.
        text: its beginning.
        rank: its place among the candidates, from 0; None where it was given or not ranked.
        found_by: "given", "random", or the rankings that had it.
        verdict: of `VERDICTS`, or the filter that rejected it.
        scores: those there are, by name.
    """

    id: str
    text: str
    rank: int | None
    found_by: str
    verdict: str
    scores: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        about = {"id": self.id, "text": self.text, "rank": self.rank, "found_by": self.found_by}
        return {**about, "verdict": self.verdict, **self.scores}


def has_explanations(dataset: BuiltDataset, entry: DatasetEntry) -> bool:
    """Whether a dataset was built with them, and they are still there."""
    listed = {file.path for file in dataset.manifest.explanations}
    paths = explanation_paths(dataset.root, entry.task_id, entry.name)
    return all(one.relative_to(dataset.root).as_posix() in listed and one.is_file() for one in paths)


def explained(dataset: BuiltDataset, entry: DatasetEntry, record_id: str) -> list[Candidate] | None:
    """The candidates of a record as they were ranked, given ones first, those not ranked last.

    None where nothing is known of this id.

    Raises:
        DatasetError: the dataset has no explanations here, or a file of them cannot be read.
    """
    if not has_explanations(dataset, entry):
        raise DatasetError(
            f"{entry.name}: {dataset.root} holds no explanations of it; the same `medi build` command with --explain "
            "writes them (stored vectors are used again). Versions and pushed datasets have none: name the folder"
        )
    explanations, texts = explanation_paths(dataset.root, entry.task_id, entry.name)
    try:
        row = pl.scan_parquet(explanations).filter(pl.col("id") == record_id).collect()
        if not len(row):
            return None
        numbers = row["candidate"][0]
        told = pl.scan_parquet(texts).filter(pl.col("number").is_in(numbers.implode())).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{explanations}: cannot be read ({error}); build again with --explain") from error
    by_number = {number: (own, text) for number, own, text in told.iter_rows()}
    lists = [row[name][0].to_list() for name in ("candidate", "rank", "found_by", "verdict", *SCORES)]
    found = sorted(zip(*lists, strict=True), key=lambda one: one[1] if one[1] >= GIVEN else math.inf)
    return [_candidate(by_number, *one) for one in found]


def _candidate(
    texts: dict[int, tuple[str, str]], number: int, rank: int, found_by: str, verdict: str, *scores: float
) -> Candidate:
    own, text = texts[number]
    known = {name: score for name, score in zip(SCORES, scores, strict=True) if not math.isnan(score)}
    return Candidate(own, text, rank if rank >= 0 else None, found_by, verdict, known)

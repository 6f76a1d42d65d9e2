"""Ten records of a dataset, from the easiest to the most suspicious, made fit to be looked at."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.arrays import Ints
from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.errors import DatasetError

SHOWN = 10
"""Records of each dataset."""
_WORD = re.compile(r"\w+|\W+")
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Control characters, and marks that turn or hide what stands beside them."""


@dataclass(frozen=True)
class Sample:
    """A record to be shown.

    Attributes:
        id: of the record.
        query: its text as pieces; in all three texts, a piece is a string and whether it is marked.
        positive: marked is what the negative does not have.
        negative: marked is what the positive does not have.
        positive_score: its cosine with the query, NaN if it was not scored.
        negative_score: likewise.
        miner: where the negative comes from.
    """

    id: str
    query: "Pieces"
    positive: "Pieces"
    negative: "Pieces"
    positive_score: float
    negative_score: float
    miner: str


Pieces = Sequence[tuple[str, bool]]


def chosen(records: pl.DataFrame, count: int = SHOWN) -> Ints:
    """Places of records, spread from the largest margin between positive and negative to the smallest.

    Records without scores come first, as nothing speaks against them. Equal margins keep the order of the records.

    Args:
        records: as `medi_build.dataset.report.facts.slim` gives them.
        count: how many; all where there are fewer.
    """
    margin = (records["positive_score"] - records["negative_score"]).to_numpy()
    order = np.argsort(np.where(np.isnan(margin), -np.inf, -margin), kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return order[places]


_SHOWN = ("id", "query", "pos", "neg", "pos_score", "neg_score", "miner")


def read_rows(
    built: BuiltDataset, entry: DatasetEntry, places: Ints, columns: Sequence[str] = _SHOWN
) -> list[dict[str, Any]]:
    """Records of a dataset by their places, in the order asked for; only row groups that hold one are read.

    Raises:
        DatasetError: a shard cannot be read.
    """
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for path in built.shards_of(entry):
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    inside = places[(places >= start) & (places < stop)]
                    if len(inside):
                        rows = (
                            file.read_row_group(group, columns=list(columns)).take(pa.array(inside - start)).to_pylist()
                        )
                        found.update(zip(inside.tolist(), rows, strict=True))
                    start = stop
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: cannot be read ({error}); build or copy it again") from error
    return [found[place] for place in places.tolist()]


def sample(record: dict[str, Any], longest: int) -> Sample:
    """A record of `read_rows` to be shown, its texts cut to ``longest`` characters."""
    query, positive, negative = (record[side][1] for side in ("query", "pos", "neg"))
    return Sample(
        id=visible(record["id"]),
        query=[(shown(query, longest), False)],
        positive=marked(shown(positive, longest), negative),
        negative=marked(shown(negative, longest), positive),
        positive_score=record["pos_score"],
        negative_score=record["neg_score"],
        miner=record["miner"],
    )


def shown(text: str, longest: int) -> str:
    """A text on one line, cut to ``longest`` characters, an ellipsis included, without what cannot be seen."""
    line = " ".join(text[: 4 * longest].split())
    cut = line if len(line) <= longest and len(text) <= 4 * longest else line[: longest - 1].rstrip() + "…"
    return visible(cut)


def visible(text: str) -> str:
    """Control characters, and marks that would turn or hide what stands beside them, by their numbers."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def marked(text: str, other: str) -> Pieces:
    """A text in pieces, of which those are marked whose words the other text does not have.

    Where that would be most of its words, the two have little in common and nothing is marked.
    """
    there = set(_WORD.findall(other.casefold()))
    pieces = _WORD.findall(text)
    words = [piece for piece in pieces if piece[0].isalnum()]
    alone = {word for word in words if word.casefold() not in there}
    if 2 * sum(word in alone for word in words) > len(words):
        alone = set()
    return [("".join(run), key) for key, run in groupby(pieces, key=alone.__contains__)]

"""Records against an index, streaming: each different text is looked at once, each record counted by its worst text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from medi_build.arrays import Hashes
from medi_build.evaluate.contamination.index import EvaluationIndex, mapped
from medi_build.evaluate.contamination.match import KINDS, find_matches
from medi_build.evaluate.contamination.records import SIDES, Block
from medi_build.evaluate.contamination.seen import SeenHashes

_Value = TypeVar("_Value")
MOST_EXAMPLES = 3
"""That are kept for one dataset, evaluation set and kind."""


class Example(NamedTuple):
    """A training text beside the evaluation text that it holds.

    Attributes:
        record: number of the record in its dataset, from 0.
        side: of the record.
        text: the training text.
        role: of the evaluation text (query, document, ...).
        id: of the evaluation text.
        evaluation: the evaluation text.
        similarity: as in `medi_build.evaluate.contamination.match.Matches`.
    """

    record: int
    side: str
    text: str
    role: str
    id: str
    evaluation: str
    similarity: float


@dataclass
class Counts:
    """Records of one dataset that hold text of one evaluation set.

    Attributes:
        records: those with a hit on any side.
        kinds: the same by the strongest kind among their texts.
        sides: by side; a record may have hits on several.
        examples: by kind, the first that were met.
    """

    records: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)


@dataclass
class DatasetCounts:
    """What was found in one dataset.

    Attributes:
        records: of it.
        hit: records with a hit in any evaluation set.
        by_set: number of the evaluation set -> counts, for those with hits.
    """

    records: int = 0
    hit: int = 0
    by_set: dict[int, Counts] = field(default_factory=dict)


@dataclass
class Scan:
    """What was found in all records.

    Attributes:
        datasets: by name, in the order in which they came.
        texts: texts of all records.
        different_texts: of them, the different ones.
    """

    datasets: dict[str, DatasetCounts] = field(default_factory=dict)
    texts: int = 0
    different_texts: int = 0


class Hit(NamedTuple):
    """The best match of a text with one set."""

    set: int
    kind: int
    entry: int
    similarity: float


class Checked(NamedTuple, Generic[_Value]):
    """A value whose texts were looked at.

    Attributes:
        value: as it was given.
        keys: a hash of each of its texts.
        new: how many of them were not met before.
        hits: of all texts so far that hold text of an evaluation, by their hashes.
    """

    value: _Value
    keys: list[int]
    new: int
    hits: Mapping[int, list[Hit]]


def check(index: EvaluationIndex, values: Iterable[tuple[_Value, pa.Array]]) -> Iterator[Checked[_Value]]:
    """Look at the texts (``large_string``) that come with each value; of equal texts the first is looked at."""
    seen = SeenHashes()
    hits: dict[int, list[Hit]] = {}

    def jobs() -> Iterator[tuple[_Value, Hashes, Hashes, pa.Array]]:
        for value, texts in values:
            keys = text_keys(texts)
            new = seen.add(keys)
            yield value, keys, keys[new], texts.take(pa.array(new))

    for (value, keys, new_keys, _), matches in mapped(lambda job: find_matches(index, job[3]), jobs()):
        sets = index.sets[matches.entries]
        columns = (new_keys[matches.texts], sets, matches.kinds, matches.entries, matches.similarities)
        for key, *hit in zip(*(column.tolist() for column in columns), strict=True):
            hits.setdefault(key, []).append(Hit(*hit))
        yield Checked(value, keys.tolist(), len(new_keys), hits)


def text_keys(texts: pa.Array) -> Hashes:
    """A hash of each text, uint64 [t]."""
    values = texts.cast(pa.large_binary()).to_pylist()
    return np.fromiter((xxh3_64_intdigest(value) for value in values), np.uint64, len(values))


def scan(index: EvaluationIndex, blocks: Iterable[Block], progress: Callable[[int], None] = lambda _: None) -> Scan:
    """Look through records.

    Args:
        index: of the evaluation texts.
        blocks: the records.
        progress: called with the number of records done.
    """
    found, done = Scan(), 0
    for checked in check(index, ((block, block.texts) for block in blocks)):
        block = checked.value
        found.texts += len(block.texts)
        found.different_texts += checked.new
        records: dict[int, list[_Found]] = {}
        for text, key in enumerate(checked.keys):
            for hit in checked.hits.get(key, ()):
                records.setdefault(int(block.rows[text]), []).append(_Found(text, hit))
        for row, name in enumerate(block.datasets):
            counts = found.datasets.setdefault(name, DatasetCounts())
            if row in records:
                _count(counts, records[row], block, index)
            counts.records += 1
        done += len(block.datasets)
        progress(done)
    return found


class _Found(NamedTuple):
    """A text of a block and what it holds."""

    text: int
    hit: Hit


def _count(dataset: DatasetCounts, found: list[_Found], block: Block, index: EvaluationIndex) -> None:
    """Count one record with hits, and keep it as an example where there are few."""
    dataset.hit += 1
    for number in sorted({one.hit.set for one in found}):
        own = [one for one in found if one.hit.set == number]
        best = min(own, key=lambda one: (one.hit.kind, -one.hit.similarity, one.text))
        counts = dataset.by_set.setdefault(number, Counts())
        kind = KINDS[best.hit.kind]
        counts.records += 1
        counts.kinds[kind] += 1
        counts.sides.update({SIDES[block.sides[one.text]] for one in own})
        examples = counts.examples.setdefault(kind, [])
        if len(examples) < MOST_EXAMPLES:
            [entry] = index.entries(np.array([best.hit.entry]))
            side, text = SIDES[block.sides[best.text]], block.texts[best.text].as_py()
            examples.append(Example(dataset.records, side, text, *entry, best.hit.similarity))

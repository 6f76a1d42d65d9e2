"""A built dataset beside a public release of MEDI: which tasks are which, and what the two have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from medi_build.arrays import Ints
from medi_build.dataset.overlap import TextHashes, digest, incidence, number, record_digests
from medi_build.dataset.reader import BuiltDataset

MOST_PHRASINGS = 1000
"""Different instructions that are told apart for one task."""
FEWEST_SHARED = 3
LEAST_SHARE = 0.005
"""Of the smaller side's queries: a sample of 25,000 out of 3,000,000 meets another one in 0.8 % of them."""
LEAD = 2
"""So many times as many queries must be shared with one dataset as with the next one."""


class ReleaseRow(NamedTuple):
    """One row of a release.

    Attributes:
        task: name or number of its task.
        query_instruction: as it stands there.
        query: text.
        document_instruction: of the positive, as it stands there.
        negatives: texts.
    """

    task: str
    query_instruction: str
    query: str
    document_instruction: str
    negatives: Sequence[str]


@dataclass(frozen=True)
class Task:
    """One task of a release, or one dataset of a build.

    Attributes:
        name: of the task or dataset; of a release it may be a number.
        rows: of it.
        query_instruction: the commonest, without its separator.
        document_instruction: that of the same rows.
        phrasings: how many pairs of instructions there are.
    """

    name: str
    rows: int
    query_instruction: str
    document_instruction: str
    phrasings: int


@dataclass(frozen=True)
class Side:
    """All tasks of one side, and the hashes of their texts by the place of the task."""

    tasks: Sequence[Task]
    queries: TextHashes
    negatives: TextHashes


@dataclass(frozen=True)
class Shared:
    """How many different texts of ours there are, and how many of them stand in the release."""

    ours: int
    there: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.there / self.ours if self.ours else 0.0


@dataclass(frozen=True)
class Match:
    """One task that is on both sides.

    Attributes:
        released: as in the release.
        built: as in the build.
        by: what it was found by.
        queries: of ours that stand in that task of the release.
        negatives: likewise.
    """

    released: Task
    built: Task
    by: Literal["name", "queries"]
    queries: Shared
    negatives: Shared


@dataclass(frozen=True)
class Comparison:
    """A build beside a release.

    Attributes:
        matches: tasks on both sides, in the build's order.
        unresolved: tasks of the release that are found in the build neither by name nor by their queries.
        only_built: datasets of the build that no task of the release was found to be.
        released_rows: of all tasks.
        built_rows: of all datasets.
        queries: of ours that stand anywhere in the release.
        negatives: likewise.
    """

    matches: Sequence[Match]
    unresolved: Sequence[Task]
    only_built: Sequence[Task]
    released_rows: int
    built_rows: int
    queries: Shared
    negatives: Shared


@lru_cache(maxsize=4096)
def plain_instruction(text: str) -> str:
    """An instruction without its separator, which was ``; Input: `` in 2022 and ``;`` from 2023 on."""
    return " ".join(text.split()).removesuffix("Input:").rstrip(" ;:")


def side_of_release(rows: Iterable[ReleaseRow]) -> Side:
    """Read a release to its end; no text is kept but the instructions."""
    places: dict[str, int] = {}
    counts: list[Counter[tuple[str, str]]] = []
    totals: list[int] = []
    queries, negatives = TextHashes(), TextHashes()
    for row in rows:
        place = places.setdefault(row.task, len(places))
        if place == len(counts):
            counts.append(Counter())
            totals.append(0)
        totals[place] += 1
        pair = (plain_instruction(row.query_instruction), plain_instruction(row.document_instruction))
        if pair in counts[place] or len(counts[place]) < MOST_PHRASINGS:
            counts[place][pair] += 1
        queries.add(place, [digest(row.query)])
        negatives.add(place, [digest(text) for text in row.negatives])
    tasks = []
    for name, place in places.items():
        pair = min(counts[place], key=lambda one: (-counts[place][one], one))
        tasks.append(Task(name, totals[place], *pair, len(counts[place])))
    return Side(tasks, queries, negatives)


def side_of_build(dataset: BuiltDataset) -> Side:
    """The same of a built folder. Raises `DatasetError` where a shard cannot be read."""
    tasks = []
    queries, negatives = TextHashes(), TextHashes()
    for place, one in enumerate(dataset.manifest.datasets):
        asked, given = map(plain_instruction, one.instructions[0])
        tasks.append(Task(one.name, one.rows, asked, given, len(one.instructions)))
        for shard in one.shards:
            for query, negative in record_digests(dataset.root / shard.path, ("query", "neg")):
                queries.add(place, query)
                negatives.add(place, negative)
    return Side(tasks, queries, negatives)


def compare(built: Side, released: Side) -> Comparison:
    """Find out which task is which, by name, else by the queries they share, and count what stands on both sides.

    By queries, a task is the dataset that shares most of them with it, if the two are each other's best, share at least
    `FEWEST_SHARED` and `LEAST_SHARE` of the smaller side, and no other dataset shares half as many.
    """
    queries = _Counted(built.queries, released.queries, len(built.tasks), len(released.tasks))
    negatives = _Counted(built.negatives, released.negatives, len(built.tasks), len(released.tasks))
    found: dict[int, tuple[int, Literal["name", "queries"]]] = {}
    for there, here in _by_name(built.tasks, released.tasks):
        found[here] = (there, "name")
    for there, here in _by_queries(queries, found):
        found[here] = (there, "queries")
    matches = [
        Match(released.tasks[there], built.tasks[here], by, queries.of(there, here), negatives.of(there, here))
        for here, (there, by) in sorted(found.items())
    ]
    resolved = {there for there, _ in found.values()}
    return Comparison(
        matches=matches,
        unresolved=[task for place, task in enumerate(released.tasks) if place not in resolved],
        only_built=[task for place, task in enumerate(built.tasks) if place not in found],
        released_rows=sum(task.rows for task in released.tasks),
        built_rows=sum(task.rows for task in built.tasks),
        queries=queries.anywhere,
        negatives=negatives.anywhere,
    )


class _Counted:
    """Texts of both sides, counted once each in every task.

    Attributes:
        shared: different texts that a task of the release (row) and a dataset of ours (column) have in common, [r, b].
        built: different texts of each dataset, [b].
        released: different texts of each task, [r].
        anywhere: of all datasets and all tasks.
    """

    def __init__(self, built: TextHashes, released: TextHashes, datasets: int, tasks: int) -> None:
        hashes = np.concatenate([built.hashes, released.hashes])
        numbers = number(hashes)
        width = int(numbers.max(initial=-1)) + 1
        size = len(built.hashes)
        ours = incidence(built.groups, numbers[:size], datasets, width)
        theirs = incidence(released.groups, numbers[size:], tasks, width)
        self.shared: Ints = (theirs @ ours.T).toarray()
        self.built: Ints = np.diff(ours.indptr)
        self.released: Ints = np.diff(theirs.indptr)
        here, there = np.zeros(width, bool), np.zeros(width, bool)
        here[numbers[:size]], there[numbers[size:]] = True, True
        self.anywhere = Shared(int(here.sum()), int((here & there).sum()))

    def of(self, there: int, here: int) -> Shared:
        """What a dataset has in common with a task."""
        return Shared(int(self.built[here]), int(self.shared[there, here]))


def _by_name(built: Sequence[Task], released: Sequence[Task]) -> list[tuple[int, int]]:
    """``(task, dataset)`` of equal names, where no other task or dataset has that name as well."""
    ours, theirs = _named(built), _named(released)
    return [(there, ours[name]) for name, there in theirs.items() if name in ours]


def _named(tasks: Sequence[Task]) -> dict[str, int]:
    """Place of each task by the last part of its name, in small letters and figures; numbers are no names."""
    names = [_last_part(task.name) for task in tasks]
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1 and name and not name.isdecimal()}


def _last_part(name: str) -> str:
    file = name.rsplit("/", 1)[-1].lower()
    for ending in (".gz", ".jsonl", ".json", ".parquet"):
        file = file.removesuffix(ending)
    return "".join(letter for letter in file if letter.isalnum())


def _by_queries(counted: _Counted, found: dict[int, Any]) -> list[tuple[int, int]]:
    """``(task, dataset)`` that are each other's best, by the queries they share, among those without a match."""
    shared = counted.shared.copy()
    shared[:, list(found)] = 0
    shared[[there for there, _ in found.values()], :] = 0
    pairs = []
    for there in range(shared.shape[0] if shared.size else 0):
        here = int(shared[there].argmax())
        most = int(shared[there, here])
        runner_up = int(np.delete(shared[there], here).max(initial=0))
        enough = max(FEWEST_SHARED, LEAST_SHARE * min(counted.built[here], counted.released[there]))
        if most >= enough and most >= LEAD * runner_up and int(shared[:, here].argmax()) == there:
            pairs.append((there, here))
    return pairs

"""Everything that a page shows, gathered from a built dataset and, if wanted, from another to compare it with."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medi_build.arrays import Bools, Vectors
from medi_build.dataset.diff import Difference, diff
from medi_build.dataset.reader import BuiltDataset, DatasetEntry, Manifest
from medi_build.dataset.report.facts import DatasetFacts, facts, slim
from medi_build.dataset.report.flow import Step, flow
from medi_build.dataset.report.samples import Sample, chosen, read_rows, sample, shown
from medi_build.dataset.report.texts_map import FEWEST_POINTS, Point, drawn, layout
from medi_build.dataset.report.warnings import Found, Warnings, warnings

MAP_TEXT = 90

MOST_COMPARED = 200_000
"""Queries of all datasets that are compared with others of their dataset, about."""
FEWEST_COMPARED = 500
"""Of each dataset, if it has so many."""

Embed = Callable[[Sequence[str]], Vectors]
Alike = Callable[[Sequence[str]], Bools]
"""Which texts are nearly the same as another one of them, bool [n]."""
Tell = Callable[[str, int, int], None]
"""Told of what is read, how much of it is done, and of how much."""


@dataclass(frozen=True)
class DatasetPart:
    """What the page shows of one dataset.

    Attributes:
        entry: of the manifest.
        facts: its figures.
        before: those of the build that it is compared with; None where there is none, or they are the same.
        found: what is worth a look.
        records: of `read_rows`, from the easiest to the most suspicious.
    """

    entry: DatasetEntry
    facts: DatasetFacts
    before: DatasetFacts | None
    found: Sequence[Found]
    records: Sequence[dict[str, Any]]

    def samples(self, longest: int) -> list[Sample]:
        """Its records to be shown, texts cut to ``longest`` characters."""
        return [sample(record, longest) for record in self.records]

    @property
    def lost(self) -> int:
        """Raw rows that became no record."""
        ledger = self.entry.ledger
        return int(ledger["read"] - ledger["written"])


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        name: of what it is about, as the user gave it.
        manifest: of the build.
        parts: of each dataset, in the manifest's order.
        warnings: the gravest first.
        steps: where the raw rows went.
        licences: (licence, commercial use) -> datasets and records, most records first.
        points: the map; empty where there is none.
        against: name of the build that it is compared with; empty for none.
        difference: to that one.
    """

    name: str
    manifest: Manifest
    parts: Sequence[DatasetPart]
    warnings: Sequence[Warnings]
    steps: Sequence[Step]
    licences: Sequence[tuple[tuple[str, str], int, int]]
    points: Sequence[Point]
    against: str
    difference: Difference | None

    @property
    def grave(self) -> int:
        """Datasets with more than a note."""
        return len({one.dataset for kind in self.warnings if kind.grade != "note" for one in kind.found})

    @property
    def read(self) -> int:
        """Raw rows of all datasets."""
        return sum(int(part.entry.ledger["read"]) for part in self.parts)


def gather(
    built: BuiltDataset,
    name: str,
    against: tuple[str, BuiltDataset] | None,
    embed: Embed | None,
    alike: Alike,
    seed: int,
    tell: Tell,
) -> Report:
    """Read a built dataset once, and the rows that are shown.

    Args:
        built: the dataset.
        name: what the user calls it.
        against: another one to compare it with, and its name.
        embed: texts to vectors [n, d], for the map; None for no map.
        alike: finds queries that are nearly the same; of a large dataset a sample is given to it.
        seed: draws the texts of the map, and those that are compared.
        tell: told how far it is.

    Raises:
        DatasetError: a shard cannot be read.
    """
    entries = built.manifest.datasets
    before = {} if against is None else {one.name: one for one in against[1].manifest.datasets}
    on_map = drawn([one.rows for one in entries], seed)
    figures, old, records, texts = [], [], [], []
    for number, entry in enumerate(entries):
        tell("datasets", number, len(entries))
        table = slim(built, entry)
        figures.append(facts(table, alike(_compared(built, entry, len(entries), seed))))
        known = before.get(entry.name)
        changed = known is not None and [one.sha256 for one in known.shards] != [one.sha256 for one in entry.shards]
        old.append(facts(slim(against[1], known), _NONE) if against and known and changed else None)
        ranked = chosen(table)
        rows = read_rows(built, entry, np.concatenate([ranked, on_map[number]]))
        records.append(rows[: len(ranked)])
        texts += [(number, row["query"][1]) for row in rows[len(ranked) :]]
    tell("datasets", len(entries), len(entries))
    kinds = warnings(built.manifest, figures)
    found: dict[str, list[Found]] = defaultdict(list)
    for one in (one for kind in kinds for one in kind.found):
        found[one.dataset].append(one)
    return Report(
        name=name,
        manifest=built.manifest,
        parts=[
            DatasetPart(entry, fact, was, found[entry.name], rows)
            for entry, fact, was, rows in zip(entries, figures, old, records, strict=True)
        ],
        warnings=kinds,
        steps=flow(entries),
        licences=_licences(entries),
        points=_points(texts, embed, seed) if embed is not None and len(texts) >= FEWEST_POINTS else [],
        against=against[0] if against else "",
        difference=diff(against[1], built) if against else None,
    )


_NONE = np.zeros(0, bool)


def _compared(built: BuiltDataset, entry: DatasetEntry, datasets: int, seed: int) -> list[str]:
    """Queries of a dataset, drawn where it has many."""
    most = max(FEWEST_COMPARED, MOST_COMPARED // datasets)
    rows = read_rows(built, entry, drawn([entry.rows], seed, most)[0], ["query"])
    return [row["query"][1] for row in rows]


def _licences(entries: Sequence[DatasetEntry]) -> list[tuple[tuple[str, str], int, int]]:
    datasets, rows = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in entries:
        datasets[one.licence, one.commercial_use] += 1
        rows[one.licence, one.commercial_use] += one.rows
    return [(key, datasets[key], count) for key, count in rows.most_common()]


def _points(texts: Sequence[tuple[int, str]], embed: Embed, seed: int) -> list[Point]:
    places = layout(embed([text for _, text in texts]), seed)
    return [
        Point(int(x), int(y), dataset, shown(text, MAP_TEXT))
        for (x, y), (dataset, text) in zip(places, texts, strict=True)
    ]

"""What of a build is worth a look before anybody trains on it, the gravest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from medi_build.dataset.reader import DatasetEntry, Manifest, Overlap
from medi_build.dataset.report.facts import DatasetFacts

Grade = Literal["error", "warning", "note"]
GRADES: tuple[Grade, ...] = ("error", "warning", "note")
MOST_ABOVE = 0.25
MOST_LOST = 0.5
MOST_COPIES = 0.25
MOST_REPEATED = 0.5
MOST_ALIKE = 0.25
MOST_OF_ALL = 0.25
FEWEST = 32
"""Records below which a dataset hardly fills a batch."""
KINDS: dict[str, tuple[Grade, str]] = {
    "empty": ("error", "Without a record, and the reason under which most rows were lost"),
    "lost": ("warning", "More than half of the raw rows lost, those aside that a cap left out"),
    "margin": (
        "warning",
        "Negatives at least as near to the query as the given positive, in over a quarter of the records: read the "
        "last of the ten; max_score, relative_margin or a cross-encoder take such negatives away",
    ),
    "length": (
        "warning",
        "Length alone tells positive from negative; the area under the curve, where 0.5 is not at all",
    ),
    "copies": (
        "warning",
        "Positives that are near copies of the query, in over a quarter of the records; they teach little",
    ),
    "share": ("note", "More than a quarter of all records; a cap holds a dataset down"),
    "near": (
        "note",
        "Negatives at least as near to the query as the positive, in over a quarter of the records, where labels or "
        "outputs tell which is which: hard on purpose",
    ),
    "repeated": ("note", "Queries that stand in an earlier record of the dataset, in over half of the records"),
    "alike": (
        "note",
        "Queries that are nearly the same as another one of the dataset, in over a quarter of those that were compared",
    ),
    "overlap": ("note", "Pairs that stand in an earlier dataset, too; --dedup drops them"),
    "small": ("note", f"Fewer than {FEWEST} records, which hardly fill a batch"),
    "licence": ("note", "Commercial use not allowed, or not known to be"),
}
"""What there is to find, the gravest first, and what it means."""


class Found(NamedTuple):
    """A dataset in which there is something to be looked at.

    Attributes:
        kind: of `KINDS`.
        dataset: its name.
        value: how much; the largest is the worst.
        told: the value, to be read.
    """

    kind: str
    dataset: str
    value: float
    told: str


@dataclass(frozen=True)
class Warnings:
    """What is worth a look, of one kind.

    Attributes:
        kind: its name.
        grade: how grave.
        text: what it means.
        found: where, the worst first.
    """

    kind: str
    grade: Grade
    text: str
    found: Sequence[Found]


def warnings(manifest: Manifest, figures: Sequence[DatasetFacts]) -> list[Warnings]:
    """Everything worth a look, the gravest kind first.

    Args:
        manifest: of the build.
        figures: of each of its datasets, in its order.
    """
    overlaps = {} if manifest.pipeline["dedup"] else {one.name: one for one in manifest.overlaps}
    found: dict[str, list[Found]] = {kind: [] for kind in KINDS}
    for entry, fact in zip(manifest.datasets, figures, strict=True):
        for one in _of(entry, fact, manifest, overlaps.get(entry.name)):
            found[one.kind].append(one)
    return [
        Warnings(kind, *KINDS[kind], sorted(some, key=lambda one: -one.value)) for kind, some in found.items() if some
    ]


def _of(entry: DatasetEntry, fact: DatasetFacts, manifest: Manifest, overlap: Overlap | None) -> Iterator[Found]:
    name, ledger = entry.name, entry.ledger
    if not fact.rows:
        yield Found("empty", name, ledger["read"], _worst_loss(entry) or "its files hold no row")
        return
    shares = {
        "lost": (_lost(entry), MOST_LOST),
        ("margin" if entry.kind == "pairs" else "near"): (fact.negative_above / max(fact.scored, 1), MOST_ABOVE),
        "copies": (fact.share(fact.near_copies), MOST_COPIES),
        "repeated": (fact.share(fact.repeated_queries), MOST_REPEATED),
        "alike": (fact.alike / max(fact.looked, 1), MOST_ALIKE),
        "share": (fact.rows / manifest.rows if len(manifest.datasets) > 1 else 0.0, MOST_OF_ALL),
    }
    for kind, (share, most) in shares.items():
        if share > most:
            yield Found(kind, name, share, f"{share:.0%}".replace("%", " %"))
    if ledger["notes"].get("length_shortcut"):
        yield Found("length", name, ledger["measures"]["length_auc"], f"{ledger['measures']['length_auc']:.2f}")
    if overlap is not None and overlap.repeated_pairs:
        yield Found("overlap", name, overlap.repeated_pairs, f"{overlap.repeated_pairs:,}")
    if fact.rows < FEWEST:
        yield Found("small", name, -fact.rows, str(fact.rows))
    if entry.commercial_use != "allowed":
        yield Found("licence", name, fact.rows, f"{entry.licence}, {entry.commercial_use.replace('-', ' ')}")


def _lost(entry: DatasetEntry) -> float:
    """Share of the raw rows that were lost, those aside that a cap left out."""
    capped = entry.ledger["dropped"].get("sample", {}).get("over_cap", 0)
    read = entry.ledger["read"] - capped
    return (read - entry.ledger["written"]) / read if read else 0.0


def _worst_loss(entry: DatasetEntry) -> str:
    """The reason under which most rows were lost; empty if none was."""
    reasons = [(count, why) for some in entry.ledger["dropped"].values() for why, count in some.items()]
    return "{1} {0:,}".format(*max(reasons)) if reasons else ""

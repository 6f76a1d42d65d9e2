"""What a build takes on so many nodes of a cluster: hours, money, network and disk. Pure; all figures are at most."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from medi_build.pipeline.estimate import BYTES_PER_ROW, TEXTS_PER_ROW, USUAL_DIMENSION, DatasetEstimate, Estimate
from medi_build.search.parts import LIST_CELLS, QUERIES_AT_ONCE

NODES = (1, 2, 4, 8, 16, 32, 64)
BYTES_PER_PLACE = 16
"""Of a list: an id and a score."""
BYTES_PER_TEXT = 500
"""Of a text of 100 tokens; as long as that all are taken to be."""


@dataclass(frozen=True)
class Node:
    """What one node does.

    Attributes:
        texts_per_second: encoded by the pipeline's main encoder; the others are taken to be as fast.
        scores_per_second: inner products of an exact search.
        price: of an hour; None if nobody tells.
    """

    texts_per_second: float
    scores_per_second: float
    price: float | None = None


@dataclass(frozen=True)
class OnNodes:
    """What the build takes on some nodes.

    Attributes:
        nodes: how many.
        hours: of encoding and searching, until the last dataset is done.
        money: for all nodes through these hours; None without a price.
        vectors: bytes on the disk of a node, on the average, of those that it encodes.
    """

    nodes: int
    hours: float
    money: float | None
    vectors: float


@dataclass(frozen=True)
class ClusterPlan:
    """A build on a cluster.

    Attributes:
        encoding: node hours.
        searching: node hours.
        longest: the dataset that takes longest on one node.
        longest_hours: it does.
        network: bytes between nodes: texts, vectors, parts and lists of datasets that are handed out, and the results.
        on: by the number of nodes.
    """

    encoding: float
    searching: float
    longest: str
    longest_hours: float
    network: float
    on: tuple[OnNodes, ...]


def cluster_plan(
    figures: Estimate, node: Node, listed: int, split_above: int | None = None, counts: Sequence[int] = NODES
) -> ClusterPlan:
    """The figures of a plan for nodes that are all alike.

    A dataset keeps one node busy until it is done, unless it is handed out in pieces.

    Args:
        figures: of the plan, with at least one dataset.
        node: what one does.
        listed: candidates that are ranked for a query.
        split_above: as in `UnitJob`.
        counts: of nodes.
    """
    works = [(one, *_hours(one, figures.encoders, node)) for one in figures.datasets]
    encoding, searching = sum(work[1] for work in works), sum(work[2] for work in works)
    longest, *its = max(works, key=lambda work: work[1] + work[2])
    alone = [encode + search for one, encode, search in works if not _is_split(one, split_above)]
    on = []
    for count in counts:
        hours = max((encoding + searching) / count, *alone, 0.0)
        money = None if node.price is None else hours * count * node.price
        on.append(OnNodes(count, hours, money, figures.vectors / count))
    network = sum(_network(one, figures, listed, split_above) for one in figures.datasets)
    return ClusterPlan(encoding, searching, longest.name, sum(its), network, tuple(on))


def _texts(dataset: DatasetEstimate) -> int:
    return TEXTS_PER_ROW * (dataset.rows or 0) + dataset.passages


def _candidates(dataset: DatasetEstimate) -> int:
    return (dataset.rows or 0) + dataset.passages


def _hours(dataset: DatasetEstimate, encoders: int, node: Node) -> tuple[float, float]:
    """One node's hours of encoding and of searching."""
    scores = (dataset.rows or 0) * _candidates(dataset) * encoders
    return _texts(dataset) * encoders / node.texts_per_second / 3600, scores / node.scores_per_second / 3600


def _is_split(dataset: DatasetEstimate, split_above: int | None) -> bool:
    return split_above is not None and max(dataset.rows or 0, dataset.passages) > split_above


def _network(dataset: DatasetEstimate, figures: Estimate, listed: int, split_above: int | None) -> float:
    """Bytes of the results, and of what is handed out: texts, vectors, candidates for each turn of queries, lists."""
    rows = dataset.rows or 0
    results = float(rows * BYTES_PER_ROW)
    if split_above is None or not _is_split(dataset, split_above):
        return results
    vector = 2 * (figures.speed.dimension if figures.speed else USUAL_DIMENSION)
    candidates, turns = _candidates(dataset), ceil(rows / min(QUERIES_AT_ONCE, LIST_CELLS // listed))
    lists = rows * ceil(candidates / split_above) * listed * BYTES_PER_PLACE
    encoded = _texts(dataset) * (BYTES_PER_TEXT + vector)
    return results + figures.encoders * (encoded + turns * candidates * vector + lists)

"""Texts as points in two dimensions: what is alike stands together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medi_build.arrays import Ints, Vectors

POINTS = 1500
"""Texts on a map."""
FEWEST_POINTS = 30
"""Fewer make no map."""
EACH = 3
"""Texts of each dataset that are shown at least, if it has so many."""
SIZE = 1000
"""Width and height of a map, on which places are whole numbers."""


@dataclass(frozen=True)
class Point:
    """A text on the map; ``x`` and ``y`` from 0 to `SIZE`, ``group`` and ``dataset`` by number."""

    x: int
    y: int
    dataset: int
    text: str


def drawn(rows: Sequence[int], seed: int, points: int = POINTS) -> list[Ints]:
    """For each dataset the places of records that are shown: in proportion to its records, at least `EACH`.

    Args:
        rows: records of each dataset.
        seed: of the draw; each dataset has a stream of its own, so that another one moves none of its points.
        points: how many there are to be, about.
    """
    total = sum(rows)
    counts = [min(count, max(EACH, points * count // max(total, 1))) for count in rows]
    return [
        np.sort(np.random.default_rng([seed, number]).choice(count, wanted, replace=False))
        for number, (count, wanted) in enumerate(zip(rows, counts, strict=True))
    ]


def layout(vectors: Vectors, seed: int) -> Ints:
    """Places [n, 2] from 0 to `SIZE` of texts by the cosines of their vectors [n, d].

    By t-SNE (van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008); the same for the same vectors and seed.
    """
    from sklearn.manifold import TSNE

    found = np.asarray(
        TSNE(
            n_components=2, metric="cosine", init="pca", perplexity=min(30, (len(vectors) - 1) / 3), random_state=seed
        ).fit_transform(vectors.astype(np.float32))
    )
    low, high = np.quantile(found, (0.002, 0.998), axis=0)
    inside = np.clip((found - low) / np.maximum(high - low, 1e-9), 0, 1)
    places: Ints = np.round(inside * SIZE).astype(np.int64)
    return places

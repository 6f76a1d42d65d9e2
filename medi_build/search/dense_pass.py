"""One pass of a search: the corpus in blocks, and for each query a short list of what can be among its best.

`dense_lists.py` says how a list is kept, `dense.py` what is made of the lists.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from medi_build.arrays import Ints, Vectors
from medi_build.errors import MiningError
from medi_build.search.dense_lists import GROUP, Joined, Lists, SearchPass, joined
from medi_build.search.exclusions import Exclusions, TiledPairs, forbidden

LABEL_CELLS = 1 << 25
"""Pairs whose labels are compared at a time; each takes nine bytes."""


def candidate_lists(queries: Any, corpus: Vectors, exclusions: Exclusions, plan: SearchPass) -> tuple[Joined, Any]:
    """The candidates of all queries that a pass leaves, and a bound, float64 [q], of the error of their scores.

    Args:
        queries: float16 [q, d], q at least 1.
        corpus: float16 [n, d], n at least 1; read in blocks.
        exclusions: of these queries.
        plan: how the pass is made.

    Raises:
        MiningError: a vector of the corpus holds NaN or infinity.
    """
    import torch

    bound, coarse = ErrorBound(queries, plan.dtype), queries.to(plan.dtype)
    excluded = Excluded(exclusions, len(corpus), plan, queries.device)
    height = plan.blocks.queries
    tiles = [slice(start, min(start + height, len(queries))) for start in range(0, len(queries), height)]
    lists = [Lists(rows.stop - rows.start, plan, queries.device) for rows in tiles]
    for first, block in _blocks(corpus, plan.blocks.corpus):
        error = bound.with_block(block)
        texts = torch.nn.functional.pad(block.to(plan.dtype), (0, 0, 0, -len(block) % GROUP))
        for rows, running in zip(tiles, lists, strict=True):
            scores = coarse[rows] @ texts.T
            scores[:, len(block) :] = -torch.inf
            excluded.take_out(scores[:, : len(block)], rows, first)
            running.add(scores, first, error[rows])
    for rows, running in zip(tiles, lists, strict=True):
        running.keep_best(error[rows])
    return joined(lists), error


class ErrorBound:
    """How far a score of a pass can be from the true inner product, before it is rounded to the product's format.

    |q.c - q'.c'| <= |q - q'| |c| + |q'| |c - c'|, where q' and c' are what the format makes of a query and a text, and
    twice the bound of a sum of d products in float32, in any order (Higham 2002, section 3.1).
    """

    def __init__(self, queries: Any, dtype: Any) -> None:
        self._dtype = dtype
        self._summing = queries.shape[1] * 2.0**-23
        self._query_norm, self._query_lost = _norms(queries, dtype)
        self._norm = self._lost = 0.0

    def with_block(self, block: Any) -> Any:
        """The bound, float64 [q], for all texts so far and those of a block, float16 [n, d]."""
        norms, losses = _norms(block, self._dtype)
        return self.with_norm(float(norms.max()), float(losses.max()))

    def with_norm(self, norm: float, lost: float = 0.0) -> Any:
        """The same for texts of at most such a norm, and of at most such a norm of what they lose in the format."""
        self._norm, self._lost = max(self._norm, norm), max(self._lost, lost)
        of_text = self._lost + self._summing * (self._norm + self._lost)
        error = self._query_lost * self._norm + (self._query_norm + self._query_lost) * of_text + _least(self._dtype)
        return error.double()


class Excluded:
    """Takes excluded pairs out of tiles of scores."""

    def __init__(self, exclusions: Exclusions, candidates: int, plan: SearchPass, device: Any) -> None:
        import torch

        self._pairs = TiledPairs(exclusions.pairs, candidates, *plan.blocks)
        self._rows, self._columns = (
            torch.from_numpy(part).to(device, torch.int64) for part in (self._pairs.rows, self._pairs.columns)
        )
        self._labels = exclusions.labels
        if exclusions.labels is not None:
            sides = (exclusions.labels.query, exclusions.labels.corpus)
            self._query_bits, self._corpus_bits = (torch.from_numpy(bits).to(device) for bits in sides)

    def take_out(self, scores: Any, rows: slice, first: int) -> None:
        """Set the scores of excluded pairs to minus infinity; the texts are those from number ``first`` on."""
        import torch

        if self._labels is not None:
            texts, queries = self._corpus_bits[first : first + scores.shape[1]], self._query_bits[rows]
            step = max(1, LABEL_CELLS // len(texts))
            for start in range(0, len(queries), step):
                some = slice(start, start + step)
                scores[some].masked_fill_(forbidden(queries[some], texts, self._labels.mode), -torch.inf)
        pairs = self._pairs.span(rows.start, first)
        if pairs.start < pairs.stop:
            places = self._rows[pairs] - rows.start, self._columns[pairs] - first
            scores.index_put_(places, scores.new_full((), -torch.inf))  # a plain number would be waited for


def _blocks(corpus: Vectors, rows: int) -> Iterator[tuple[int, Any]]:
    """The corpus block by block: the number of the first text, and the vectors."""
    for first in range(0, len(corpus), rows):
        block = corpus[first : first + rows]
        yield first, to_tensor(block, "corpus", np.arange(first, first + len(block)))


def to_tensor(vectors: Vectors, name: str, numbers: Ints) -> Any:
    """Rows, which have these numbers, as a float16 tensor; refuses NaN and infinity."""
    import torch

    tensor = torch.from_numpy(np.array(vectors))  # no view: a memory map is read-only, and torch would warn
    # A sum of squares in float32 is finite if and only if all of its float16 terms are.
    if not torch.isfinite(tensor.float().square_().sum(dim=1)).all():
        refuse(tensor, name, numbers)
    return tensor


def refuse(vectors: Any, name: str, numbers: Ints) -> NoReturn:
    """Raise `MiningError` about the rows, which have these numbers, that hold NaN or infinity."""
    import torch

    bad = torch.nonzero(~torch.isfinite(vectors).all(dim=1))
    raise MiningError(
        f"vector {numbers[int(bad[0])]} of the {name} holds NaN or infinity ({len(bad)} such rows here); "
        "the encoder gave unusable vectors, try dtype float32"
    )


def _least(dtype: Any) -> float:
    """Absolute error of writing a sum that is too small for the relative one to hold."""
    import torch

    return 2.0**-24 if dtype == torch.float16 else 0.0


def _norms(original: Any, dtype: Any) -> tuple[Any, Any]:
    """Norm of each row, and norm of what it loses in ``dtype``, a little enlarged for their own rounding."""
    wide = original.float()
    return 1.001 * wide.norm(dim=1), 1.001 * (wide - original.to(dtype).float()).norm(dim=1)

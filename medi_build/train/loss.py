"""The INSTRUCTOR training objective over vectors.

The public trainer (Su et al. 2023, `train.py`) is the definition; the tests hold its per-pair loop as the oracle.
"""

import torch
from torch import Tensor
from torch.nn import functional


def instructor_loss(
    query: Tensor,
    pos: Tensor,
    neg: Tensor,
    temperature: float,
    *,
    present: Tensor | None = None,
    in_batch_negatives: bool = True,
) -> Tensor:
    """The loss of one batch (`compute_loss` of the public trainer, which knows one negative a row).

    ``CE([q_i.p_i, q_i.n_1 .. q_i.n_B] / t, 0) + CE(p_i.[q_1 .. q_B] / t, i)``, means over the rows: other rows'
    positives are not in the first denominator, negatives are not in the second. Further negatives of the rows stand
    beside ``n_1 .. n_B``.

    Args:
        query: float [b, d], not necessarily normalised.
        pos: float [b, d].
        neg: float [b, d], one hard negative a row, or [k, b, d], up to k a row.
        temperature: divides the cosines; 0.01 in the paper.
        present: bool [k, b], which of the negatives there are; all if not given.
        in_batch_negatives: if false, only each row's own negatives count. For classification, where another row's
            query or negative may well be of the same class; the second term vanishes.

    Returns:
        float32 scalar (float64 for float64 input).
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    query, pos, neg = (functional.normalize(vectors.to(dtype), dim=-1) for vectors in (query, pos, neg))
    own_positive = (query * pos).sum(dim=-1, keepdim=True)
    neg = neg.view(-1, *query.shape)
    if in_batch_negatives:
        negative, there = query @ neg.flatten(0, 1).T, None if present is None else present.flatten()
    else:
        negative, there = (query * neg).sum(dim=-1).T, None if present is None else present.T
    if there is not None:
        negative = negative.masked_fill(~there, -torch.inf)
    forward = _cross_entropy_of_first(torch.cat([own_positive, negative], dim=1) / temperature)
    if not in_batch_negatives:
        return forward
    rows = torch.arange(len(query), device=query.device)
    return forward + functional.cross_entropy(pos @ query.T / temperature, rows)


def _cross_entropy_of_first(scores: Tensor) -> Tensor:
    """Mean cross entropy where column 0 of [b, c] is the right answer."""
    return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))

"""What is made of the lists of a pass: which candidates are scored again in float64, and which lists are proven."""

from typing import Any

from medi_build.search.dense_lists import Joined, Lists, SearchPass, relative_rounding
from medi_build.search.ranking import NOTHING


def wanted(lists: Joined | Lists) -> Any:
    """Bool [q, width]: the candidates that can be among the best. They stand in front, as scores fall."""
    return (lists.ids != NOTHING) & (lists.scores >= lists.limit[:, None])


def settled(lists: Joined | Lists, ids: Any, exact: Any, error: Any, plan: SearchPass) -> tuple[Any, Any, Any]:
    """The best of the candidates, and whether they are proven to be the best of all.

    Args:
        lists: of a pass.
        ids: int64 [q, width], its candidates.
        exact: float64 [q, width], their inner products; -inf for those that are not wanted.
        error: float64 [q], bound of the error of the pass.
        plan: of the pass.

    Returns:
        int64 ids and float64 scores [q, at most k], best first, ties by lower id; bool [q], which rows are proven.
    """
    import torch

    by_id = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, by_id), exact.gather(1, by_id)
    by_score = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, : plan.k]
    ids, exact = ids.gather(1, by_score), exact.gather(1, by_score)
    ids = ids.masked_fill(exact == -torch.inf, NOTHING)
    proven = lists.cut == -torch.inf  # nothing was left out
    if exact.shape[1] == plan.k:  # or nothing that could have taken the last place
        proven |= exact[:, -1] > lists.cut + relative_rounding(plan.dtype) * lists.cut.abs() + error
    return ids, exact, proven

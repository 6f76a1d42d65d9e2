"""The lists of a pass: what they take, leave out and remember."""

import numpy as np
import pytest
import torch

from medi_build.search.dense_lists import GROUP, Blocks, Lists, SearchPass

WIDE = torch.ones(1, dtype=torch.float64)
"""An error so large that no limit follows from it: only the room of a list counts."""


def a_list(k: int = 2, depth: int = 4) -> Lists:
    return Lists(1, SearchPass(k, depth, torch.float32, Blocks()), torch.device("cpu"))


def test_a_tile_of_more_groups_than_there_is_room_for_is_left_out_before_it_is_taken():
    lists, tile = a_list(), torch.arange(8.0 * GROUP)[None] / 1024
    lists.add(tile, 1000, WIDE)
    cut = float(tile[0, -5])
    assert sorted(lists.ids[lists.ids >= 0].tolist()) == [1000 + 8 * GROUP - back for back in (4, 3, 2, 1)]
    assert lists.cut.tolist() == [cut]
    assert lists.limit.tolist() == [float(np.nextafter(np.float32(cut), np.float32(1)))]
    lists.add(tile - 0.01, 0, WIDE)  # none of it is above what was left out
    lists.keep_best(WIDE)
    assert sorted(lists.ids[0].tolist()) == [1000 + 8 * GROUP - back for back in (4, 3, 2, 1)]
    assert lists.cut.tolist() == [cut]


@pytest.mark.parametrize("groups", [1, 3, 8])
def test_a_list_is_never_wider_than_twice_its_room(groups):
    lists = a_list()
    rng = np.random.default_rng(groups)
    seen = []
    for number in range(30):
        tile = rng.random(groups * GROUP).astype(np.float32) * (number + 1) / 30
        seen += tile.tolist()
        lists.add(torch.from_numpy(tile)[None], len(seen) - len(tile), WIDE)
        assert lists.ids.shape[1] <= 2 * 4
    lists.keep_best(WIDE)
    best = np.argsort(-np.array(seen), kind="stable")
    assert lists.ids[0].tolist() == best[:4].tolist()
    assert lists.cut.tolist() == [pytest.approx(seen[best[4]])]


def test_what_scores_exactly_the_k_th_best_is_taken():
    lists = a_list(k=1, depth=40)
    for first in (0, 100):
        lists.add(torch.full((1, GROUP), 0.5), first, torch.zeros(1, dtype=torch.float64))
        lists.keep_best(torch.zeros(1, dtype=torch.float64))
    assert sorted(lists.ids[0].tolist()) == [*range(GROUP), *range(100, 100 + GROUP)]
    assert lists.cut.tolist() == [-np.inf]

"""The table of filters, and numbers by group, on which the filters and the given negatives rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine.filters import FILTERS, Block, Filter, Lifted, Ready, depth, filtered
from medi_build.mine.select import Verdicts
from medi_build.mine.texts import Grouped

ASKS = {
    "max_score": [{"max_score": 0.0}, {"max_score_quantile": 0.5}],
    "length": [{"max_length_ratio": 2.0}],
    "near_duplicate": [{"near_duplicate": 0.9}],
    "guide": [{"guide": "any"}],
    "answer_in_passage": [{"reject_answer": True}],
    "margin": [{"relative_margin": 0.0}, {"absolute_margin": 0.0}],
    "min_score": [{"min_score": 0.0}, {"min_score_quantile": 0.0}],
    "false_negative_probability": [{"max_false_negative_probability": 0.5}],
}


def test_every_filter_is_asked_for_by_its_own_knobs_alone_and_makes_the_ranking_deeper():
    assert [one.name for one in FILTERS] == list(ASKS)
    assert depth(MiningRule(num_negatives=3, range_min=2)) == 5
    for name, rules in ASKS.items():
        for knobs in rules:
            rule = MiningRule(num_negatives=3, range_max=77, **knobs)
            assert [one.name for one in FILTERS if one.asked(rule)] == [name]
            assert depth(rule) == 77


@pytest.mark.parametrize(
    "knobs",
    [
        {"sampling_strategy": "random"},
        {"lexical": True},
        {"encoders": ["any"]},
        {"cross_encoder": "any", "cross_encoder_scores": True},
    ],
)
def test_the_ranking_is_deeper_where_something_else_chooses_among_it(knobs):
    assert depth(MiningRule(range_max=77, **knobs)) == 77


def rejecting(name, *bad):
    """A filter that rejects these ids."""
    return Ready(Filter(name, Lifted.NEVER, (), lambda context: None), lambda block: np.isin(block.ids, bad))


def left(ids, filters, protected=None):
    ids, ledger, one = np.array([ids]), Ledger("toy"), np.zeros(1, dtype=np.int64)
    block = Block(one, one, one, ids, np.zeros(ids.shape, np.float32), np.zeros(ids.shape, np.int32), None)
    protected = np.zeros(ids.shape, bool) if protected is None else np.array([protected])
    allowed = filtered(filters, block, ids != -1, protected, ledger, Verdicts(ids.shape))
    return ids[allowed].tolist(), dict(ledger.notes)


def test_each_filter_counts_what_those_before_it_had_left_and_protected_ones_stay():
    filters = [rejecting("early", 2, 4), rejecting("late", 1, 2, 3)]
    found = left([1, 2, -1, 3, 4, 5], filters, protected=[True, False, False, False, False, False])
    assert found == ([1, 5], {"rejected_early": 2, "rejected_late": 1})


def test_what_a_filter_has_rejected_is_shown_to_no_other():
    shown = []

    def nothing(block):
        shown.append(block.ids.tolist())
        return np.zeros(block.ids.shape, bool)

    spy = Ready(Filter("spy", Lifted.NEVER, (), lambda context: None), nothing)
    assert left([1, 2, 3], [rejecting("first", 2), spy])[0] == [1, 3]
    assert shown == [[[1, -1, 3]]]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=30),
    st.lists(st.integers(0, 4), max_size=6),
    st.sampled_from([None, 0, 1, 2, 9]),
)
def test_numbers_by_group_equal_the_plain_version(pairs, asked, most):
    groups, values = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    grouped = Grouped.by(groups, values, 5)
    asked = np.array(asked, dtype=np.int64)
    plain = [[value for group, value in pairs if group == one] for one in asked]
    assert grouped.sizes(asked).tolist() == [len(one) for one in plain]
    cut = [one[:most] for one in plain]
    width = max(map(len, cut), default=0)
    assert grouped.matrix(asked, most).tolist() == [one + [-1] * (width - len(one)) for one in cut]

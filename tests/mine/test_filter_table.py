"""The table of filters, and numbers by group, on which the filters and the given negatives rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine.filters import FILTERS, Block, Filter, Lifted, Ready, _relaxed, depth, filtered
from medi_build.mine.run import Run
from medi_build.mine.texts import Grouped

ASKS = {
    "max_score": [{"max_score": 0.0}, {"max_score_quantile": 0.5}],
    "length": [{"max_length_ratio": 2.0}],
    "near_duplicate": [{"near_duplicate": 0.9}],
    "guide": [{"guide": "any"}],
    "answer_in_passage": [{"reject_answer": True}],
    "min_score": [{"min_score": 0.0}, {"min_score_quantile": 0.0}],
    "false_negative_probability": [{"max_false_negative_probability": 0.5}],
    "margin": [{"relative_margin": 0.0}, {"absolute_margin": 0.0}],
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


def rejecting(name, lifted, *bad):
    """A filter that rejects these ids."""
    return Ready(Filter(name, lifted, (), lambda context: None), lambda block: np.isin(block.ids, bad))


def left(ids, filters, *, relax=False, protected=None, probability=None):
    ids = np.array([ids])
    knobs = {"max_false_negative_probability": 0.5, "relax": True} if relax else {}
    run = Run(MiningRule(**knobs), 0, Ledger("toy"))
    one = np.zeros(1, dtype=np.int64)
    block = Block(one, one, one, ids, np.zeros(ids.shape, np.float32), probability)
    protected = np.zeros(ids.shape, bool) if protected is None else np.array([protected])
    allowed = filtered(filters, block, protected, run)
    return ids[allowed].tolist(), dict(run.ledger.notes)


def test_each_filter_counts_what_those_before_it_had_left_and_protected_ones_stay():
    filters = [rejecting("late", Lifted.FIRST, 1, 2, 3), rejecting("early", Lifted.NEVER, 2, 4)]
    found = left([1, 2, -1, 3, 4, 5], filters, protected=[True, False, False, False, False, False])
    assert found == ([1, 5], {"rejected_early": 2, "rejected_late": 1})


def test_relax_lifts_the_margin_first_and_what_is_wrong_never():
    never, last, first = (
        rejecting(name, lifted, *bad)
        for name, lifted, bad in (
            ("never", Lifted.NEVER, [1]),
            ("last", Lifted.LAST, [2]),
            ("first", Lifted.FIRST, [3, 4]),
        )
    )
    likely = np.array([[0.0, 0.3, 0.2, 0.1]])
    assert left([1, 2, 3, 4], [never, last, first], relax=True, probability=likely)[0] == [3, 4]
    found = left([1, 2, 9, 4], [never, last, rejecting("x", Lifted.LAST, 9, 4)], relax=True, probability=likely)
    assert found[0] == [4]
    assert found[1]["least_likely_false_negative_taken"] == 1
    assert left([1], [never], relax=True, probability=np.array([[0.1]]))[0] == []
    assert left([2, 1], [never, last], relax=True)[0] == []


def test_what_a_filter_has_rejected_is_shown_to_no_other():
    shown = []

    def nothing(block):
        shown.append(block.ids.tolist())
        return np.zeros(block.ids.shape, bool)

    spy = Ready(Filter("spy", Lifted.LAST, (), lambda context: None), nothing)
    assert left([1, 2, 3], [rejecting("first", Lifted.NEVER, 2), spy])[0] == [1, 3]
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


def test_relax_leaves_a_row_alone_that_has_a_candidate() -> None:
    """One is left to it: neither the margin is lifted nor the least likely false negative taken."""
    left = {
        Lifted.NEVER: np.array([[True, True, True]]),
        Lifted.LAST: np.array([[True, True, False]]),
        Lifted.FIRST: np.array([[False, True, False]]),
    }
    ledger = Ledger("toy")
    assert _relaxed(left, np.array([[0.1, 0.5, 0.9]]), ledger).tolist() == [[False, True, False]]
    assert ledger.to_dict()["notes"] == {}

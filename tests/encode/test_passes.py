import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.encode.passes import padded_width, plan, plan_equal, widths

windows = st.integers(8, 700)


@st.composite
def texts(draw):
    window = draw(windows)
    lengths = draw(st.lists(st.integers(0, window), max_size=80))
    return np.array(lengths, dtype=np.int64), window


@given(texts(), st.integers(1, 3000), st.booleans())
def test_every_text_once_within_the_budget_and_next_to_its_like(given_texts, budget, fixed):
    lengths, window = given_texts
    batches = list(plan(lengths, window, budget, fixed=fixed))
    rows = np.concatenate([batch.rows for batch in batches]) if batches else np.empty(0, dtype=np.int64)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert lengths[rows].tolist() == sorted(lengths.tolist(), reverse=True)
    for batch in batches:
        assert 0 < len(batch.rows) <= batch.capacity
        assert batch.capacity * batch.width <= budget or batch.capacity == 1
        assert lengths[batch.rows].max() <= batch.width <= window


@given(texts(), st.integers(1, 3000))
def test_the_shape_of_a_pass_follows_from_the_length_alone(given_texts, budget):
    lengths, window = given_texts
    for batch in plan(lengths, window, budget, fixed=True):
        for row in batch.rows:
            (alone,) = plan(lengths[[row]], window, budget, fixed=True)
            assert (alone.width, alone.capacity) == (batch.width, batch.capacity)


@given(texts(), st.integers(1, 3000))
def test_a_batch_has_padding_in_every_row_or_in_none(given_texts, budget):
    lengths, window = given_texts
    for batch in plan(lengths, window, budget, fixed=True):
        full = lengths[batch.rows] == batch.width
        assert full.all() or not full.any()


@given(windows)
def test_the_ladder_wastes_little(window):
    ladder = widths(window)
    assert ladder[-1] == window
    assert (np.diff(ladder) > 0).all()
    lengths = np.arange(1, window, dtype=np.int64)
    waste = padded_width(lengths, window) - lengths
    assert (waste <= np.maximum(8, lengths // 4)).all()


def test_ragged_batches_have_no_filler():
    lengths = np.full(10, 20, dtype=np.int64)
    assert [batch.capacity for batch in plan(lengths, 512, 24 * 4, fixed=False)] == [4, 4, 2]
    assert [batch.capacity for batch in plan(lengths, 512, 24 * 4, fixed=True)] == [4, 4, 4]


@pytest.mark.parametrize("fixed", [True, False])
def test_no_texts_no_batches(fixed):
    assert list(plan(np.empty(0, dtype=np.int64), 512, 512, fixed=fixed)) == []


@given(texts(), st.integers(1, 3000), st.integers(0, 200))
def test_passes_of_one_length_hold_every_length_that_has_enough_of_it(given_texts, budget, enough):
    lengths, window = given_texts
    passes = list(plan_equal(lengths, window, budget, enough))
    rows = np.concatenate([one.rows for one in passes]) if passes else np.empty(0, dtype=np.int64)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for one in passes:
        own = lengths[one.rows]
        assert len(own) == one.capacity
        assert one.capacity * one.width <= budget or one.capacity == 1
        assert own.max() <= one.width
        plenty = [length * np.count_nonzero(lengths == length) >= max(1, enough) for length in own]
        assert plenty == [one.equal] * len(own)
        if one.equal:
            assert (own == one.width).all()
    assert [one.equal for one in passes] == sorted((one.equal for one in passes), reverse=True)


def test_passes_of_one_length_are_even():
    lengths = np.array([20] * 11 + [30, 7], dtype=np.int64)
    passes = list(plan_equal(lengths, 64, 100, enough=100))
    assert [(len(one.rows), one.width, one.equal) for one in passes] == [
        (4, 20, True), (4, 20, True), (3, 20, True), (1, 32, False), (1, 8, False)
    ]  # fmt: skip

"""Passes that few texts fill: in fewer rows where that gives the same bits, and only there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.passes import FEWEST_ROWS, FEWEST_TOKENS, fewer_rows
from tests.encode.tiny_models import TEXTS


def watched(model, *, depends_on_rows=False):
    """An encoder, and the rows of the passes that it makes; their number may be made part of every vector."""
    encoder, rows = Encoder(EncoderSpec(model=str(model), dtype="float32"), "cpu"), []

    def watch(_module, _inputs, features):
        rows.append(len(features["token_embeddings"]))
        if depends_on_rows:
            features["token_embeddings"][..., 0] += len(features["token_embeddings"]) / 1000
        return features

    encoder.model[0].register_forward_hook(watch)
    return encoder, rows


@pytest.mark.parametrize("depends_on_rows", [False, True])
def test_few_texts_take_fewer_rows_once_the_bits_are_known_to_be_the_same(tiny_t5, depends_on_rows):
    encoder, rows = watched(tiny_t5, depends_on_rows=depends_on_rows)
    text = max(TEXTS, key=len)
    among_many = encoder.encode([text] * 500).vectors[0]
    whole = max(rows)
    rows.clear()
    alone = [encoder.encode([text]).vectors[0] for _ in range(3)]
    few = min(rows)
    assert few <= whole // 2
    (same,) = {encoder._budget.same[shape] for shape in encoder._budget.same if shape[1] == few}
    assert not (same and depends_on_rows)
    assert rows == ([whole, few, few, few] if same else [whole, few, whole, whole])
    for vector in alone:
        np.testing.assert_array_equal(vector.view(np.uint32), among_many.view(np.uint32))


def test_a_model_that_may_change_between_calls_has_whole_passes(tiny_t5):
    encoder, rows = watched(tiny_t5)
    encoder._budget.same = None
    encoder.encode(TEXTS[:1])
    encoder.encode(TEXTS[:1])
    assert len(set(rows)) == 1


@given(st.data())
def test_fewer_rows_are_enough_and_not_far_more(data):
    capacity, width = data.draw(st.integers(1, 200)), data.draw(st.integers(8, 512))
    count = data.draw(st.integers(1, capacity))
    rows = fewer_rows(count, capacity, width)
    assert count <= rows <= capacity
    assert rows == capacity or (rows * width >= FEWEST_TOKENS and rows >= FEWEST_ROWS)
    assert rows < 2 * count or -(-rows // 2) * width < FEWEST_TOKENS or rows <= FEWEST_ROWS

import shutil

import numpy as np
import pytest

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode import embedder as embedder_module
from medi_build.encode.embedder import open_embedder
from medi_build.errors import EncoderError
from tests.encode.tiny_models import INSTRUCTION, TEXTS


def opened(model, store=None, progress=None):
    return open_embedder(EncoderSpec(model=str(model)), "cpu", store, progress)


def bits(vectors):
    return np.ascontiguousarray(vectors).view(np.uint16)


def test_vectors_are_unit_float16_in_order_and_repeats_are_encoded_once(tiny_t5):
    embed = opened(tiny_t5)
    texts = [*TEXTS, *TEXTS[::-1], TEXTS[0]]
    result = embed(texts, INSTRUCTION)
    assert embed.encoded == len(set(TEXTS))
    assert result.vectors.dtype == np.float16
    assert result.vectors.shape == (len(texts), 24)
    assert np.abs(np.linalg.norm(result.vectors.astype(np.float64), axis=1) - 1).max() < 2e-3
    assert (bits(result.vectors[: len(TEXTS)]) == bits(result.vectors[len(TEXTS) : -1][::-1])).all()
    plain = embed.encoder.encode(TEXTS, INSTRUCTION).vectors.astype(np.float16)
    assert (bits(result.vectors[: len(TEXTS)]) == bits(plain)).all()


def test_only_new_texts_are_encoded_and_a_warm_run_never_loads_the_model(tiny_t5, tmp_path):
    cold = opened(tiny_t5, tmp_path)
    first = cold(TEXTS, INSTRUCTION)
    more = opened(tiny_t5, tmp_path)
    assert (bits(more([*TEXTS, "one new text"], INSTRUCTION).vectors[:-1]) == bits(first.vectors)).all()
    assert more.encoded == 1
    warm = opened(tiny_t5, tmp_path)
    again = warm(TEXTS, INSTRUCTION)
    assert warm.encoded == 0
    assert "model" not in vars(warm.encoder)
    assert (bits(again.vectors) == bits(first.vectors)).all()
    assert (again.truncated, again.unaligned) == (first.truncated, first.unaligned) == (3, 3)
    other = opened(tiny_t5, tmp_path)
    other(TEXTS, "")
    assert other.encoded == len(TEXTS)


def test_a_store_filled_in_any_order_holds_the_same_bits(tiny_t5, tmp_path, monkeypatch):
    whole = opened(tiny_t5)(TEXTS, INSTRUCTION)
    monkeypatch.setattr(embedder_module, "CHUNK_TEXTS", 5)
    opened(tiny_t5, tmp_path)(TEXTS[3:9][::-1], INSTRUCTION)
    pieces = opened(tiny_t5, tmp_path)(TEXTS, INSTRUCTION)
    assert (bits(whole.vectors) == bits(pieces.vectors)).all()
    assert (whole.truncated, whole.unaligned) == (pieces.truncated, pieces.unaligned)


def test_chunks_are_committed_one_by_one(tiny_t5, tmp_path, monkeypatch):
    monkeypatch.setattr(embedder_module, "CHUNK_TEXTS", 4)

    def stop(done, total):
        assert total == 12
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tiny_t5, tmp_path, stop)(TEXTS)
    resumed = opened(tiny_t5, tmp_path)
    resumed(TEXTS)
    assert resumed.encoded == 4


def test_no_texts_give_no_vectors(tiny_t5, tmp_path):
    for store in (None, tmp_path):
        result = opened(tiny_t5, store)([])
        assert result.vectors.shape[0] == 0
        assert result.truncated == 0


def test_a_missing_model_is_an_error_at_opening(tiny_t5, tmp_path):
    with pytest.raises(EncoderError):
        opened(tmp_path)
    gone = shutil.copytree(tiny_t5, tmp_path / "gone")
    embed = opened(gone)
    shutil.rmtree(gone)
    with pytest.raises(EncoderError, match="cannot be loaded"):
        embed(["text"])

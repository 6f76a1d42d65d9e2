"""The cross-encoder: where it runs, and how many pairs at a time."""

import numpy as np
import pytest
import torch

from medi_build.errors import EncoderError, OptionError
from medi_build.mine.cross_encoder import load_cross_encoder

PAIRS = [("who built the tower", f"{'the red fox ' * number}ran") for number in range(7)]


def save_cross_encoder(folder):
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "built", "the", "tower", "a", "red", "fox", "ran"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=1, initializer_range=1.0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.mark.slow
def test_a_cross_encoder_takes_fewer_pairs_at_a_time_where_memory_ends(tmp_path, monkeypatch):
    from sentence_transformers import CrossEncoder

    save_cross_encoder(tmp_path)
    score = load_cross_encoder(str(tmp_path), "cpu")
    wanted, predict, sizes, room = score(PAIRS), CrossEncoder.predict, [], 5

    def narrow(self, pairs, *, batch_size, **options):
        sizes.append(batch_size)
        if batch_size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict(self, pairs, batch_size=batch_size, **options)

    monkeypatch.setattr(CrossEncoder, "predict", narrow)
    np.testing.assert_allclose(score(PAIRS), wanted, atol=1e-6)
    score(PAIRS)
    assert sizes == [32, 16, 8, 4, 4]  # it is remembered
    room = 0
    with pytest.raises(EncoderError, match="a single pair takes more than the GPU has"):
        score(PAIRS)


@pytest.mark.slow
@pytest.mark.gpu
def test_a_cross_encoder_runs_where_it_is_told(tmp_path):
    save_cross_encoder(tmp_path)
    on_cpu, on_gpu = (load_cross_encoder(str(tmp_path), device)(PAIRS) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.03)
    with pytest.raises(OptionError, match="'cuda:97' is not here"):
        load_cross_encoder(str(tmp_path), "cuda:97")

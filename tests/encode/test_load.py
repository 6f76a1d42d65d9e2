import shutil

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import open_embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.instructor import Instructor
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.encode.quantize import quantize
from medi_build.errors import EncoderError
from tests.encode.tiny_models import (
    INSTRUCTION,
    TEXTS,
    edit_json,
    peer_vectors,
    save_bert,
    save_roberta,
    save_t5,
    unigram_tokenizer,
)


def encoder(model, **spec):
    return Encoder(EncoderSpec(model=str(model), **{"dtype": "float32", **spec}), "cpu")


LEGACY_POOLING = {
    "embedding_dimension": None,
    "pooling_mode": None,
    "include_prompt": None,
    "word_embedding_dimension": 32,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


def public_package_form(folder, types):
    """Rewrite a saved T5 the way the public INSTRUCTOR package saves it."""
    edit_json(folder / "1_Pooling" / "config.json", **LEGACY_POOLING)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    modules = [("", types[0]), ("1_Pooling", types[1])]
    modules += [
        ("2_Dense", "sentence_transformers.models.Dense"),
        ("3_Normalize", "sentence_transformers.models.Normalize"),
    ]
    listed = [f'{{"idx": {i}, "name": "{i}", "path": "{p}", "type": "{t}"}}' for i, (p, t) in enumerate(modules)]
    (folder / "modules.json").write_text(f"[{', '.join(listed)}]")


@pytest.mark.parametrize(
    "types",
    [
        ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"),
        ("InstructorEmbedding.instructor", "InstructorEmbedding.instructor"),
        ("InstructorEmbedding.instructor.INSTRUCTORTransformer", "InstructorEmbedding.instructor.INSTRUCTORPooling"),
    ],
)
def test_both_saved_forms_of_instructor_give_the_same_vectors(tiny_t5, tmp_path, types):
    public = shutil.copytree(tiny_t5, tmp_path / "public")
    public_package_form(public, types)
    wanted = peer_vectors(tiny_t5, TEXTS, INSTRUCTION)
    assert np.abs(encoder(public).encode(TEXTS, INSTRUCTION).vectors - wanted).max() < 1e-6


def test_an_explicit_include_prompt_is_obeyed(tiny_t5, tmp_path):
    kept = shutil.copytree(tiny_t5, tmp_path / "kept")
    edit_json(kept / "1_Pooling" / "config.json", include_prompt=True)
    got = encoder(kept).encode(TEXTS, INSTRUCTION).vectors
    assert np.abs(got - peer_vectors(kept, TEXTS, INSTRUCTION)).max() < 1e-6
    assert np.abs(got - encoder(tiny_t5).encode(TEXTS, INSTRUCTION).vectors).max() > 0.01


def test_fine_tunes_of_one_name_do_not_collide(tmp_path):
    one = save_t5(tmp_path / "a" / "model", unigram_tokenizer(), seed=1)
    two = save_t5(tmp_path / "b" / "model", unigram_tokenizer(), seed=2)
    same = shutil.copytree(one, tmp_path / "c" / "model")
    assert encoder(one).identity != encoder(two).identity
    assert encoder(one).identity == encoder(same).identity


def test_whatever_changes_vectors_changes_the_identity(tiny_t5, tmp_path):
    identities = {encoder(tiny_t5).identity, encoder(tiny_t5, dtype="bfloat16").identity}
    identities.add(encoder(tiny_t5, max_tokens=32).identity)
    for number, (file, change) in enumerate(
        [
            ("1_Pooling/config.json", {"include_prompt": True}),
            ("sentence_bert_config.json", {"max_seq_length": 48}),
            ("tokenizer_config.json", {"eos_token": "<unk>"}),
            ("config_sentence_transformers.json", {"truncate_dim": 8}),
        ]
    ):
        other = shutil.copytree(tiny_t5, tmp_path / str(number) / tiny_t5.name)
        assert encoder(other).identity in identities
        edit_json(other / file, **change)
        identities.add(encoder(other).identity)
    assert len(identities) == 7


def test_files_beside_the_model_do_not_change_the_identity(tiny_t5, tmp_path):
    other = shutil.copytree(tiny_t5, tmp_path / tiny_t5.name)
    (other / "README.md").write_text("notes")
    (other / "checkpoint-10").mkdir()
    (other / "checkpoint-10" / "model.safetensors").write_bytes(b"x")
    assert encoder(other).identity == encoder(tiny_t5).identity


def test_the_identity_is_known_without_loading(tiny_t5):
    unloaded = encoder(tiny_t5)
    assert unloaded.identity
    assert "model" not in vars(unloaded)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "modules.json").write_text("{"), "no list of modules"),
        (lambda folder: shutil.rmtree(folder / "2_Dense"), "cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_clear_error(tiny_t5, tmp_path, break_it, message):
    broken = shutil.copytree(tiny_t5, tmp_path / "broken")
    break_it(broken)
    with pytest.raises(EncoderError, match=message):
        encoder(broken).encode(["text"])


def test_what_is_no_model_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match=r"neither modules\.json nor config\.json"):
        find_model(str(tmp_path))
    with pytest.raises(EncoderError, match=f"neither a local folder nor '{BUNDLED}'"):
        find_model("not a hub id!")


def test_a_window_without_positions_is_refused(tmp_path):
    folder = save_bert(tmp_path / "model", "mean", window=48)
    with pytest.raises(EncoderError, match="max_tokens 49 is more than the 48 positions"):
        encoder(folder, max_tokens=49).encode(["text"])


@pytest.mark.parametrize("kind", ["RoBERTa", "XLM-RoBERTa", "MPNet"])
@pytest.mark.parametrize("saved", [None, 20, 50, 64])
def test_positions_that_begin_after_padding_narrow_the_window(tmp_path, kind, saved):
    folder = save_roberta(tmp_path / "model", kind, positions=50, window=saved)
    window = min(saved or 48, 48)
    model = encoder(folder)
    assert model.window == window
    wanted = peer_vectors(folder, TEXTS, INSTRUCTION, window)
    assert np.abs(model.encode(TEXTS, INSTRUCTION).vectors - wanted).max() < 1e-6
    with pytest.raises(EncoderError, match="max_tokens 49 is more than the 48 positions"):
        encoder(folder, max_tokens=49).encode(["text"])


def test_a_saved_window_beyond_the_positions_is_cut_to_them(tmp_path):
    folder = save_bert(tmp_path / "model", "mean", window=48)
    edit_json(folder / "sentence_bert_config.json", max_seq_length=64)
    edit_json(folder / "tokenizer_config.json", model_max_length=64)
    model = encoder(folder)
    assert model.window == 48
    assert np.abs(model.encode(TEXTS).vectors - peer_vectors(folder, TEXTS, window=48)).max() < 1e-6


def cut_to(folder, tmp_path, numbers):
    cut = shutil.copytree(folder, tmp_path / "cut" / folder.name)
    edit_json(cut / "config_sentence_transformers.json", truncate_dim=numbers)
    return cut


@pytest.mark.parametrize("model", ["tiny_t5", "tiny_bert"])
@pytest.mark.parametrize("numbers", [10, 100])
def test_a_saved_truncate_dim_cuts_vectors_as_in_sentence_transformers(request, tmp_path, model, numbers):
    whole = request.getfixturevalue(model)
    cut = cut_to(whole, tmp_path, numbers)
    own = encoder(cut)
    width = min(numbers, encoder(whole).dimension)
    found = own.encode(TEXTS, INSTRUCTION).vectors
    assert own.dimension == found.shape[1] == width
    assert np.abs(found - peer_vectors(cut, TEXTS, INSTRUCTION)).max() < 1e-6
    peer = SentenceTransformer(str(cut), device="cpu").encode([text.strip() for text in TEXTS])
    assert np.abs(own.encode(TEXTS, normalise=False).vectors - peer).max() < 1e-5
    instructor = Instructor(cut, "cpu")
    assert np.abs(instructor.encode([["", text] for text in TEXTS]) - peer).max() < 1e-5
    assert instructor.get_sentence_embedding_dimension() == width


def test_vectors_cut_by_truncate_dim_are_stored_apart(tiny_t5, tmp_path):
    cut = cut_to(tiny_t5, tmp_path, 10)
    for model in (tiny_t5, cut):
        stored = open_embedder(EncoderSpec(model=str(model), dtype="float32"), "cpu", tmp_path / "store", None)(
            TEXTS, INSTRUCTION
        )
        wanted = encoder(model).encode(TEXTS, INSTRUCTION).vectors
        assert np.array_equal(stored.vectors, wanted.astype(np.float16))


@pytest.mark.parametrize("method", ["int8", "float16"])
def test_quantizing_keeps_truncate_dim(tiny_t5, tmp_path, method):
    cut = cut_to(tiny_t5, tmp_path, 10)
    done = quantize(str(cut), tmp_path / "small", method)
    small = Instructor(tmp_path / "small", "cpu")
    assert small.get_sentence_embedding_dimension() == 10
    vectors = small.encode([[INSTRUCTION, text] for text in TEXTS], normalize_embeddings=True)
    assert (vectors * peer_vectors(cut, TEXTS, INSTRUCTION)).sum(axis=1).min() > 0.98
    assert done.chosen.cosine_min > 0.95

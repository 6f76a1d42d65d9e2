import shutil

import numpy as np
import pytest

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.load import BUNDLED, find_model
from medi_build.errors import EncoderError
from tests.encode.tiny_models import INSTRUCTION, TEXTS, edit_json, peer_vectors, save_bert, save_t5, unigram_tokenizer


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
        ]
    ):
        other = shutil.copytree(tiny_t5, tmp_path / str(number) / tiny_t5.name)
        assert encoder(other).identity in identities
        edit_json(other / file, **change)
        identities.add(encoder(other).identity)
    assert len(identities) == 6


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

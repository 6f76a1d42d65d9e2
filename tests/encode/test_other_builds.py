"""Models of another build than a transformer with one pooling, int8 folders, and code that comes with a model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Router, StaticEmbedding, Transformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import open_embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.instructor import Instructor
from medi_build.encode.int8 import multiplies_in_int8
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.quantize import quantize
from medi_build.errors import EncoderError, TrainError
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import load_for_training
from tests.encode.tiny_models import INSTRUCTION, TEXTS, save_bert, unigram_tokenizer

CODE = """
from torch import nn
class Doubling(nn.Module):
    def forward(self, features):
        features["sentence_embedding"] = FACTOR * features["sentence_embedding"]
        return features
    def save(self, path, *args, **kwargs): ...
    @classmethod
    def load(cls, *args, **kwargs): return cls()
"""


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "static"
    module = StaticEmbedding(unigram_tokenizer(), embedding_dim=16)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("models")
    sides = [save_bert(parent / name, "mean", seed=seed) for name, seed in (("query", 1), ("document", 2))]
    router = Router.for_query_document(*([Transformer(str(side)), Pooling(32, "mean")] for side in sides))
    SentenceTransformer(modules=[router], device="cpu").save(str(parent / "routed"))
    return parent / "routed"


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_bert(tmp_path_factory.mktemp("models") / "weighted", "weightedmean")
    model = SentenceTransformer(str(folder), device="cpu")
    model.set_pooling_include_prompt(False)
    model.save(str(folder))
    return folder


def coded(source: Path, target: Path, factor: int) -> Path:
    """A copy of a model with a module of its own at the end."""
    shutil.copytree(source, target)
    listed = json.loads((target / "modules.json").read_text())
    own = {"idx": len(listed), "name": "own", "path": "own", "type": "own_code.Doubling"}
    (target / "modules.json").write_text(json.dumps([*listed, own]))
    (target / "own").mkdir()
    (target / "own_code.py").write_text(CODE.replace("FACTOR", str(factor)))
    return target


def encoder(folder: Path, **spec: Any) -> Encoder:
    return Encoder(EncoderSpec(model=str(folder), **{"dtype": "float32", **spec}), "cpu")


@pytest.mark.parametrize("kind", ["static", "routed", "weighted"])
def test_other_builds_encode_as_in_sentence_transformers(request: pytest.FixtureRequest, kind: str) -> None:
    folder = request.getfixturevalue(kind)
    peer, own, model = SentenceTransformer(str(folder), device="cpu"), encoder(folder), Instructor(folder, "cpu")
    texts = [text for text in TEXTS if text]
    for prompt in ("", INSTRUCTION, " query: "):
        wanted = peer.encode(texts, prompt=prompt or None)
        assert np.abs(own.encode(texts, prompt, normalise=False).vectors - wanted).max() < 1e-5
        assert np.abs(model.encode(texts, prompt=prompt or None) - wanted).max() < 1e-5
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.abs(own.encode(texts, prompt).vectors - unit).max() < 1e-5
    pairs = [[INSTRUCTION if row % 2 else "", text.strip()] for row, text in enumerate(texts)]
    mixed = np.stack([peer.encode(text, prompt=prompt or None) for prompt, text in pairs])
    assert np.abs(model.encode(pairs) - mixed).max() < 1e-5
    vectors, truncated = model.encode_counted(pairs)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert (truncated > 0) == (kind == "weighted"), "of the others it is not known"


@pytest.mark.parametrize("kind", ["static", "routed", "weighted"])
def test_the_company_of_a_text_does_not_change_its_vector(request: pytest.FixtureRequest, kind: str) -> None:
    own, texts = encoder(request.getfixturevalue(kind)), [text for text in TEXTS if text]
    whole = own.encode(texts).vectors
    assert np.array_equal(own.encode(texts[::-2]).vectors, whole[::-2])
    assert np.array_equal(own.encode(texts[3:4]).vectors, whole[3:4])


def test_a_router_takes_the_route_that_is_asked_for(routed: Path) -> None:
    peer, own, model = SentenceTransformer(str(routed), device="cpu"), encoder(routed), Instructor(routed, "cpu")
    sides = {"query": peer.encode_query(TEXTS), "document": peer.encode_document(TEXTS)}
    for task, wanted in sides.items():
        assert np.abs(own.encode(TEXTS, task=task, normalise=False).vectors - wanted).max() < 1e-5  # type: ignore[arg-type]
    assert np.abs(model.encode_query(TEXTS) - sides["query"]).max() < 1e-5
    assert np.abs(model.encode_document(TEXTS) - sides["document"]).max() < 1e-5
    assert np.abs(sides["query"] - sides["document"]).max() > 0.1


def test_every_route_is_part_of_the_identity(routed: Path, tmp_path: Path) -> None:
    same, other = (shutil.copytree(routed, tmp_path / name / routed.name) for name in ("same", "other"))
    weights = next(other.glob("**/document_0_Transformer/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert encoder(same).identity == encoder(routed).identity != encoder(other).identity


def test_they_are_mined_with_and_stored(static: Path, tmp_path: Path) -> None:
    embed = open_embedder(EncoderSpec(model=str(static)), "cpu", tmp_path)
    first, again = embed(TEXTS[:2]), embed(TEXTS[:2])
    assert np.array_equal(first.vectors, again.vectors)
    assert embed.encoded == 2


def test_what_needs_a_plain_model_says_who_takes_the_others(static: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"made of StaticEmbedding; .* medi mine, build and encode, and medi_build"):
        load_model(find_model(str(static)))
    with pytest.raises(EncoderError, match=r"made of StaticEmbedding"):
        load_for_training(TrainSettings(tmp_path, str(static), tmp_path / "out"))
    with pytest.raises(EncoderError, match=r"max_tokens is 16, but the model begins with StaticEmbedding"):
        encoder(static, max_tokens=16).encode(["text"])
    with pytest.raises(EncoderError, match=r"max_tokens is 16, but the model begins with StaticEmbedding"):
        Instructor(static, "cpu", max_tokens=16)


def test_code_of_a_model_runs_only_where_it_is_trusted(tiny_bert: Path, tmp_path: Path) -> None:
    folder = coded(tiny_bert, tmp_path / "two", 2)
    for load in (lambda: encoder(folder).encode(["text"]), lambda: Instructor(folder, "cpu")):
        with pytest.raises(EncoderError, match=r"code of its own, which does not run unasked .* --trust-remote-code"):
            load()
    plain = encoder(tiny_bert).encode(TEXTS, normalise=False).vectors
    trusted = encoder(folder, trust_remote_code=True)
    assert np.abs(trusted.encode(TEXTS, normalise=False).vectors - 2 * plain).max() < 1e-5
    model = Instructor(folder, "cpu", trust_remote_code=True)
    assert np.abs(model.encode([["", text] for text in TEXTS]) - 2 * plain).max() < 1e-5


def test_trusted_code_is_part_of_the_identity(tiny_bert: Path, tmp_path: Path) -> None:
    two, three = (coded(tiny_bert, tmp_path / str(factor) / "model", factor) for factor in (2, 3))
    trusted = [encoder(folder, trust_remote_code=True).identity for folder in (two, three)]
    assert len({*trusted, encoder(two).identity}) == 3
    same = [encoder(tiny_bert, trust_remote_code=trust).identity for trust in (False, True)]
    assert same[0] == same[1]


@pytest.fixture(scope="module", params=["int8", "int8-weights"])
def int8(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "q"
    quantize(str(tiny_t5), folder, request.param)
    return folder


def test_int8_folders_are_encoders_like_others(int8: Path, tiny_t5: Path) -> None:
    own = encoder(int8, dtype="auto")
    found = own.encode(TEXTS, INSTRUCTION).vectors
    assert (found * encoder(tiny_t5).encode(TEXTS, INSTRUCTION).vectors).sum(axis=1).min() > 0.98
    assert multiplies_in_int8(int8) <= (own.about["dtype"] == "float32")
    assert own.identity != encoder(tiny_t5).identity
    assert np.array_equal(own.encode(TEXTS[2:5], INSTRUCTION).vectors, found[2:5])
    assert np.array_equal(own.encode(TEXTS[::-1], INSTRUCTION).vectors, found[::-1])


def test_int8_folders_say_what_they_cannot(int8: Path, tmp_path: Path) -> None:
    if multiplies_in_int8(int8):
        with pytest.raises(EncoderError, match="compute in int8 on the CPU, and dtype is 'bfloat16'"):
            encoder(int8, dtype="bfloat16")
        with pytest.raises(EncoderError, match="compute in int8 on the CPU, and device is 'cuda'"):
            Instructor(int8, "cuda")
    else:
        wide, narrow = (encoder(int8, dtype=dtype).encode(TEXTS).vectors for dtype in ("float32", "bfloat16"))
        assert 0.99 < (wide * narrow).sum(axis=1).min() < 1
    with pytest.raises(EncoderError, match="loads in one way only; leave out model_kwargs"):
        Instructor(int8, model_kwargs={"attn_implementation": "eager"})
    with pytest.raises(TrainError, match="its weights are int8, which cannot be trained; start from the model that"):
        load_for_training(TrainSettings(tmp_path, str(int8), tmp_path / "out"))
    with pytest.raises(EncoderError, match="cannot be saved again"):
        Instructor(int8).save(tmp_path / "again")


def test_mining_sends_each_side_its_own_way_and_stores_them_apart(routed: Path, tmp_path: Path) -> None:
    peer = SentenceTransformer(str(routed), device="cpu")
    texts = [text for text in TEXTS if text]
    for _ in range(2):  # the second time from the store
        embed = open_embedder(EncoderSpec(model=str(routed), dtype="float32"), "cpu", tmp_path)
        for side, wanted in (("query", peer.encode_query(texts)), ("document", peer.encode_document(texts))):
            unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
            assert np.abs(embed(texts, side=side).vectors - unit).max() < 1e-3
    assert embed.encoded == 0

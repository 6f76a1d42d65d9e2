"""Small encoders on disk, built once per session."""

from pathlib import Path

import pytest
from transformers import T5Tokenizer

from tests.encode.tiny_models import save_bert, save_t5, unigram_tokenizer


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_t5(tmp_path_factory.mktemp("models") / "tiny-t5", unigram_tokenizer())


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-bert", "mean")


@pytest.fixture(scope="session")
def real_tokenizer_t5(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The T5 of `save_t5` with the vocabulary of the published T5 models."""
    tokenizer = T5Tokenizer.from_pretrained(str(shared_data / "tokenizers" / "t5"))
    return save_t5(tmp_path_factory.mktemp("models") / "t5", tokenizer)

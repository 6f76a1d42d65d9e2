"""A model as mteb sees it: its encoder protocol over vectors by kind of task and side."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from medi_build.arrays import Floats32
from medi_build.embedding import Side
from medi_build.encode.embedder import Embedder
from medi_build.errors import EvaluationError
from medi_build.evaluate.model import EvaluatedModel

TEXTS_PER_BATCH = 8192
"""Of mteb's data loader, which hands texts over and nothing more: the engine makes its own batches."""


class TaskVectors(Protocol):
    """Texts to vectors under what stands in front of their kind of task and side, as `EvaluatedModel.vectors`."""

    def __call__(self, texts: Sequence[str], task_type: str, side: Side | None = None, task: str = "") -> Floats32:
        """Unit vectors, float32 [n, d], of texts."""
        ...


class MtebModel:
    """`mteb.EncoderProtocol` over any function from texts to unit vectors.

    Attributes:
        mteb_model_meta: who the model is; mteb files its results under it.
        asked: (kind of task, side, task) of the texts that were encoded so far.
    """

    def __init__(self, vectors: TaskVectors, meta: Any) -> None:
        self.mteb_model_meta = meta
        self.asked: set[tuple[str, Side | None, str]] = set()
        self._vectors = vectors

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Floats32:
        """Encode the texts of a data loader.

        Args:
            inputs: batches with a list under ``text``.
            task_metadata: tells the kind of the task and its name.
            hf_split: not heeded: a split has no instruction of its own.
            hf_subset: not heeded, as the split.
            prompt_type: of queries and documents, where a task has both.
            kwargs: batch size and the like of mteb's own models.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        side: Side | None = prompt_type and ("query" if prompt_type.value == "query" else "document")
        self.asked.add((task_metadata.type, side, task_metadata.name))
        return self._vectors(texts, task_metadata.type, side, task_metadata.name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all with all."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of each with its counterpart."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def need_mteb() -> Any:
    """The package mteb.

    Raises:
        EvaluationError: it is not installed.
    """
    try:
        import mteb
    except ModuleNotFoundError as error:
        raise EvaluationError(
            f"evaluation on mteb's tasks needs the package {error.name}: pip install 'medi-build[eval]'"
        ) from error
    return mteb


def known_facts(model: EvaluatedModel) -> dict[str, Any]:
    """What the loaded encoder tells of itself: parameters, window in tokens, length of a vector; None if unknown."""
    if not isinstance(model.embed, Embedder):
        return {"n_parameters": None, "max_tokens": None, "embed_dim": None}
    encoder = model.embed.encoder
    return {
        "n_parameters": sum(weight.numel() for weight in encoder.model.parameters()),
        "max_tokens": encoder.window,
        "embed_dim": encoder.dimension,
    }


def meta_of(model: EvaluatedModel) -> Any:
    """``mteb.ModelMeta`` of a model.

    Its revision stands for everything that decides a vector: files, dtype, window, engine, and every instruction, so
    that mteb never takes a result for another one's.
    """
    source, table = model.instructions.source, model.instructions.table
    identity = {
        "about": dict(model.about),
        "instructions": source if table is None else table.model_dump(),
    }
    revision = hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()[:40]
    return bare_meta(
        mteb_name(str(model.about["model"])), revision, **known_facts(model), use_instructions=source != "none"
    )


def mteb_name(name: str) -> str:
    """A name in mteb's form, OWNER/NAME; a model that is on no hub belongs to ``local``."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name
    return f"local/{re.sub(r'[^A-Za-z0-9_.-]+', '_', Path(name).name) or 'model'}"


def bare_meta(name: str, revision: str, **known: Any) -> Any:
    """``mteb.ModelMeta`` with what is known, and None for the rest."""
    from mteb.models import ModelMeta

    fields: dict[str, Any] = {
        "loader": None, "release_date": None, "languages": None, "n_parameters": None, "memory_usage_mb": None,
        "max_tokens": None, "embed_dim": None, "license": None, "open_weights": None, "public_training_code": None,
        "public_training_data": None, "framework": ["PyTorch", "Sentence Transformers"],
        "similarity_fn_name": "cosine", "use_instructions": None, "training_datasets": None,
    }  # fmt: skip
    return ModelMeta(name=name, revision=revision, **{**fields, **known})

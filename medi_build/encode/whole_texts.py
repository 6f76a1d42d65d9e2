"""Models that tokenise in a way of their own: Router, StaticEmbedding, custom code."""

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from medi_build.arrays import Ints
from medi_build.encode.engine import Progress, side_by_side
from medi_build.errors import EncoderError, MediError

Task = Literal["query", "document"]
GPU_BATCH = 32
"""Texts of a pass on a GPU. On the CPU a pass has one."""


class WholeTexts(NamedTuple):
    """Texts that the model tokenises itself.

    Attributes:
        texts: n texts.
        prompts: n strings; each goes before its text as it stands.
        task: the route of a Router; None for its default.
    """

    texts: Sequence[str]
    prompts: Sequence[str]
    task: Task | None = None


class WholeReplica(NamedTuple):
    """A SentenceTransformer, and the device that it is on."""

    model: Any
    device: torch.device


def run_whole(
    replicas: Sequence[WholeReplica],
    asked: WholeTexts,
    keep: Callable[[Ints, torch.Tensor], None],
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> None:
    """Send texts through a model and hand each pass's vectors to ``keep``, from several threads.

    On the CPU every text is a pass of its own on one thread: its vector does not depend on what else is encoded. On a
    GPU texts under one prompt go in batches by their length, and a vector's last digits may depend on its company.

    Args:
        replicas: the model on each device.
        asked: the texts.
        keep: called with rows (indices into the texts) and their vectors, [k, d].
        dtype: of linear layers and attention (autocast).
        progress: told after each pass.

    Raises:
        EncoderError: the model cannot encode a text.
    """
    device = replicas[0].device
    passes = _batches(asked, 1 if device.type == "cpu" else GPU_BATCH)
    lock = threading.Lock()
    done = 0
    options = {"task": asked.task} if asked.task else {}

    def take(model: Any) -> tuple[Ints, dict[str, Any]] | None:
        with lock:  # a tokenizer cannot serve two calls at once
            rows = next(passes, None)
            if rows is None:
                return None
            prompt = asked.prompts[rows[0]]
            return rows, model.preprocess([asked.texts[row] for row in rows], prompt=prompt or None, **options)

    def work(replica: WholeReplica) -> None:
        nonlocal done
        while found := take(replica.model):
            rows, features = found
            keep(rows, _forward(replica, features, dtype, options))
            with lock:
                done += len(rows)
                if progress:
                    progress(done, len(asked.texts))

    def stop() -> None:
        with lock:
            passes.close()

    try:
        side_by_side(work, replicas, device, stop)
    except MediError:
        raise
    except Exception as error:  # whatever a model's own code raises
        raise EncoderError(
            f"the model cannot encode these texts ({type(error).__name__}: {error}); try them with "
            "sentence-transformers' own encode, encode_query or encode_document"
        ) from error


def _batches(asked: WholeTexts, size: int) -> Generator[Ints]:
    """Rows of one prompt each, longest texts first."""
    by_prompt: dict[str, list[int]] = {}
    for row, prompt in enumerate(asked.prompts):
        by_prompt.setdefault(prompt, []).append(row)
    for members in by_prompt.values():
        members.sort(key=lambda row: -len(asked.texts[row]))
        for start in range(0, len(members), size):
            yield np.array(members[start : start + size])


@torch.inference_mode()
def _forward(
    replica: WholeReplica, features: dict[str, Any], dtype: torch.dtype, options: dict[str, Any]
) -> torch.Tensor:
    from sentence_transformers.util import batch_to_device

    model, device = replica
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        found: torch.Tensor = model(batch_to_device(features, device), **options)["sentence_embedding"]
    return found[..., : model.truncate_dim].float()

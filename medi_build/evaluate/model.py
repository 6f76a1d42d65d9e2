"""The model that is evaluated: an encoder behind the vector store, and the instructions it gets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Floats32
from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Embed, Prompt, Side
from medi_build.encode.embedder import open_embedder
from medi_build.encode.engine import Progress
from medi_build.evaluate.instructions import Instructions, choose_instructions


class EvaluatedModel(NamedTuple):
    """A model under evaluation.

    Attributes:
        about: name, revision, digest of its files, dtype, window, device: as results tell it.
        embed: texts to unit vectors; stored ones are not computed again, so that a killed run loses little.
        instructions: what stands in front of the texts.
        saved: the prompt that the model takes where `instructions` leaves it to the model.
    """

    about: Mapping[str, Any]
    embed: Embed
    instructions: Instructions
    saved: Any

    def vectors(self, texts: Sequence[str], task_type: str, side: Side | None = None, task: str = "") -> Floats32:
        """Unit vectors, float32 [n, d], of texts under the instruction of their kind of task and side."""
        prompt = self.instructions.prompt(task_type, side, task)
        return self.embed(list(texts), prompt.instruction, prompt.side).vectors.astype(np.float32)

    def told(self, task_type: str, side: Side | None = None, task: str = "") -> str:
        """The text that stands in front of a side's texts."""
        prompt: Prompt = self.instructions.prompt(task_type, side, task)
        text: str = self.saved(prompt)
        return text


def open_model(
    spec: EncoderSpec,
    instructions: str = "auto",
    *,
    device: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
) -> EvaluatedModel:
    """Open a model for evaluation.

    Args:
        spec: which model, in which dtype and window.
        instructions: as in `choose_instructions`.
        device: "cpu", "cuda" (all GPUs), "cuda:1", ...; None for the GPUs if there are any.
        store: folder of the vector store; None keeps nothing between runs.
        progress: called with (texts done, texts to encode) of the call under way, from worker threads.

    Raises:
        EncoderError: there is no such model, or it is no encoder.
        ContentError: the instructions cannot be read.
        OptionError: there is no such device.
        StoreError: ``store`` is no usable store.
    """
    embed = open_embedder(spec, device, store, progress)
    chosen = choose_instructions(instructions, leaves_instruction_out=embed.encoder.skip_instruction)
    return EvaluatedModel(embed.encoder.about, embed, chosen, embed.encoder.prompts.text)

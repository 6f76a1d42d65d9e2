"""Which instruction stands in front of which texts of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from medi_build.content.evaluation import EvaluationInstructions, Sides, read_instructions, shipped_instructions
from medi_build.embedding import Prompt, Side

KEYWORDS = ("auto", "templates", "saved", "none")
"""Of ``--instructions``; anything else is a file."""


@dataclass(frozen=True)
class Instructions:
    """What is put in front of texts, by kind of task and side.

    Attributes:
        source: "templates", "saved" (the model's own prompts), "none", or where other instructions come from.
        table: the instructions; None for the model's own prompts.
    """

    source: str
    table: EvaluationInstructions | None

    def prompt(self, task_type: str, side: Side | None, task: str = "") -> Prompt:
        """What texts of a side are encoded with.

        Args:
            task_type: kind of the task, as mteb names it (``Retrieval``, ``STS``, ...).
            side: queries, documents, or neither where the texts of a task are all of one kind.
            task: the task's name, which only a user's own instructions heed.
        """
        if self.table is None:
            return Prompt(None, side)
        sides = self.table.of(task_type, task)
        return Prompt(sides.document if side == "document" and sides.document is not None else sides.query, side)


NO_INSTRUCTIONS = Instructions("none", EvaluationInstructions(other=Sides(query="")))


def choose_instructions(asked: str, *, leaves_instruction_out: bool) -> Instructions:
    """The instructions that ``--instructions`` asks for.

    Args:
        asked: one of `KEYWORDS` or a file; ``auto`` is our templates for a model that leaves instructions out of its
            pooling, as INSTRUCTOR does and what `medi train` makes, and the saved prompts of any other.
        leaves_instruction_out: whether this model does.

    Raises:
        ContentError: it is neither a keyword nor a readable file in the form of ``templates/evaluation.yaml``.
    """
    if asked == "auto":
        asked = "templates" if leaves_instruction_out else "saved"
    if asked == "templates":
        return Instructions(asked, shipped_instructions())
    if asked == "saved":
        return Instructions(asked, None)
    if asked == "none":
        return NO_INSTRUCTIONS
    return Instructions(asked, read_instructions(Path(asked)))

"""The first sentence of a task's own definition, for instructions that quote it (``phrasing: definition``)."""

import re
from typing import Any

MAX_WORDS = 40
"""A longer sentence is cut there: an instruction stands in front of every text and takes of its window."""
MAX_CHARACTERS = 400
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)\s+(?=[\"'(\[]?[^\W\d_a-z])|(?<=[。！？])"
)


def first_sentence(definition: Any) -> str:
    """Return the first sentence of a definition on one line, without its full stop; empty if there is none.

    Args:
        definition: what stands in the task file under ``Definition``: a text, or a list of texts, of which the first.
    """
    text = definition[0] if isinstance(definition, list) and definition else definition
    if not isinstance(text, str):
        return ""
    text = " ".join(_CONTROL.sub(" ", text.encode("utf-8", "ignore").decode()).split())
    words = _SENTENCE_END.split(text, maxsplit=1)[0].split(" ")[:MAX_WORDS]
    return " ".join(words)[:MAX_CHARACTERS].rstrip(" .,:;。")

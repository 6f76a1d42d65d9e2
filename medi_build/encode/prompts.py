"""The prompts that a model was saved with, read from its folder and used as sentence-transformers uses them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medi_build.embedding import Prompt
from medi_build.errors import EncoderError, OptionError

CONFIG = "config_sentence_transformers.json"
NOT_TAKEN = ("passage", "corpus")
"""Names under which models have a prompt for documents that `encode_document` does not take."""


@dataclass(frozen=True)
class Prompts:
    """A model's prompts, as sentence-transformers 6.2 has them.

    ``query`` and ``document`` are always among them, empty where the model has none saved. So `encode_query` and
    `encode_document` take no other: neither ``default_prompt_name`` nor ``passage`` or ``corpus``.

    Attributes:
        by_name: the prompts.
        default_name: that of `encode`, where nothing else is said; None for no prompt.
    """

    by_name: Mapping[str, str]
    default_name: str | None = None

    def text(self, prompt: Prompt) -> str:
        """What stands in front of the texts: the instruction given, else the prompt of the side or the default."""
        if prompt.instruction is not None:
            return prompt.instruction
        name = prompt.side or self.default_name
        return self.by_name.get(name, "") if name else ""

    def named(self, name: str) -> str:
        """The prompt of a name.

        Raises:
            OptionError: there is none.
        """
        if name not in self.by_name:
            raise OptionError(
                f"prompt name {name!r}: the model has {', '.join(map(repr, self.by_name))}; name one of them, or give "
                "the instruction itself"
            )
        return self.by_name[name]

    def told(self, prompt: Prompt) -> str:
        """The prompt and where it comes from, for people to read."""
        text = self.text(prompt)
        if prompt.instruction is not None:
            return f"{quoted(text)} (given)"
        name = prompt.side or self.default_name
        if text:
            return f"{quoted(text)} (saved as {name!r})"
        passed_over = [known for known in NOT_TAKEN if self.by_name.get(known)]
        if prompt.side == "document" and passed_over:
            return f"none (sentence-transformers takes 'document', which is not saved, and not {passed_over[0]!r})"
        return "none (none saved)"


def quoted(text: str) -> str:
    """A prompt for people to read, white space and all."""
    return json.dumps(text, ensure_ascii=False) if text else "none"


def prompts_of(folder: Path) -> Prompts:
    """The prompts of a saved model; it is not loaded.

    Raises:
        EncoderError: what is saved is no table of prompts, or has not the default that it names.
    """
    path = folder / CONFIG
    saved: Any = {}
    if path.is_file():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise EncoderError(f"{path}: is not JSON ({error}); copy or save the model again") from error
    if not isinstance(saved, dict) or saved.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        return Prompts({"query": "", "document": ""})  # another kind's settings are not this one's
    prompts, default = saved.get("prompts", {}), saved.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise EncoderError(
            f"{path}: prompts is {prompts!r}; it has to be texts by name, such as {{'query': 'query: '}}"
        )
    by_name = {name: text or "" for name, text in {"query": "", "document": "", **prompts}.items()}
    if default is not None and default not in by_name:
        raise EncoderError(
            f"{path}: default_prompt_name is {default!r}, but the prompts are {', '.join(map(repr, by_name))}; name "
            "one of them, or null for none"
        )
    return Prompts(by_name, default)

"""The forms in which `Instructor.encode` takes texts: plain strings, or pairs of instruction and text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from medi_build.errors import TrainError

_HOW = (
    'pass [[instruction, text], ...] or [{"instruction": ..., "text": ...}, ...]; for no instruction, an empty one; '
    "or texts alone: [text, ...]"
)


class Pair(NamedTuple):
    """A text and the instruction that it is encoded under."""

    instruction: str
    text: str


class Sentences(NamedTuple):
    """What was given, in one form.

    Attributes:
        inputs: all plain strings, or all pairs.
        single: whether one text was given and not a list; a single vector comes back.
    """

    inputs: list[str] | list[Pair]
    single: bool

    @property
    def paired(self) -> bool:
        """Whether these are pairs; none at all are not."""
        return bool(self.inputs) and isinstance(self.inputs[0], Pair)


def read_sentences(given: Any) -> Sentences:
    """Texts or pairs from a list of either, a string, a mapping with the two keys, an array, a column of a table.

    Raises:
        TrainError: it is something else, holds both kinds, or a string that is not valid Unicode.
    """
    single = isinstance(given, str | Mapping)
    entries = [given] if single else _entries(given)
    if not entries or isinstance(entries[0], str):
        return Sentences([_text(index, entry) for index, entry in enumerate(entries)], single)
    return Sentences([_pair(index, entry) for index, entry in enumerate(entries)], single)


def are_pairs(inputs: Any) -> bool:
    """Whether these are pairs of instruction and text, in one of the forms that are taken."""
    return len(inputs) > 0 and not isinstance(inputs[0], str) and _as_pair(inputs[0]) is not None


def _entries(given: Any) -> list[Any]:
    if isinstance(given, bytes | set | frozenset) or not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
        raise TrainError(f"sentences is {_shown(given)}, not a list of texts or pairs; {_HOW}")
    plain = given.tolist() if hasattr(given, "tolist") else given
    return list(plain) if isinstance(plain, list | tuple) or hasattr(plain, "__iter__") else [plain]


def _text(index: int, entry: Any) -> str:
    if not isinstance(entry, str):
        raise TrainError(f"sentence {index} is {_shown(entry)}, not a text like those before it; {_HOW}")
    return _unicode(index, entry, entry)


def _pair(index: int, entry: Any) -> Pair:
    pair = _as_pair(entry)
    if pair is None:
        raise TrainError(f"sentence {index} is {_shown(entry)}, not a pair of strings; {_HOW}")
    for part in pair:
        _unicode(index, entry, part)
    return pair


def _as_pair(entry: Any) -> Pair | None:
    if isinstance(entry, Pair):
        return entry
    if isinstance(entry, Mapping):
        parts = [entry["instruction"], entry["text"]] if entry.keys() == {"instruction", "text"} else []
    elif isinstance(entry, list | tuple) or hasattr(entry, "tolist"):
        parts = list(entry)
    else:
        parts = []
    return Pair(*parts) if len(parts) == 2 and all(isinstance(part, str) for part in parts) else None


def _unicode(index: int, entry: Any, text: str) -> str:
    """The text, if it can be written as UTF-8; one with lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TrainError(
            f"sentence {index} is {_shown(entry)}, which is not valid Unicode; mend or replace it"
        ) from None
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"

"""Outputs that point at an option of their input ("B", "Option 2", "second"), and the text that they point at.

Whether two rows answer "B" is chance, so such an output is no label; the option's text is an answer.

An output is read as a pointer (`pointer`); the options of the input are found by the marks in front of them, of which
several forms are known. Marks count only as a run that begins with the first one (A, B, C or 1, 2, 3), so that an
article or a number in a sentence is not taken for one.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Literal, NamedTuple

_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_CARDINALS = ("one", "two", "three", "four", "five")
_RANKS = {
    **{letter: rank for rank, letter in enumerate("abcdefghij", 1)},
    **{str(rank): rank for rank in range(1, 11)},
    **{word: rank for words in (_ORDINALS, _CARDINALS) for rank, word in enumerate(words, 1)},
}
_OPTION_NOUNS = (
    "option", "choice", "completion", "candidate", "answer", "middle", "ending", "response", "continuation",
    "hypothesis",
)  # fmt: skip
"""What nothing but an option is called; such marks go before bare ones, which may stand in any text."""
_OTHER_NOUNS = (
    "title", "text", "statement", "summary", "review", "sentence", "story", "passage", "paragraph", "question",
)  # fmt: skip
"""What an option may be called, and other parts of the input as well."""
_NOUNS = _OPTION_NOUNS + _OTHER_NOUNS
_ANY_NOUN = "|".join(_NOUNS)
_NUMBER = rf"10|[1-9]|{'|'.join(_CARDINALS)}"
_POINTER = re.compile(
    rf"\W*(?:the )?(?:(?P<noun>{_ANY_NOUN})(?:[ _]?(?=[\d(])|[ _]))?"
    rf"\W*(?P<key>[a-j]|{_NUMBER}|{'|'.join(_ORDINALS)})\W*(?: (?P<after>{_ANY_NOUN}|one))?\W*",
    re.IGNORECASE,
)
_UNMARKED = re.compile(r"(?<!\S)([A-J])(?=\s)")
_NEXT_PART = re.compile(r"\s(?:Question|Context|Explanation|Ending|Answer|Passage|Sentence ?\d)\s?:")
"""What ends the last option: another part of the input."""


class Pointer(NamedTuple):
    """What an output points at.

    Attributes:
        noun: what it calls the options, lower case; empty if nothing.
        style: whether it counts in letters (B), in numbers (2, two) or in order (second).
        rank: place of the option, from 1.
    """

    noun: str
    style: Literal["letter", "number", "ordinal"]
    rank: int


@lru_cache(maxsize=1024)
def pointer(output: str) -> Pointer | None:
    """Read an output as a pointer: ``B``, ``(b).``, ``2``, ``Option 2``, ``Text two``, ``second``, ``first sentence``.

    Nouns and ordinals are English. Returns None for any other output.
    """
    match = _POINTER.fullmatch(output) if len(output) <= 30 else None
    if not match:
        return None
    key = match["key"].lower()
    noun = (match["noun"] or match["after"] or "").lower()
    style: Literal["letter", "number", "ordinal"] = (
        "ordinal" if key in _ORDINALS else "letter" if len(key) == 1 and key.isalpha() else "number"
    )
    return Pointer("" if noun == "one" else noun, style, _RANKS[key])


def option_text(text: str, target: Pointer) -> str | None:
    """Find the option that is pointed at.

    Forms: ``(A) text``, ``A) text``, ``A. text``, ``a ) text ,``, ``<1> text``, ``Options: A text B text``,
    ``Option1: text``, ``Completion A: text``, ``Middle 1: text``, ``Text one: text``; for an ordinal, also the two
    lines of the input.

    Args:
        text: the input.
        target: from `pointer`.

    Returns:
        The option's text without its mark, or None if the input has no such option.
    """
    for options in _readings(text, target):
        if target.rank <= len(options) and options[target.rank - 1]:
            return options[target.rank - 1]
    return None


def _readings(text: str, target: Pointer) -> Iterator[list[str]]:
    """The options of the input, by each form in which they may be marked."""
    letters = target.style == "letter"
    if target.noun:
        yield _run(_named(target.noun, letters), text)
    else:
        for noun in _OPTION_NOUNS:
            yield _run(_named(noun, letters), text)
    for form in _bare(letters):
        yield _run(form, text)
    if letters:
        yield _run(_UNMARKED, text.partition("Options:")[2])
    if not target.noun:
        for noun in _OTHER_NOUNS:
            yield _run(_named(noun, letters), text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if target.style == "ordinal" and len(lines) == 2:
        yield lines


@cache
def _named(noun: str, letters: bool) -> re.Pattern[str]:
    """``Option A:``, ``Option1:``, ``Text two:``."""
    return re.compile(rf"\b{noun}[ _]?\(?({'[A-J]' if letters else _NUMBER})\)?\s?[:.)|]", re.IGNORECASE)


@cache
def _bare(letters: bool) -> tuple[re.Pattern[str], ...]:
    """``(A)``, ``<1>``, ``a )``, ``A.``, and ``A:`` at the beginning of a line."""
    key = "[A-Ja-j]" if letters else "10|[1-9]"
    return (
        re.compile(rf"\(({key})\)"),
        re.compile(rf"<({key})>"),
        re.compile(rf"(?<![^\s,;])({key})\s?\)"),
        re.compile(rf"(?<![^\s,;])({key})\.(?=\s)"),
        re.compile(rf"(?m)^\s*({key})[.:]"),
    )


class _Mark(NamedTuple):
    """A mark, and the run that goes on from it.

    Attributes:
        start: its first character.
        end: the one behind its last.
        length: of the run, this mark included.
        next: the nearest mark behind it that counts one further.
    """

    start: int
    end: int
    length: int
    next: "_Mark | None"


def _run(form: re.Pattern[str], text: str) -> list[str]:
    """Texts behind the longest run of marks A, B, C ... or 1, 2, 3 ...; of two as long, the later. Empty if none."""
    nearest: dict[int, _Mark] = {}
    best: _Mark | None = None
    for match in reversed(list(form.finditer(text))):
        rank = _RANKS[match[1].lower()]
        following = nearest.get(rank + 1)
        mark = _Mark(match.start(), match.end(), 1 + (following.length if following else 0), following)
        nearest[rank] = mark
        if rank == 1 and mark.length > (best.length if best else 1):
            best = mark
    texts = []
    while best:
        texts.append(text[best.end : best.next.start if best.next else len(text)])
        best = best.next
    if texts and (next_part := _NEXT_PART.search(texts[-1])):
        texts[-1] = texts[-1][: next_part.start()]
    return [_trimmed(text) for text in texts]


def _trimmed(text: str) -> str:
    return text.strip().removeprefix(".").rstrip(" \t\r\n,;").lstrip()

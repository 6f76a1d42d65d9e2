"""What is wrong with the wording of one instruction: too long, says nothing, says a thing twice, broken grammar."""

import re
from itertools import pairwise
from typing import NamedTuple

MAX_WORDS = 30


class Fault(NamedTuple):
    """One thing that is wrong, and what to do about it."""

    what: str
    do: str


_PARTS = re.compile(
    r"Represent(?: (?:the|this|a|an))?(?: (?P<kind>.*?))?(?: (?:by what matters )?for (?P<objective>.*))?"
)
_EMPTY_KINDS = frozenset(("phrase", "text", "input", "string", "content", "data"))
_EMPTY_VERBS = r"generating|writing|creating|producing|understanding|representing|executing|processing|reading|encoding"
_ARTICLES = frozenset(("a", "an", "the"))
_TWICE = frozenset(("that", "had"))
_VOWEL_LETTER = re.compile(r"[aeio]|u(?!nani|ni(?![mn])|s|ti|bi)")
_VOWEL_SOUND = re.compile(r"hour|honest|heir|honou?r")
_CONSONANT_SOUND = re.compile(r"one\b|once\b|eu|ewe")
_HANGING = frozenset(("a", "an", "the", "for", "of", "into", "and", "or", "whether"))
_PAIRED = (("(", ")"), ("[", "]"), ("“", "”"))


def faults(instruction: str) -> list[Fault]:
    """All faults of a rendered instruction.

    Args:
        instruction: ``Represent the ...``, without the separator at its end.
    """
    match = _PARTS.fullmatch(instruction)
    kind, objective = (match["kind"] or "", match["objective"] or "") if match else ("", "")
    words = instruction.split()
    found = []
    if len(words) > MAX_WORDS:
        found.append(Fault(f"{len(words)} words", f"say it in at most {MAX_WORDS}"))
    if not kind or kind.split()[0] in ("for", "by", "as"):
        found.append(Fault("no text type", "name what the input is, e.g. premise and hypothesis"))
    elif not objective and len(words) == 3 and kind in _EMPTY_KINDS:
        found.append(Fault(f"only {kind!r}, which says nothing", "name the kind of text and what is asked of it"))
    if kind and _tautological(kind, objective):
        found.append(Fault(f"{objective!r} says the text type again", "say what is asked of the text"))
    return found + _broken(instruction, words)


def _tautological(kind: str, objective: str) -> bool:
    """Such as "dialogue for generating the dialogue"; "sentence for generating a sentence with a blank" is none."""
    noun = re.escape(kind.rsplit(maxsplit=1)[-1])
    if re.fullmatch(rf"(?:{_EMPTY_VERBS}) (?:(?:the|a|an|this) )?(?:{re.escape(kind)}|{noun})", objective):
        return True
    return objective in ("executing the instruction in it", "understanding it", "representing it")


def _broken(instruction: str, words: list[str]) -> list[Fault]:
    found = []
    for one, other in pairwise(words):
        if one.lower() == other.lower() and one.lower() not in _TWICE and not one.endswith(","):
            found.append(Fault(f"{one!r} stands twice", "take one away"))
        elif one in _ARTICLES and other in _ARTICLES:
            found.append(Fault(f"two articles, '{one} {other}'", "take one away"))
        elif one in ("a", "an") and not other.isupper() and (one == "an") != _takes_an(other.lower()):
            right = "an" if one == "a" else "a"
            found.append(Fault(f"'{one} {other}'", f"write '{right} {other}'"))
    for opening, closing in _PAIRED:
        if instruction.count(opening) != instruction.count(closing):
            found.append(Fault(f"unbalanced {opening}{closing}", "close or remove it"))
    if instruction.count('"') % 2:
        found.append(Fault('unbalanced "', "close or remove it"))
    if re.search(r"[{}]|<[a-z_ ]+>|%[sd]\b", instruction):
        found.append(Fault("an unfilled placeholder", "fill it in"))
    if re.search(r" [,;:.!?]|,,|\.\.", instruction):
        found.append(Fault("white space or a mark before a punctuation mark", "remove it"))
    if instruction[-1:] in ".,;:!?-":
        found.append(Fault(f"ends with {instruction[-1]!r}", "end with a word; the separator is added"))
    elif words and words[-1].lower() in _HANGING:
        found.append(Fault(f"ends with {words[-1]!r}", "complete it"))
    return found


def _takes_an(word: str) -> bool:
    """Whether ``an`` stands before a word in lower case."""
    word = word.strip("\"'(“")
    if not word[:1].isascii() or not word[:1].isalpha():
        return word.startswith(("8", "11"))
    return bool(_VOWEL_SOUND.match(word)) or (bool(_VOWEL_LETTER.match(word)) and not _CONSONANT_SOUND.match(word))

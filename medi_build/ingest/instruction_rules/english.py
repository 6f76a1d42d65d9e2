"""A little English for task definitions: sentences, gerunds, cutting a phrase where it can be cut."""

import re

from medi_build.ingest.instruction_rules.words import NOUNS, VERBS

_ABBREVIATIONS = {"e.g.": "eg", "i.e.": "ie", "etc.": "etc", "vs.": "vs", "v.": "vs", "a.m.": "am", "p.m.": "pm"}
_ABBREVIATION = re.compile(r"(?<![\w.])(e\.g\.|i\.e\.|etc\.|vs\.|v\.|[ap]\.m\.)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]?[A-Z0-9#])|\n\s*\n|(?<=[a-z])\.(?=[A-Z][a-z])")
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'", "\u200b": None, "\\": None})
_DOUBLING = frozenset(
    """
    begin chat commit crop cut drop fit get infer map omit permit pin plan plot put refer run set sit skip split spot
    stop submit sum swap tag trim win
    """.split()  # noqa: SIM905
)
"""Verbs that double their last letter."""
_DANGLING = frozenset(
    """
    a about against also among an and are as at based be between both but by can containing could depending e.g. each eg
    either etc every for from given has have her his how ie if in including into is it's its may might nor not of on one
    only or per should so such than that the their there these this those to two using via was when where whether which
    while whose why will with within without would
    """.split()  # noqa: SIM905
)
"""Words that need another behind them."""


_TYPING = {"converations": "conversations", "swaped": "swapped", "sentenece": "sentence", "aggresive": "aggressive"}
"""Slips of the definitions' authors."""


def plain(text: str) -> str:
    """Straight quotes, abbreviations without full stops, white space as it reads (blank lines kept)."""
    text = re.sub(r"<([A-Za-z]+)>", lambda match: match[1].lower(), text.translate(_QUOTES))
    text = _ABBREVIATION.sub(lambda match: _ABBREVIATIONS[match.group(1).lower()], text)
    for wrong, right in _TYPING.items():
        text = text.replace(wrong, right)
    text = re.sub(r"\b(and|the|of|to|in|a) \1\b", r"\1", text)
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\n(?!\s*\n)(?=\S)", " ", text)).strip()


def sentences(text: str) -> list[str]:
    """The sentences of `plain` text, without their full stops."""
    return [part.strip(" .!\n") for part in _SENTENCE_END.split(text) if part and part.strip(" .!\n")]


def gerund(verb: str) -> str:
    """``write`` -> ``writing``; a gerund stays one.

    Args:
        verb: base form, lower case.
    """
    if verb.endswith("ing") and verb not in ("bring", "string", "sing", "ring"):
        return verb
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return f"{verb[:-1]}ing"
    return f"{verb}{verb[-1]}ing" if verb in _DOUBLING else f"{verb}ing"


def joined(parts: str, part: str) -> str:
    """``premise and hypothesis`` with ``update`` -> ``premise, hypothesis and update``."""
    return f"{parts.replace(' and ', ', ')} and {part}"


_CLAUSE = re.compile(
    r",? (?=(?:that|which|who|when|where|by|with|based|from|for|in|on|using|without|while|because|as|so|"
    r"given|about|between|through|according|depending|after|before|if)\b)|, |; | - | (?=(?:and|or)\b)"
)


def shorten(phrase: str, most: int, least: int = 3) -> str:
    """The phrase up to its last clause boundary within ``most`` words; empty if there is none behind ``least``."""
    if len(phrase.split()) > most:
        ends = [match.start() for match in _CLAUSE.finditer(phrase)]
        fitting = [phrase[:end] for end in ends if least <= len(phrase[:end].split()) <= most]
        phrase = fitting[-1] if fitting else ""
    phrase = without_dangling(phrase)
    last = phrase.split()[-1] if phrase else ""
    verb_alone = last in VERBS - NOUNS or (last.endswith("ing") and f" and {last}" in phrase)
    return without_dangling(re.sub(r",? (?:and|or) \w+$", "", phrase)) if verb_alone else phrase


_ASKED_LAST = re.compile(
    r"\b(?:what|which|who|how|where) .*"
    r"\b(?:is|are|was|were|can be|has|have|(?:refers?|related|belongs?|applies)"
    r" to|(?:located|written|spoken|used) in|(?:talking|asking) about)$"
    r"|\bthe \w+ (?:it|they) (?:is|are) (?:at|in|on|from)$"
    r"|\bthe \w+ (?:it|they) (?:belongs?|refers?|relates?) to$"
    r"|\bthat .* (?:is (?:located|written|spoken) in|(?:belongs?|refers?|applies) to)$"
)


def without_dangling(phrase: str) -> str:
    """The phrase without the words at its end that need another behind them."""
    words = phrase.strip(" ,;:-").split()
    if _ASKED_LAST.search(phrase):  # "which word it refers to"
        return " ".join(words)
    while words and words[-1].lower().strip("\"',;:") in _DANGLING:
        words.pop()
    return " ".join(words).rstrip(" ,;:-")

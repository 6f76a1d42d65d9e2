"""Whether a phrase built from a sentence of a definition may stand in an instruction."""

import re

_HANGING = re.compile(
    r"(?:^|\s)(?:solely|namely|respectively|simplified|such|certain"
    r"|given|particular|whose|of (?:the )?(?:form|format|type"
    r"|kind|style)|in (?:the )?(?:form|format)|following|the same as|more than|less than|at least|because)$"
)
_CLAUSE_OPEN = re.compile(r"\b(?:the|an?) \w+ (?:it|they|he|she)$")
_ADVICE = re.compile(
    r"\b(?:easy|hard|difficult) for (?:humans|AI|machines)\b|\b(?:in|as) (?:your )?response$"
    r"|\bwhether .*\b(?:that|this) particular\b"
)
_LETTER = re.compile(r"(?<![\w'’-])(?:[B-HJ-Z]|A(?! [a-z])|[b-hj-z]|i)(?![\w'’-])")
_NEGATIVE = re.compile(
    r"\b(?:incorrect\w*|wrong\w*|implausib\w*|unlikely|irrelevant|unrelated|inappropriate|nonsensical|incoherent"
    r"|unanswerable|not (?:\w+ )?(?:sound|make|plausible|correct|answer|relevant|fit|true|related))\b",
    re.IGNORECASE,
)
_BOTH = re.compile(r"\b(?:or|and|otherwise|else|whether|if)\b|/", re.IGNORECASE)
_TWO_SIDED = re.compile(r"(?:deciding|determining|judging|classifying|identifying|predicting|checking|evaluating)\b")
_LABEL = re.compile(
    r"\b(?:answer|output|label|return|respond|reply|say|write|print|generate|give|indicate|it|with|as)\b"
    r"(?: (?:with|as|a|an|the|label|it|answer|output|is))* [\"']([^\"']{1,30})[\"']",
    re.IGNORECASE,
)


def stands(phrase: str, sentence: str) -> bool:
    """Whether a phrase ends where it can, names nothing unintroduced, and keeps the sentence's "incorrect".

    Args:
        phrase: a request as `request` says it.
        sentence: the sentence of the definition it was built from.
    """
    if _CLAUSE_OPEN.search(phrase) or _ADVICE.search(phrase):
        return False
    return not (_HANGING.search(phrase) or _LETTER.search(phrase) or _loses_negation(phrase, sentence))


def yes_or_no(text: str) -> bool:
    """Whether a definition names at most two labels, so that one condition tells them apart."""
    return len({label.lower().strip(" .,") for label in _LABEL.findall(text)}) <= 2


def _loses_negation(phrase: str, sentence: str) -> bool:
    """Whether the sentence asks for a wrong thing and the phrase for a thing; a choice of both loses nothing."""
    negative = _NEGATIVE.search(sentence)
    if negative is None or _NEGATIVE.search(phrase):
        return False
    return not (_TWO_SIDED.match(phrase) and _BOTH.search(sentence))

"""Instruction fields of a Super-NI task: domain, text type and objective, by rules over the task's own file.

They fill ``Represent the [domain] <text type> [for <objective>]`` (Su et al. 2023, section 2.4). The definition's own
words come first (`super_ni_request`, `super_ni_input`), the category's phrase where they cannot be read. A rule leaves
a field empty rather than say something untrue; ``sources/super_ni_overrides.tsv`` says it where the rules cannot.
"""

import re
from collections.abc import Mapping
from typing import Any

from medi_build.ingest.adapters.super_ni_categories import CATEGORY_BY_NAME, OBJECTIVES
from medi_build.ingest.adapters.super_ni_domain import domain_of, language_of, named
from medi_build.ingest.adapters.super_ni_english import shorten
from medi_build.ingest.adapters.super_ni_input import text_type
from medi_build.ingest.adapters.super_ni_languages import languages_told
from medi_build.ingest.adapters.super_ni_request import request


def fields(task: Mapping[str, Any]) -> dict[str, str]:
    """Work out ``domain``, ``text_type`` and ``objective`` of a task.

    Args:
        task: the task file's mapping, any key of which may be missing: ``Domains``, ``Categories``, ``Definition``,
            ``Input_language``, ``Output_language``, ``Instances`` (the first is looked at); and ``task``, its name.

    Returns:
        The three fields; ``domain`` and ``objective`` may be empty.
    """
    definition, sample, category = _definition(task), _sample(task), _category(task)
    if category == "Translation" and "Input_language" not in task and (pair := languages_told(definition, sample)):
        task = {**task, "Input_language": [pair[0]], "Output_language": [pair[1]]}
    inputs = _strings(task, "Input_language")
    kind = text_type(definition, sample, tuple(inputs) if len(inputs) == 1 else (), category == "Translation")
    for name in inputs:
        kind = re.sub(rf"\b{name.lower()}\b", name, kind)
    domain = "" if kind.startswith(tuple(inputs)) else domain_of(_strings(task, "Domains"), kind, category)
    objective = _objective(task, definition, category, kind)
    language = language_of(inputs, category == "Translation")
    told = " ".join(filter(None, (language if language not in kind else "", domain)))
    room = MOST_WORDS - len(f"Represent the {told} {kind} for".split())
    objective = shorten(objective, room) if len(objective.split()) > room else objective
    if before := _BEFORE.match(kind):  # "two statements" in Tamil are "two Tamil statements"
        kind, told = f"{before.group()}{told} {kind[before.end() :]}" if told else kind, ""
    return {"domain": told, "text_type": kind, "objective": objective}


MOST_WORDS = 30
"""Most words of an instruction."""
_BEFORE = re.compile(
    r"(?:(?:two|three|four|five|several|pair of|set of|list of|lists of|hateful|short|correct|incorrect|incomplete"
    r"|ambiguous|disfluent) )+"
)


def _strings(task: Mapping[str, Any], key: str) -> list[str]:
    value = task.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _definition(task: Mapping[str, Any]) -> str:
    return " ".join(_strings(task, "Definition")[:1])


def _sample(task: Mapping[str, Any]) -> str:
    instances = task.get("Instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    text = first.get("input") if isinstance(first, dict) else None
    return text.strip() if isinstance(text, str) else ""


def _category(task: Mapping[str, Any]) -> str:
    name = str(task.get("task", ""))
    categories = _strings(task, "Categories")
    if not categories:
        categories = [category for pattern, category in CATEGORY_BY_NAME if re.search(pattern, name)]
    return categories[0] if categories else ""


def _objective(task: Mapping[str, Any], definition: str, category: str, kind: str) -> str:
    languages = _strings(task, "Output_language")
    if category == "Translation" and len(languages) == 1 and languages != _strings(task, "Input_language"):
        how = "paraphrased " if "paraphrased translation" in definition else ""
        return f"{how}translation into {named(languages[0])}"
    objective = request(definition)
    if (
        re.fullmatch(r"\w+ing (?:the |a |an )?(?:correct )?(?:answer|output|result|label|response)", objective)
        and "question" not in kind
    ):
        objective = ""
    if category == "Language Identification" and "language" not in objective and "English" not in objective:
        objective = ""
    if category == "Wrong Candidate Generation" and not _WRONG.search(objective):
        objective = ""
    own = OBJECTIVES.get(category, "")
    told = _answering(objective or own, kind)
    if told.startswith("answering ") and len(told.split()) < 4 and category != "Question Answering":
        told = own or told
    return _pronoun(told, kind)


_WRONG = re.compile(
    r"incorrect|wrong|implausib|unlikely|not |irrelevant|bad|false|unrelated|inappropriate|alter", re.IGNORECASE
)


_ANSWERING = re.compile(
    r"(?:answering|generating|writing|giving|providing|creating|finding|choosing|selecting|picking|crafting"
    r"|predicting|identifying|returning|constructing|producing) (?:it|(?:a |an |the |one |that |most )*"
    r"(?:only |single |unambiguous |unique |multiple-choice |math |trivia |mathematical |correct |right |simple "
    r"|suitable |appropriate |best |proper |possible |answer |science |short )*(?:answer|question|option|choice"
    r"|answers|key)s?)"
    r"(?: (?:to|for|of|in) (?:it|(?:the |a |each |this )?(?:given |math |trivia )*(?:question|problem)))?(?: in input)?"
)


_ASKING = re.compile(r"(?:generating|writing|constructing|creating|producing|providing) (?:a |the )?question")
_SOURCE = re.compile(
    r"(?:[\w-]+ )*?(passage|paragraph|context|sentence|statement|story|table|article|tweet|fact|text|document|dialogue"
    r"|conversation)(?: about \w+)?(?:, | and )"
)


def _answering(objective: str, kind: str) -> str:
    """The plain request for an answer, said by what there is to answer it with."""
    match = _ANSWERING.match(objective)
    if not match or re.search(r"incorrect|wrong|implausible", objective) or _ASKING.match(objective):
        return objective
    rest = objective[match.end() :]
    if "option" in kind or "choice" in kind:
        return f"choosing the correct option{rest if re.match(' based on', rest) else ''}"
    rest = rest.strip(" ,")
    if rest:
        return objective
    if "problem" in kind and "question" not in kind:
        return "solving it"
    if re.fullmatch(r"(?:(?!and\b)[\w-]+ )*question(?: (?:from|on|about|in|containing|with) .*)?", kind):
        return "answering it"
    source = _SOURCE.match(kind)
    if source and "question" in kind:
        return f"answering the question from the {source.group(1)}"
    return objective


def _pronoun(objective: str, kind: str) -> str:
    """The text type is not said twice: "classifying the tweet as" of a tweet -> "classifying it as"."""
    if re.search(r" and |, |pair|two |three |list", kind):
        return objective
    objective = re.sub(r"^(\w+ing) them\b", r"\1 it", objective)
    noun = re.split(r" (?:of|with|about|from|on|in|between)\b", kind)[0].split()[-1]
    creating = "writing|generating|creating|composing|constructing|providing|giving"
    told_again = rf"^(?!{creating})(\w+ing) (?:the |a |an )(?:original )?{noun}\b(?! \w+ing\b| pair| type)"
    phrase = re.sub(told_again, r"\1 it", objective)
    return re.sub(rf"\bwhether (?:the |a |an ){noun}\b", "whether it", phrase)

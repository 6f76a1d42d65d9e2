"""Instruction fields of a Super-NI task: domain, text type and objective, by rules over the task's own file.

They fill ``Represent the [domain] <text type> [for <objective>]`` (Su et al. 2023, section 2.4). The definition's own
words come first (`request`, `input`), the category's phrase where they cannot be read. A rule leaves
a field empty rather than say something untrue; ``sources/super_ni_overrides.tsv`` says it where the rules cannot.
"""

import re
from collections.abc import Mapping
from typing import Any

from medi_build.ingest.instruction_rules.categories import CATEGORY_BY_NAME, OBJECTIVES
from medi_build.ingest.instruction_rules.domain import domain_of, language_of, named
from medi_build.ingest.instruction_rules.english import shorten
from medi_build.ingest.instruction_rules.fit import answering, fitted, restricted
from medi_build.ingest.instruction_rules.input import text_type
from medi_build.ingest.instruction_rules.languages import languages_labelled, languages_told, turned
from medi_build.ingest.instruction_rules.phrase import finished, mended
from medi_build.ingest.instruction_rules.request import request


def fields(task: Mapping[str, Any]) -> dict[str, str]:
    """Work out ``domain``, ``text_type`` and ``objective`` of a task.

    Args:
        task: the task file's mapping, any key of which may be missing: ``Domains``, ``Categories``, ``Definition``,
            ``Input_language``, ``Output_language``, ``Instances`` (the first is looked at); and ``task``, its name.

    Returns:
        The three fields; ``domain`` and ``objective`` may be empty.
    """
    definition, sample, category = _definition(task), _sample(task), _category(task)
    inputs, outputs = _languages(task, definition, sample, category)
    kind = text_type(definition, sample, tuple(inputs) if len(inputs) == 1 else (), category == "Translation")
    for name in inputs:
        kind = re.sub(rf"\b{name.lower()}\b", name, kind)
    if kind in ("sentence", "text") and re.search(r"\b[Tt]weets?\b", definition):
        kind = "tweet"
    if kind == "text" and category == "Translation" and "subtitles" in str(task.get("task", "")):
        kind = "movie subtitle"
    pair = languages_labelled(sample) if category != "Translation" else None
    if pair:
        kind = f"{'text' if 'text' in kind else 'sentence'} pair"
    objective = _translation(inputs, outputs, definition, category) or _objective(definition, category, kind)
    if category == "Language Identification" and 2 <= len(inputs) <= 3 and "language" in objective:
        objective = f"identifying whether it is in {', '.join(map(named, inputs[:-1]))} or {named(inputs[-1])}"
    if len(inputs) == 1 and inputs[0] != "English" and not pair:
        objective = re.sub(rf"\bthe {inputs[0]} (?=tweet|sentence|review|text|passage|question)", "the ", objective)
        objective = re.sub(rf"(?<!\w is) in (?:the )?{inputs[0]} language(?= as\b|$)", "", objective)
    kind, objective = fitted(kind, objective, inputs[0] if inputs == outputs and len(inputs) == 1 else "")
    kind, objective = restricted(kind, objective, definition)
    domain = "" if kind.startswith(tuple(inputs)) else domain_of(_strings(task, "Domains"), kind, category)
    language = " and ".join(map(named, pair)) if pair else language_of(inputs, category == "Translation")
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


def _languages(task: Mapping[str, Any], definition: str, sample: str, category: str) -> tuple[list[str], list[str]]:
    """Languages of inputs and outputs, those of a translation the right way round."""
    if category == "Translation" and "Input_language" not in task and (pair := languages_told(definition, sample)):
        return [pair[0]], [pair[1]]
    inputs, outputs = _strings(task, "Input_language"), _strings(task, "Output_language")
    if len(inputs) == len(outputs) == 1 and turned(definition, sample, (inputs[0], outputs[0])):
        return outputs, inputs
    return inputs, outputs


def _translation(inputs: list[str], outputs: list[str], definition: str, category: str) -> str:
    """``translation into Hindi``; empty if the task is none, or none into one language."""
    if category != "Translation" or len(outputs) != 1 or outputs == inputs:
        return ""
    how = "paraphrased " if "paraphrased translation" in definition else ""
    return f"{how}translation into {named(outputs[0])}"


def _objective(definition: str, category: str, kind: str) -> str:
    objective = request(definition)
    if (
        re.fullmatch(r"\w+ing (?:the |a |an )?(?:correct )?(?:answer|output|result|label|response)", objective)
        and "question" not in kind
    ):
        objective = ""
    if category == "Language Identification" and "language" not in objective and "English" not in objective:
        objective = ""
    if (not objective or objective.startswith(("answering", "generating the answer"))) and (
        asked := _ASKED_WHETHER.search(definition)
    ):
        objective = mended(f"deciding whether {asked[1]}") or objective
    if category == "Wrong Candidate Generation" and not _WRONG.search(objective):
        objective = ""
    own = OBJECTIVES.get(category, "")
    if category == "Text Quality Evaluation" and kind.endswith("question"):
        own = "judging the quality of the question"
    if category == "Cause Effect Classification" and re.search("choice|alternative|option", kind):
        own = "choosing the more likely cause or effect"
    if _VAGUE.fullmatch(objective) and category not in _SORTED and _CLASSING.match(own):
        objective = ""
    if _VAGUE.fullmatch(objective) or _UNSORTED.match(objective):
        objective = _sorted(definition) or objective
    told = answering(objective or own, kind)
    if told.startswith("answering ") and len(told.split()) < 4 and category != "Question Answering":
        told = own or told
    return told


def _sorted(definition: str) -> str:
    """The request of a definition that lists its classes in a sentence of their own; empty if it does not."""
    listed = _CLASSES.search(definition)
    said = finished("classify", f"it into {listed['classes']}: {listed['labels']}") if listed else ""
    return said if re.search(r" (?:as|such as) ", said) else ""


_UNSORTED = re.compile(r"giving the category to which\b|classifying the (?:text|passage|sentence)$")
_CLASSES = re.compile(
    r"\b(?P<classes>categories|classes|labels|topics|themes|genres|types)(?: (?:in total|available|here|possible))*"
    r"(?: ?:| -| are| which are| include)[: ]+(?P<labels>[^.]+)"
)
_ASKED_WHETHER = re.compile(r"\bquestion (?:asking )?whether ([^.,;]+)")
_VAGUE = re.compile(
    r"classifying (?:(?:its|their) category|the category of .*)"
    r"|(?:identifying|giving|generating|assigning|choosing|providing|predicting) (?:a|the) (?:correct )?label"
    r"(?: based on .*)?"
)
_CLASSING = re.compile(r"(?:detecting|classifying|judging|identifying|deciding|recognizing|verifying|relating)\b")
_SORTED = ("", "Text Categorization", "Question Understanding", "Section Classification", "Misc.")
_WRONG = re.compile(
    r"incorrect|wrong|implausib|unlikely|not |irrelevant|bad|false|unrelated|inappropriate|alter", re.IGNORECASE
)

"""What the inputs of a Super-NI task are.

From the definition ("You are given a premise and a hypothesis"), from the labels in an input ("Premise: ... Hypothesis:
..."), else from the input's shape.
"""

import ast
import itertools
import re

from medi_build.ingest.adapters.super_ni_english import plain, sentences, without_dangling
from medi_build.ingest.adapters.super_ni_words import NOUNS, VERBS

MAX_WORDS = 9
"""Most words of a text type."""

_NUMBER = r"one|two|three|four|five|six|seven|eight|nine|ten|several|some|multiple|a few|\d+"
_GIVEN = (
    r"(?:you|you'll|we)(?: are|'re|r| will be| would be|'ll be|r)?(?: also)?(?: be)? (?:given|shown|provided with"
    r"|provided|presented with|presented|asked to read|supplied with) (?P<a>(?!to\b|below|in the input).+)",
    r"^(?:read|given|provided with|provided|based on|using|from) (?P<b>(?:the |a |an |two |three |some |any |this "
    r"|you |following |input |\d )*(?!you\b|that\b|your\b).+)",
    r"(?:the )?(?:input|inputs)(?: will)?(?: is| are| be| contains?| consists? of| includes?) (?P<c>(?!in\b|the form"
    r"|taken|separated|from\b|formatted|given).+)",
    r"^(?P<d>(?:an?|the|two|some|three) .{3,80}?) (?:is|are|will be) (?:given|provided|shown|presented)\b",
    r"(?:presented|provided|given) with (?P<e>.+)",
    r"(?:file|files|text|task) (?:includes?|contains?) (?P<f>.+)",
    r"\b(?:the|this|a|an|translate|localize|these) (?:given|provided|input) (?!file|input)(?P<g>.+)",
    r"^(?:classify|categorize|summarize|paraphrase|rewrite) the (?P<h>.+)",
)
_GIVENS = re.compile("|".join(_GIVEN), re.IGNORECASE)
_END = re.compile(
    r"\. |[;:]| - | (?:which|that|where|who|whose|when|your|you|we|separated|to read|from which|from the various"
    r"|written as|labeled|labelled|named|has|have|is|are|was|were|will|may|in which|asking|so|because|as input|as an"
    r" input|in the input|in the form|in input|delimited|numbered|associated|if|with the|along with the label|for"
    r" which|describing|belonging|obtained|collected|taken|i|described|(?:generate|construct|write|identify|create"
    r"|determine) (?:an?|the)|to (?:\w+ )?(?:write|answer|generate|be|determine|classify|select|choose|create|find"
    r"|identify|make)|from the following|based|based on|given|provided|specified|shown|in tabular|containing the"
    r"|about some|regarding|represented|generated|posted|comprising|whether|precisely|into|into two|into|identify|as"
    r" either|on the basis|on whether|to one|to english|arbitrary|marked by|in json|from online|at the)\b"
    r"| and (?:you|your|the task|the goal|asked|we|need|have|want|to|must|should|a boolean|it|in|its polarity label)\b"
    r"|, (?:you|your|we|and you|and your|and the task|the task|the goal|the|i|it|classify|choose|answer|identify"
    r"|generate|determine|find|write|provide|predict|decide|summarize|say|indicate|give|create|detect|translate"
    r"|rewrite|evaluate|output|label|convert|paraphrase|infer|select|extract|in which|or|rate|produce|pick|tell"
    r"|judge|construct|complete|return|label|compute|categorize|simplify|name|make|respond|sentence 1|statement1"
    r"|called|all|only|both|each|one of|suggest|change|correct|compose|perform|list)\b",
    re.IGNORECASE,
)
_ADJECTIVES = (
    r"(?:given|input|provided|following|certain|specific|single|short|simple|respective|corresponding|actual|public"
    r"|particular|natural language|text of the|text of a|text from the|piece of text|form of|set of|short text|another"
    r"|associated|original)"
)


_ASKS = re.compile(r"\b(?:to|for|answer) (?:the|a) (?:given )?question\b")


def text_type(definition: str, sample: str, languages: tuple[str, ...], translated: bool = False) -> str:
    """A noun phrase without article, never empty.

    Args:
        definition: what the annotators were told; may be empty.
        sample: one input; may be empty.
        languages: languages that an instruction names elsewhere; "in Hindi" is left out here.
        translated: whether the task is a translation, whose inputs are of any shape.
    """
    (told, sure), labelled = _told(definition, languages), _labelled(sample)
    if labelled and (not sure or ("question" in labelled and "question" not in told)):
        told = ""
    shape = "text" if translated else _shape(sample)
    options = _with_options(definition, sample)
    if not told and not labelled and _ASKS.search(definition):
        shape = {"sentence": "question", "phrase": "question", "text": "text and question"}.get(shape, shape)
    if shape.startswith(("list", "two ", "pair of", "number")) and _parts(told) < 2 and not labelled:
        return shape
    counted = re.match(rf"(?:{_NUMBER}|pair)\b", told) and _parts(labelled) == _parts(told) == len(
        labelled.split(" and ")
    )
    best = labelled if _parts(labelled) > _parts(told) or counted else told or labelled or shape
    if " with " in best and options and _parts(best) < 2:
        best = f"{best} and {options}"
    elif options and not re.search(r"option|choice|alternative|possible answers", best):
        best = f"{best} with {options}" if _parts(best) < 2 else f"{best.replace(' and ', ', ', 1)} and {options}"
    return best


def _parts(phrase: str) -> int:
    """How many things a phrase names; 0 for none."""
    several = re.search(r"pair|two|three", phrase) is not None
    return len(re.split(r", | and |,", phrase)) + several if phrase else 0


_IN_THIS_TASK = re.compile(r"^(?:in|for) (?:this|the|our) (?:sub)?(?:task|problem)s?,? ?", re.IGNORECASE)


def _told(definition: str, languages: tuple[str, ...]) -> tuple[str, bool]:
    """The text type that a definition tells, and whether it stands where definitions say what is given."""
    text = re.sub(r" ?\([^()]*\)", "", plain(definition))
    text = re.sub(r'"([^"]*)"', lambda m: m.group(1).strip(" ."), text)
    for sentence in sentences(text)[:4]:
        for match in _GIVENS.finditer(_IN_THIS_TASK.sub("", sentence)):
            phrase = _noun_phrase(next(group for group in match.groups() if group), languages)
            if phrase:
                return phrase, match["g"] is None and match["h"] is None
    return "", False


_IN_LANGUAGES = re.compile(
    r",? (?:written )?(?:in|that is) (?:either )?(?:the )?[A-Z]\w+(?: languages?)?,?"
    r"(?: (?:or|and) (?:the |in )*[A-Z]\w+)+(?: languages?)?"
)


def _noun_phrase(text: str, languages: tuple[str, ...]) -> str:
    """The parts that a text begins with ("premise, hypothesis and update"), bounded; empty if they name no text."""
    text = _END.split(text, maxsplit=1)[0]
    text = text.replace(", of ", " of ").replace(", containing", " containing")
    text = re.sub(r",? (?:and )?(?:which is )?followed by", ",", text)
    text = re.sub(r"'s\b", "’s", text).replace("'", "")
    text = re.sub(r"\b[A-Z]\b(?:, ?[A-Z]\b)*(?:,? and [A-Z]\b)?", "", text)
    text = _IN_LANGUAGES.sub("", text)
    for language in languages:
        text = re.sub(rf" (?:written )?in (?:the |native )?{language}(?: language)?\b", "", text, flags=re.IGNORECASE)
        text = re.sub(rf"\b{language}(?: language)?(?=\W|$) ?", "", text, flags=re.IGNORECASE)
    text = re.sub(
        r" (?:written |either )*in (?:either |the )*[A-Z]\w+(?: (?:or|and) (?:the )?[A-Z]\w+)*(?: languages?)?$",
        "",
        text,
    )
    text = text.replace("pair of sentences", "sentence pair").replace("pair of questions", "question pair")
    parts = re.split(r", and an? |, and |, | and ", text)
    parts = [cleaned for part in parts if (cleaned := _without_article(part))]
    kept = list(itertools.takewhile(_names_a_text, parts))
    if not kept:
        return ""
    if len(kept) < len(parts):
        kept[-1] = kept[-1].split(" between ")[0]
    while len(" ".join(kept).split()) > MAX_WORDS:
        longest = max(range(len(kept)), key=lambda place: len(_shorter(kept[place]) and kept[place].split()))
        if _shorter(kept[longest]):
            kept[longest] = _shorter(kept[longest])
        elif len(kept) > 1:
            kept.pop()
        else:
            return ""
    kept = [re.sub(r"^\d(?= )", lambda digit: _COUNT.get(digit.group(), digit.group()), part) for part in kept]
    phrase = ", ".join(kept[:-1]) + " and " + kept[-1] if len(kept) > 1 else "".join(kept)
    phrase = re.sub(r"\bin (?:the )?([A-Z]\w+) language\b", r"in \1", phrase)
    if len(kept) == 1:
        phrase = _singular(phrase)
    phrase = re.sub(rf" (?:about|from|on|to|of|in) (?:the|this) {kept[0].split()[-1]}$", "", phrase)
    return "" if re.search(r"[{}<>\[\]=]", phrase) else without_dangling(re.sub(r"[\"*]", "", phrase).replace("’", "'"))


_NOUN_ENDS = re.compile(r" (?:of|with|about|from|on|in|between|containing|having|for|to) ")


def _names_a_text(part: str) -> bool:
    """Whether the noun at the head of a noun phrase is a known one."""
    words = _NOUN_ENDS.split(part)[0].split()
    if not words or len(part) < 3 or not re.fullmatch(r"[\w ’'/-]+", part):
        return False
    first = words[0].lower()
    if first in VERBS - NOUNS or (
        len(words) > 1 and re.fullmatch(r"in|of|to|for|then|also|finally|with|from|\w+ing", first)
    ):
        return False
    return words[-1].lower().strip("'") in NOUNS


def _singular(phrase: str) -> str:
    """An input is one of them: "reviews of products" -> "review of products"."""
    if re.match(rf"(?:{_NUMBER}|pair|set|list|series|group|sequence)\b", phrase):
        return phrase
    head = re.match(
        r"(?P<before>(?:[\w'’-]+ )*?)(?P<noun>\w+)(?P<after>(?: (?:of|with|about|from|on|in|between|for)\b.*)?)$",
        phrase,
    )
    if not head or head["noun"] not in NOUNS:
        return phrase
    noun = head["noun"]
    singular = (
        noun[:-3] + "y"
        if noun.endswith("ies") and noun[:-3] + "y" in NOUNS
        else noun[:-1]
        if noun.endswith("s") and noun[:-1] in NOUNS
        else noun
    )
    return f"{head['before']}{singular}{head['after']}"


def _shorter(part: str) -> str:
    ends = [
        match.start()
        for match in re.finditer(r" (?:of|with|about|from|on|in|between|containing|having|for|to|by|at)\b", part)
    ]
    return part[: ends[-1]] if ends else ""


def _without_article(part: str) -> str:
    part = part.strip(" .,'")
    while True:
        shorter = re.sub(
            rf"^(?:an?|the|one|some|any|this|these|its|their|it's|each|you|piece of|{_ADJECTIVES})(?= ) ",
            "",
            part,
            flags=re.IGNORECASE,
        )
        if shorter == part:
            break
        part = shorter
    part = re.sub(r"\b(?:given|provided|input|above|following) ", "", part)
    part = (
        part[:1].lower() + part[1:]
        if not re.match(r"[A-Z]{2}|[A-Z][a-z]+(?:ian|ese|ish|i)\b|Wiki|Amazon|Reddit", part)
        else part
    )
    return " ".join(part.split())


_LABELLED = re.compile(
    r"(?:^|\n|<sep>|\.\s|\?\s|;\s|,\s|\s{2,}|[\"'\])]\s?)\s*"
    r"([A-Z][A-Za-z]+(?: [A-Za-z]+)?)[ _]?-?\(?([1-9A-C]?)\)?\s?[:=]"
)
_SYNONYMS = {
    "para": "passage", "dialog": "dialogue", "responser": "response", "q": "question", "options": "answer options",
    "choices": "answer options", "choice": "answer options", "option": "answer options",
}  # fmt: skip


def _labelled(sample: str) -> str:
    """The parts that an input names, in their order; empty if it names none that is known, or too many."""
    found: dict[str, int] = {"paragraph": 1} if re.match(r"paragraph\s?- ?sent", sample, re.IGNORECASE) else {}
    for name, _ in _LABELLED.findall(sample):
        word = _SYNONYMS.get(name.lower(), name.lower())
        if word.split()[-1] in NOUNS:
            found[word] = found.get(word, 0) + 1
    if not found or len(found) > 4:
        return ""
    parts = [
        word
        if count == 1 or word == "answer options"
        else f"{word} pair"
        if count == 2
        else f"{_COUNT.get(str(count), '')} {word}s".strip()
        for word, count in found.items()
    ]
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


_OPTIONS = re.compile(r"\(([A-Ea-e1-5])\)|(?:^|\s)([A-Ea-e])(?: ?\)|\.) ")
_COUNTED = re.compile(
    r"\b(two|three|four|five|2|3|4|5) (?:given |possible |additional )?(?:answer )?(?:options|choices|answers)\b",
    re.IGNORECASE,
)
_COUNT = {"2": "two", "3": "three", "4": "four", "5": "five"}


def _with_options(definition: str, sample: str) -> str:
    """How many answer options an input brings ("four answer options"); empty if none."""
    told = re.search(r"\balso given (?:\w+ or )?\w+ answer options", definition)
    if (len(set(_OPTIONS.findall(sample))) < 2 and not told) or not re.search(
        r"\b(?:option|choice|multiple.choice)", definition, re.IGNORECASE
    ):
        return ""
    count = _COUNTED.search(definition)
    return f"{_COUNT.get(count.group(1), count.group(1).lower())} answer options" if count else "answer options"


def _shape(sample: str) -> str:
    """What an input looks like."""
    text = sample.strip()
    if not text:
        return "text"
    if kind := _structure(text):
        return kind
    if re.search(r"#include|int main|public (?:class|static)|\bdef \w+\(|;\s*\}", text):
        return "program"
    if re.fullmatch(r"[-+]?[\d.,]+", text):
        return "number"
    words = len(text.split())
    if text.endswith("?") and words <= 40:
        return "question"
    if re.search("[\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]", text):  # written without spaces
        return "sentence" if len(text) <= 60 else "passage"
    return (
        "phrase"
        if words <= 3
        else "sentence"
        if words <= 40 and len(re.findall(r"[.!?।](?:\s|$)", text)) <= 1
        else "text"
    )


def _structure(text: str) -> str:
    """``two numbers and a list of letters`` of ``5, 15, ['n', 't']``; empty for running text."""
    if not re.match(r"[\[\d(-]", text) or "[" not in text or not text.rstrip().endswith("]"):
        return ""
    try:
        value = ast.literal_eval(text if text.startswith("[") and text.count("[") == 1 else f"[{text}]")
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return "list of numbers" if re.fullmatch(r"\[[-\d.\s,]+\]", text) else ""
    if not isinstance(value, list):
        return ""
    if len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    heads = [item for item in value if not isinstance(item, list)]
    lists = [item for item in value if isinstance(item, list)]
    if not lists:
        return f"list of {_items(value)}"
    if not heads and len(lists) == 2 and text.startswith("[") and not text.startswith("[["):
        return f"two lists of {_items(lists[0] + lists[1])}"
    if not heads:
        return f"list of lists of {_items([item for part in lists for item in part])}"
    count = {1: "number", 2: "two numbers"}.get(len(heads), "numbers")
    return f"{count} and list of {_items(lists[0])}" if len(lists) == 1 else ""


def _items(items: list[object]) -> str:
    """What the items of a list are."""
    texts = [str(item) for item in items]
    numbers = sum(bool(re.fullmatch(r"-?\d+(?:\.\d+)?", text)) for text in texts)
    letters = sum(len(text) == 1 and text.isalpha() for text in texts)
    if numbers == len(texts):
        return "numbers" if any("." in text for text in texts) else "integers"
    if letters == len(texts):
        return "letters"
    return "letters and numbers" if numbers and letters and numbers + letters == len(texts) else "strings"

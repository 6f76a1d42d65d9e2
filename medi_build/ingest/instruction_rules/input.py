"""What the inputs of a Super-NI task are.

From the definition ("You are given a premise and a hypothesis"), from the labels in an input ("Premise: ... Hypothesis:
..."), else from the input's shape.
"""

import itertools
import re

from medi_build.ingest.instruction_rules.english import joined, plain, sentences, without_dangling
from medi_build.ingest.instruction_rules.reword import after_cut, before_cut
from medi_build.ingest.instruction_rules.shape import shape_of
from medi_build.ingest.instruction_rules.words import NOUNS, VERBS

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
    r" input|in natural language|written in natural|in the input|in the form|in"
    r" input|delimited|numbered|associated|if|with the|giving|along with the label|for"
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
    r"|called|such as|like|for example|all|only|both|each|one of|suggest|change|correct|compose|perform|list)\b",
    re.IGNORECASE,
)
_ADJECTIVES = (
    r"(?:given|input|provided|following|certain|specific|single|short|simple|respective|corresponding|actual|public"
    r"|particular|natural language|text of the|text of a|text from the|piece of text|form"
    r" of|set of(?! steps| facts| rules| instructions| keywords| words)|short text|another"
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
    (told, sure), labelled = _told(definition, languages), _labelled(sample, definition)
    if labelled in ("context", "text") and told:
        labelled = ""
    if labelled and (not sure or ("question" in labelled and "question" not in told)):
        told = ""
    if translated and not labelled and re.fullmatch(r"(?:[\w-]+ )+and \w+", told):
        told = told.replace(" and ", " or ")  # one text of either kind
    shape = _translated(definition) if translated else shape_of(sample)
    options = _with_options(definition, sample)
    if told == "text" and shape == "question":
        told = shape
    if not told and not labelled and shape in ("phrase", "sentence", "text", "question") and not translated:
        shape = _referred(definition, shape) or shape
    if not told and not labelled and _ASKS.search(definition):
        shape = {"sentence": "question", "phrase": "question", "text": "text and question"}.get(shape, shape)
    if shape.startswith(("list", "two ", "pair of", "number")) and _parts(told) < 2 and not labelled:
        return shape
    counted = re.match(rf"(?:{_NUMBER}|pair)\b", told) and _parts(labelled) == _parts(told) == len(
        labelled.split(" and ")
    )
    same = counted and not told.startswith(labelled)  # it does in "four sentences of a story"
    best = labelled if _parts(labelled) > _parts(told) or same else told or labelled or shape
    return _completed(best, definition, options)


def _completed(best: str, definition: str, options: str) -> str:
    """A text type with the question and the answer options that it does not name yet."""
    if not re.search("question|problem", best) and not options and _ASKED_OF.search(definition):
        best = joined(best, "question")
    if best == "head and tail" and re.search(r"\bevents?\b", definition):
        best = "head and tail event phrases"
    if not options or re.search(r"option|choice|alternative|possible answers", best):
        return best
    if " with " in best and _parts(best) < 2:
        best = f"{best} and {options}"
    else:
        best = f"{best} with {options}" if _parts(best) < 2 else f"{best.replace(' and ', ', ', 1)} and {options}"
    return best


def _translated(definition: str) -> str:
    """What a definition wants translated; ``text`` if it does not say."""
    match = _TRANSLATE.search(definition)
    return match[1] if match else "text"


_TRANSLATE = re.compile(
    r"\btranslat(?:e|ing) (?:the |an? |given |each )*(?:[A-Z][a-z]+ )?(question|sentence|phrase|paragraph|headline)s?\b"
)
_ASKED_OF = re.compile(
    r"\banswer (?:the|a) (?:given )?question (?:about|based on|from|using|at the end)\b", re.IGNORECASE
)
_REFERRED = re.compile(
    r"\b(?:the|of|following) (?:given |following )?(argument pair|argument|text|sentence|question|input"
    r"|conversation|dialogue|dialog|passage|paragraph|story|tweet|review|poem|article|headline|joke|comment"
    r"|email|essay|recipe)s?\b"
)


def _referred(definition: str, shape: str) -> str:
    """The kind of text that a definition speaks of without saying that it is given; empty if no more than ``shape``."""
    match = _REFERRED.search(plain(definition))
    if match is None or match.group(1) in ("text", "input", "question"):
        return ""
    return match.group(1) if match.group(1) != "sentence" or shape == "question" else ""


def _parts(phrase: str) -> int:
    """How many things a phrase names; 0 for none."""
    several = re.search(r"pair|two|three", phrase) is not None
    return len(re.split(r", | and |,", phrase)) + several if phrase else 0


_IN_THIS_TASK = re.compile(r"^(?:in|for) (?:this|the|our) (?:sub)?(?:task|problem)s?,? ?", re.IGNORECASE)


def _told(definition: str, languages: tuple[str, ...]) -> tuple[str, bool]:
    """The text type that a definition tells, and whether it stands where definitions say what is given."""
    text = re.sub(r" ?\([^()]*\)(?=([a-z]?))", lambda m: " " if m[1] else "", plain(definition))
    text = re.sub(r"\b(?:which|that) (?:is|are|was|were) (?=written by\b)", "", text)
    text = re.sub(r'"([^"]*)"', lambda m: m.group(1).strip(" ."), text)
    for sentence in sentences(text)[:4]:
        for match in _GIVENS.finditer(_IN_THIS_TASK.sub("", sentence)):
            given = next(group for group in match.groups() if group)
            phrase = _noun_phrase(given.split(" as ")[0] if match["h"] else given, languages)
            if phrase:
                return phrase, match["g"] is None and match["h"] is None
    return "", False


def _noun_phrase(text: str, languages: tuple[str, ...]) -> str:
    """The parts that a text begins with ("premise, hypothesis and update"), bounded; empty if they name no text."""
    text = after_cut(_END.split(before_cut(text), maxsplit=1)[0], languages)
    parts = re.split(r", and an? |, and |, | and ", text)
    parts = [cleaned for part in parts if (cleaned := without_dangling(_without_article(part)))]
    kept = list(itertools.takewhile(_names_a_text, parts))
    if not kept:
        return ""
    if len(kept) > 1:
        kept = _singulars(kept)
    if len(kept) < len(parts):
        kept[-1] = kept[-1].split(" between ")[0]
    while len(" ".join(kept).split()) > MAX_WORDS:
        longest = max(range(len(kept)), key=lambda place: len(_shorter(kept[place]) and kept[place].split()))
        if _shorter(kept[longest]):
            kept[longest] = without_dangling(_shorter(kept[longest]))
        elif len(kept) > 1:
            kept.pop()
        else:
            return ""
    kept = [re.sub(r"^\d(?= )", lambda digit: _COUNT.get(digit.group(), digit.group()), part) for part in kept]
    phrase = ", ".join(kept[:-1]) + " and " + kept[-1] if len(kept) > 1 else "".join(kept)
    phrase = re.sub(r"\bin (?:the )?([A-Z]\w+) language\b", r"in \1", phrase)
    if len(kept) == 1:
        phrase = _singular(_SOURCE.sub(lambda match: match["noun"], phrase))
    head = _NOUN_ENDS.split(kept[0])[0].split()[-1]
    phrase = re.sub(rf" (?:about|from|on|to|of|in) (?:the|this) {head}$", "", phrase)
    return "" if re.search(r"[{}<>\[\]=]", phrase) else without_dangling(re.sub(r"[\"*]", "", phrase).replace("’", "'"))


_SOURCE = re.compile(
    r"^text (?:from|of) (?:an? |the )?(?P<noun>(?:\w+ ){0,2}(?:tweet|post|comment|review|article|message|email)s?)$"
)
_NOUN_ENDS = re.compile(r" (?:written|available|of|with|about|from|on|in|between|containing|having|for|to|out of) ")


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
        r"(?P<before>(?:[\w'’/-]+ )*?)(?P<noun>\w+)(?P<after>(?: "
        r"(?:written|of|with|about|from|on|in|between|for)\b.*)?)$",
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


def _singulars(parts: list[str]) -> list[str]:
    """The first part in the singular, with the second where there are two."""
    if re.search(r" containing | several | two | three ", parts[0]):
        return parts
    first = _singular(parts[0])
    return [first, _singular(parts[1])] if first != parts[0] and len(parts) == 2 else [first, *parts[1:]]


def _shorter(part: str) -> str:
    ends = [
        match.start()
        for match in re.finditer(
            r" (?:of|with|about|from|on|in|between|containing|having|for|to|by|at|available)\b", part
        )
    ]
    return part[: ends[-1]] if ends else ""


def _without_article(part: str) -> str:
    part = part.strip(" .,'")
    while True:
        shorter = re.sub(
            rf"^(?:an?|the|one|few|some|any|this|these|its|their|it's"
            rf"|each|every|original|you|piece of|{_ADJECTIVES})(?= ) ",
            "",
            part,
            flags=re.IGNORECASE,
        )
        if shorter == part:
            break
        part = shorter
    part = re.sub(r"\b(?:given|provided|input|above|following) |^(?:each|every) ", "", part)
    part = (
        part[:1].lower() + part[1:]
        if not re.match(r"[A-Z]{2}|[A-Z][a-z]+(?:ian|ese|ish|i)\b|Wiki|Amazon|Reddit", part)
        else part
    )
    return " ".join(part.split())


_LABELLED = re.compile(
    r"(?:^|\n|<sep>|\.\s|\?\s|;\s|,\s|\s{2,}|[\"'\])]\s?)\s*"
    r"([A-Z][A-Za-z]+(?: [A-Za-z]+)?|(?<=<sep>)[a-z]+|(?<=\n)[a-z]+|(?<!.)[a-z]+)[ _]?-?\(?([1-9A-C]?)\)?\s?[:=]"
)
_SPEAKERS = frozenset(("person", "speaker", "user", "agent", "name", "note"))
_SYNONYMS = {
    "para": "passage", "dialog": "dialogue", "responser": "response", "q": "question", "options": "answer options",
    "choices": "answer options", "choice": "answer options", "option": "answer options",
}  # fmt: skip


def _labelled(sample: str, definition: str) -> str:
    """The parts that an input names, in their order; empty if it names none that is known, or too many."""
    found: dict[str, int] = {"paragraph": 1} if re.match(r"paragraph\s?- ?sent", sample, re.IGNORECASE) else {}
    for name, _ in _LABELLED.findall(sample):
        word = _SYNONYMS.get(name.lower(), name.lower())
        if word in _SPEAKERS:
            continue
        if word.split()[-1] in NOUNS:
            found[word] = found.get(word, 0) + 1
    if not found or len(found) > 4:
        return ""
    parts = [
        f"{word}s"
        if word in ("step", "fact") and count > 1 and not re.search(r"\b(?:two|pair of) ", definition)
        else word
        if count == 1 or word == "answer options"
        else f"{word} pair"
        if count == 2
        else f"{_COUNT.get(str(count), '')} {word}s".strip()
        for word, count in found.items()
    ]
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


_OPTIONS = re.compile(r"\bOption ([A-E]) ?:|\(([A-Ea-e1-5])\)|(?:^|\s)([A-Ea-e])(?: ?\)|\.) ")
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

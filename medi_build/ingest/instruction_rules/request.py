"""What a Super-NI task asks, by its definition: "Your task is to write a title for it" -> "writing a title for it"."""

import re

from medi_build.ingest.instruction_rules.checks import stands, yes_or_no
from medi_build.ingest.instruction_rules.english import gerund, plain, sentences, shorten
from medi_build.ingest.instruction_rules.phrase import MAX_WORDS, finished, mended
from medi_build.ingest.instruction_rules.words import VERBS

_NOT_REQUESTS = frozenset(
    """
    assume avoid be bear consider contain do ensure focus follow ignore include keep let look mention never not note
    only pay please read refer rely remember reply respond see take think try understand use
    """.split()  # noqa: SIM905
)
"""Sentences with them tell how, not what."""
_ADVERB = (
    r"(?:(?:also|then|now|only|simply|correctly|accurately|first|just|further|instead|either|please|to|precisely"
    r"|faithfully|carefully|always|briefly|logically|try to|attempt to|be able to) )*"
)

_ASKING = (
    r"(?:your|the|this|our) (?:(?:main|sub)? ?)(?:task|job|goal|objective|aim|role|subtask)(?: here| in this task|"
    r" of this task| of the task| now)?,? (?:is|are|would be|will be)(?: about| for you)?(?: to|:)? ",
    r"you(?: are|'re|r)? task(?: is)? to ",
    r"you(?: have|'ve) (?:got )?to ",
    r"you (?:are|'re|will be|would be)(?: also)? (?:to|expected to|asked to|required to|supposed to|tasked to|tasked"
    r" with|instructed to|requested to) ",
    r"you(?: (?:will|would|also|just|now|then|only|further))? (?:need|want|ought|are expected) to ",
    r"you (?:will be|are) prompted(?: at the end)? to ",
    r"you (?:must|should|will|can|could|may|shall)(?: then| now| also)? ",
    r"(?:we|i) (?:ask|want|expect|need|would like|would ask|require|request)(?: for)? you (?:to )?",
    r"we (?:have|need|want) to ",
    r"(?:asked|expected|required) to ",
    r"(?:the|this) (?:task|goal) (?:requires|asks|wants)(?: you)?(?: to)? ",
    r"(?:this|the) task (?:involves|is about|consists of|focuses on) ",
)
_STRONG = re.compile(rf"\b{_ASKING[0]}|\b{_ASKING[1]}", re.IGNORECASE)
_WEAK = re.compile("|".join(rf"\b{pattern}" for pattern in _ASKING[2:]), re.IGNORECASE)

_LABEL = r"(?:\(?\d+\)? ?)?(?:\"[^\"]{1,40}\"|'[^']{1,40}'|[A-Z][\w-]*|true|false|yes|no|\d)"
_THEN = (
    r"(?:(?:,|;|,? then|\.)(?: and)? (?:then )?(?:the |your )?(?:please )?(?:you should |you |we )?(?:output|answer"
    r"|label|indicate|return|respond|reply|say|write|print|generate|classify|it |we |"
    r"mark|provide|type|result|this is|predict)\b| (?:output|return|indicate|respond|print|mark|write|generate|the"
    r" (?:output|label|answer)) (?:should|is|it|as|with|via|a label|[\"']|True|False|Yes|No|yes|no|1|0)"
    r"| (?:answer|write|print|output|return) (?:it|as|with|via|a label|[\"']|True|False|Yes|No|yes|no))"
)
_IF = re.compile(rf"^(?:and )?(?:(?:check|see) )?if (?P<condition>[^;]+?){_THEN}", re.IGNORECASE)
_LABEL_IF = re.compile(
    r"^(?:(?:(?:answer|output|return|respond|reply|label|indicate|say|write|print|generate|give|mark|report)\b(?:"
    r" with| as| it as| the \w+ as| your answer as| it| answer| answers| output| a| label| an| the)* )"
    r"|(?:classify|label|mark"
    r"|categorize) .{2,60}? (?:as|into|in|to) )"
    rf"(?-i:{_LABEL})(?:,? (?:or|/) (?-i:{_LABEL}))?,? (?:if|when|in case) (?P<condition>(?:\"[^\"]*\"|[^\"])+?)"
    r"(?:[,;]|\. |,? and (?:classify|otherwise)\b|,? and (?:output|answer|return|\"|'|label|generate|write|print|say"
    r"|respond|(?:False|No|NO|0)\b)|,? otherwise|,? else\b"
    r"|,? or (?:else|as|\"|'|generate|answer|output|return|(?:False|No|0)\b)|$)",
    re.IGNORECASE,
)
_SORTED_IF = re.compile(
    r"^(?:classify|label|mark|categorize) .{2,60}?[:,]? (?:\(?1[.)]"
    r" ?)?[\"']?(?:yes|true)[\"']? if (?P<condition>[^;]+?)"
    r"(?:[,;]|\. |,? and (?:classify|label|mark)\b|$)",
    re.IGNORECASE,
)
_BASES = {gerund(verb): verb for verb in sorted(VERBS)} | {verb: verb for verb in VERBS}
_OPERATIONS = re.compile(r"\b(?:use|apply|perform) (?P<which>.{3,120}?) (?:on|to|over) the numbers", re.IGNORECASE)
_TWO_RULES = re.compile(
    r"\bif the (?P<what>\w+) is (?:an? )?(?P<one>(?:even|odd|positive|negative|divisible)\w*)\b.*?"
    r"\bif (?:the (?P=what)|it|they)(?: is| are)? (?:an? )?(?P<two>\w+)",
    re.IGNORECASE,
)


def request(definition: str) -> str:
    """The request as a phrase that begins with a gerund; empty if the definition's form is none of the known."""
    found: list[tuple[int, str]] = []
    text = re.sub(r"[\"']?\b\d\b[\"']?\s*\(([A-Za-z][\w -]{2,25})\)", r"'\1'", plain(definition))
    text = re.sub(r"\)(?=[a-z])", ") ", text)
    text = re.sub(r"\"?_{2,}\"?", "blank", text)
    text = re.sub(r" as (?:an |the )?output(?= that| which)", "", text)
    text = _CLASSES_BESIDE.sub(r"\1: \2", text)
    text = re.sub(r" ?\((?![^)]*\b(?:\d|ii?)\))[^()]*\)", "", text)
    text = re.sub(r'"([^"]*)"', lambda m: '"' + m.group(1).strip(" .") + '"', text)
    rules = _TWO_RULES.search(text)
    if rules and rules["one"] != rules["two"]:
        return f"changing {rules['one']} and {rules['two']} {rules['what']}s by different rules"
    binary = yes_or_no(text)
    if operations := _OPERATIONS.search(text):
        return f"answering the question by {_operations(operations['which'])}"
    if steps := _STEPS.search(text):
        asked = [said for step in steps.groups() if (said := _spoken(step, binary)) and stands(said, step)]
        if len(asked) == 2:
            return shorten(" and ".join(asked), MAX_WORDS)
    for place, sentence in enumerate(sentences(text)):
        for rank, phrase in _phrases(sentence):
            spoken = _spoken(phrase, binary)
            if spoken and stands(spoken, sentence):
                found.append((rank * 3 + place, spoken))
    best = min(found, key=lambda item: item[0])[1] if found else ""
    if _VAGUE.fullmatch(best):
        return next((said for _, said in found if said.startswith("deciding whether")), best)
    return best


_STEPS = re.compile(r"following operations\b.{0,60}?\(i\) ([A-Z][^,;(]+), \(ii\) ([^,;(]+)")
_VAGUE = re.compile(
    r"(?:classifying|categorizing) (?:(?:its|their) category|it|the \w+|the category of .*)"
    r"(?: (?:on the basis of|based on) .*)?"
)


_CLASSES_BESIDE = re.compile(
    r"\b(categories|classes|labels|types|groups|topics|genres|emotions) "
    r"\(((?:[\w'\"-]+(?: [\w'\"-]+)?, ){1,3}(?:(?:and|or) )?[\w'\"-]+(?:,? (?:and|or) [\w'\"-]+)?)\)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:^|, |\band |\bthen |: "
    r"| (?=(?:identify|classify|determine|predict|generate|decide|indicate) (?:if|whether|the|a|it)\b))(?=[A-Za-z])"
)


_ADVICE = re.compile(
    r"(?:please |also,? |but )*(?:try|note|avoid|do not|don't|make sure|remember|ensure|never|always)\b", re.IGNORECASE
)
_DEMAND = re.compile(
    r"the \w+ (?:that )?you (?:enter|write|generate|give|provide|produce) (?:must|should) be"
    r" (?P<what>(?:a|an) (?:\w+ ){1,3}of (?:the )?.*)",
    re.IGNORECASE,
)


def _phrases(sentence: str) -> list[tuple[int, str]]:
    """Parts of a sentence that may be a request, each with a rank: the lower the surer."""
    if _ADVICE.match(sentence):
        return []
    if demand := _DEMAND.match(sentence):
        return [(-1, f"write {demand['what']}")]
    sentence = re.sub(
        r"^(?:in|for|during) (?:this|the|our) (?:sub)?(?:task|problem|exercise)s?,? ?",
        "",
        sentence,
        flags=re.IGNORECASE,
    )
    each = re.match(r"for (?:every|each) (?P<what>[^,]{1,40}?),", sentence, re.IGNORECASE)
    if each:
        sentence = re.sub(r"\b(?:this|that) (?:list|element|number|string|word)\b", f"each {each['what']}", sentence)
    parts = [(0, sentence[match.end() :]) for match in _STRONG.finditer(sentence)]
    parts += [(-1, sentence[match.end() :]) for match in re.finditer(r", ie,? (?=[a-z]+ (?:a|an|the)\b)", sentence)]
    parts += [
        (1, sentence[match.end() :])
        for match in _WEAK.finditer(sentence)
        if not _conditional(sentence, match.start())
        and not re.match(r"(?:based on|using)\b[^,]*$", sentence[: match.start()], re.IGNORECASE)
    ]
    given = re.match(r"(?:given|based|provided|using|from|for|read|considering|with|after)\b", sentence, re.IGNORECASE)
    for opening in _OPENING.finditer(sentence):
        if (opening.start() == 0 or given) and not _conditional(sentence, opening.start()):
            parts.append((1, sentence[opening.end() :]))
    return parts


def _conditional(sentence: str, place: int) -> bool:
    """Whether what stands there is asked under a condition only."""
    return re.search(r"\b(?:if|when|unless)\b", sentence[:place], re.IGNORECASE) is not None


def _spoken(phrase: str, binary: bool) -> str:
    """A request in the imperative or as a gerund -> a bounded phrase; empty if it is none.

    Args:
        phrase: what follows "your task is to" and the like.
        binary: whether the definition has two labels, so that what holds for one of them is the whole request.
    """
    if only := _ONLY_IF.match(phrase):
        return mended(f"selecting every {only['noun']} for which {only['condition']}")
    phrase = re.sub(rf"^{_ADVERB}", "", phrase, flags=re.IGNORECASE).strip(" ,:")
    if quoted := re.match(r'"(\w+ (?:the|a|an) \w+)"', phrase):
        phrase = quoted[1]
    condition = _condition(phrase)
    if condition and (binary or re.search(r"\b(?:more|greater|less|larger) than\b", condition)):
        return condition
    phrase = re.sub(
        r"^respond with (?=(?:an?|the) (?!letter|number|index|label|word))", "give ", phrase, flags=re.IGNORECASE
    )
    word, _, rest = phrase.partition(" ")
    verb = word.lower().strip(",")
    if verb in (
        "read",
        "reading",
        "using",
        "reason",
        "look",
        "analyze",
        "understand",
        "consider",
        "see",
        "take",
        "use",
    ) and (second := re.search(r"\b(?:and|, |to)(?: then)? (?P<rest>[a-z]+ .*)", rest)):
        return _spoken(second["rest"], binary)
    if verb in ("judge", "evaluate", "assess") and (
        judged := re.search(r"\band ((?:decide|determine|judge) .*)", rest)
    ):
        noun = re.match(r"(?:the|an?) (?:[\w-]+ )*?(\w+)(?= (?:to|of|based|using|and)\b|,)", rest)
        return _spoken(re.sub(r"\bit\b", f"the {noun[1]}", judged[1], count=1) if noun else judged[1], binary)
    base = _BASES.get(verb, "")
    if not base or not rest or base in _NOT_REQUESTS or _NOUN_BEFORE.match(rest):
        return ""
    if base == "answer" and re.match(
        r"with (?:the|an?) (?!index|letter|option|label|word|number|following|choice)", rest
    ):
        base, rest = "give", rest.removeprefix("with ")
    if base in ("output", "print"):
        base = "give"
    if base == "make" and not re.match(r"(?:an?|the) ", rest):
        return ""
    if re.match(r"(?:the )?(?:following )?operations?\b|only one\b|(?:the )?(?:exact|full) (?:text|word)", rest):
        return ""
    if base in ("make", "give", "take") and re.match(r"(?:sure|attention|care)\b", rest):
        return ""
    return finished(base, rest)


_ONLY_IF = re.compile(
    r"only (?:return|output|keep|include|select) an? (?P<noun>\w+) if (?P<condition>the .*)", re.IGNORECASE
)
_NOUN_BEFORE = re.compile(r"(?:should|must|will|can|cannot|may|is|are|has|have)\b", re.IGNORECASE)
"""Behind a noun that looks like a verb: "Answer should be a word"."""


def _condition(phrase: str) -> str:
    """Both "If it is spam, answer yes" and "answer yes if it is spam" -> "deciding whether it is spam"."""
    match = _IF.match(phrase) or _SORTED_IF.match(phrase) or _LABEL_IF.match(phrase)
    if not match:
        return ""
    condition = re.sub(r",? (?:then|you)$", "", match["condition"].split(". ")[0].strip(" ,"))
    if (
        re.search(
            r"\b(?:you|your|no|there (?:are|is) no|sure)\b(?!-)|\bis [\"']?(?:yes|true|false|\d)\b",
            condition,
            re.IGNORECASE,
        )
        or len(condition.split()) < 3
    ):
        return ""
    whole = mended("deciding whether " + condition[:1].lower() + condition[1:])
    return whole if len(whole.split()) >= 5 else ""


def _operations(which: str) -> str:
    if re.search(r"\b(?:multiple|several)\b", which):
        return "several arithmetic operations"
    if re.search(r"\bsingle\b", which):
        return "a single arithmetic operation"
    return " or ".join(re.findall(r"addition|subtraction|multiplication|division", which)) or "arithmetic"

"""Text type and objective of an instruction fitted to each other: nothing twice, no noun in another number."""

import re

from medi_build.ingest.instruction_rules.english import joined
from medi_build.ingest.instruction_rules.words import NOUNS

_ANSWERING = re.compile(
    r"(?:answering|generating|writing|giving|providing|creating|finding|choosing|selecting|picking|crafting"
    r"|predicting|identifying|returning|constructing|producing) (?:it|(?:a |an |the |one |that |most )*"
    r"(?:only |single |unambiguous |unique |multiple-choice |math |trivia |mathematical |correct |right |simple "
    r"|suitable |appropriate |best |proper |possible |answer |science |short )*(?:answer|question|option|choice"
    r"|answers|key|number|letter|index)s?)"
    r"(?: (?:to|for|of|in) (?:it|(?:the |a |each |this )*(?:given"
    r" |math |trivia )*(?:question|problem)s?))?(?: in input)?"
)


_ANSWERING_SUCH = re.compile(r"answering (?:the |a |an )?(?:[\w-]+ ){0,3}questions?$")
_ANSWER_TO = re.compile("answer to an? (?:given )?question")
_RUNNING = re.compile("context|text|passage|paragraph")
_BASED = re.compile(
    r"(?:based on|using|from|about) (?:the |a )?(?:words in the |information (?:in|from) the )?(?:\w+ ){0,2}(\w+)"
)
_ASKING = re.compile(r"(?:generating|writing|constructing|creating|producing|providing) (?:a |the )?question")
_SOURCE = re.compile(
    r"(?:[\w-]+ )*?(passage|paragraph|context|sentence|statement|story|table|article|tweet|fact|text|document"
    r"|dialogue"
    r"|conversation|review|poem|headline|comment|post|email)(?: (?:about|in|from|of|on) \w+)?(?:, | and )"
)


def answering(objective: str, kind: str) -> str:
    """The plain request for an answer, said by what there is to answer it with."""
    match = _ANSWERING_SUCH.match(objective) or _ANSWERING.match(objective)
    if not match or re.search(r"incorrect|wrong|implausible", objective) or _ASKING.match(objective):
        return objective
    rest = objective[match.end() :]
    if "option" in kind or "choice" in kind:
        based = re.match(r" based on (?:the |a )?(?:\w+ )?(\w+)$", rest)
        return f"choosing the correct option{based[0] if based and based[1] in kind else ''}"
    rest = rest.strip(" ,")
    if source := _BASED.fullmatch(rest):
        told = source[1] in kind or source[0].split()[-2] in kind
        rest = "" if told or (_RUNNING.fullmatch(source[1]) and _RUNNING.search(kind)) else rest
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


_SEVERAL = re.compile(r" and |, |pair|two |three |four |list")
_CREATING = "writing|generating|creating|composing|constructing|providing|giving|asking"
_TURNING = (
    r"(?:converting|changing|transforming|rewriting|turning) (?:a|an"
    r"|the) (?P<old>[\w-]+ )?{noun} (?:in)?to (?P<new>an? [\w-]+ {noun})"
)


def fitted(kind: str, objective: str, language: str) -> tuple[str, str]:
    """Text type and objective without what one of them says already.

    Args:
        kind: text type.
        objective: may be empty.
        language: language of inputs and outputs if it is one, else empty.
    """
    if language:
        objective = re.sub(rf"(?<=s) in (?:the )?{language}(?: language)?\b", "", objective)
        objective = re.sub(rf"\ban? (new )?{language} (?=(?:{_TEXTS})\b)", r"a \1", objective, flags=re.IGNORECASE)
        objective = re.sub(rf"\b(the|another) {language} (?=(?:{_TEXTS})\b)", r"\1 ", objective, flags=re.IGNORECASE)
    if objective.startswith(f"answering the {kind}") or objective.startswith(f"answering a {kind}"):
        objective = "answering it"
    objective = re.sub(
        rf"^(?!{_CREATING})(\w+ing) (?:the|an?|each) {re.escape(kind)}(?= (?:as|into|to)\b|$)", r"\1 it", objective
    )
    if "claim" in kind:
        objective = re.sub(r"^verifying the fact$", "verifying the claim", objective)
    if " or " in kind:
        objective = re.sub(rf"\bwhether (?:a|an|the) {re.escape(kind)}\b", "whether it", objective)
    if _SEVERAL.search(kind):
        return kind, _renamed(objective, kind)
    whole = _WHOLE.match(objective) if kind in ("text", "sentence", "phrase", "passage") else None
    if whole and re.fullmatch(
        f"{_TEXTS}|description|review|tweet|post|comment|article|dialogue|statement|table|message",
        whole["noun"].split()[-1],
    ):
        kind, objective = whole["noun"], f"{whole['verb']} it {objective[whole.end() :].strip()}"
    noun = re.split(r" (?:of|with|about|from|on|in|between|containing|written)\b", kind)[0].split()[-1]
    objective = re.sub(rf"(?<!one of )\b(?:the|these|those) {re.escape(kind)}s\b", f"the {kind}", objective)
    objective = re.sub(r" (?:that is |which is )?answerable$", f" answerable from the {noun}", objective)
    if turning := re.fullmatch(_TURNING.format(noun=noun), objective):
        return f"{turning['old'] or ''}{kind}", f"rewriting it as {turning['new']}"
    objective = (
        re.sub(rf"(?<!one of )(?<!each of )\b(the|every|each) {noun}s\b", rf"\1 {noun}", objective)
        if noun in NOUNS
        else objective
    )
    objective = re.sub(rf" by performing (small changes) (?:on|in|to) the {noun}$", r" by \1", objective)
    if not objective.startswith(("answering", "choosing")):
        objective = re.sub(rf",? based on (?:an?|the) {noun}$", "", objective)
    if noun != "text" and "sentence" not in kind:
        objective = re.sub(r"^(\w+ing) the (?:text|sentence)$", r"\1 it", objective)
    objective = re.sub(rf" of {noun}s\b", f" of the {noun}", objective) if noun in NOUNS else objective
    objective = _once(objective, noun)
    objective = re.sub(
        rf"^(\w+ing) the (language|category|sentiment|emotion|topic|genre|tone|intent) of (?:the|an?) {noun}\b",
        r"\1 its \2",
        objective,
    )
    objective = re.sub(rf"(?<=\w) in the {re.escape(kind)}$", " in it", objective)
    return kind, re.sub(rf"(?<=\w) in (?:(?:a|an|the) {noun}\b|{noun}$)(?! \w+ing\b| pair)", " in it", objective)


_WHOLE = re.compile(
    r"(?P<verb>(?:pars|convert|classify|summariz|transform|categoriz|rewrit|simplify|paraphras)ing)"
    r" (?:the |an? |each |every )?(?:original )?(?P<noun>(?:[a-z]+ ){0,2}[a-z]{4,}?)s?"
    r" (?=(?:into|to|as|in(?! the)) )"
)
_MESSAGE = re.compile(r"\b(review|tweet|post|comment|headline|abstract)\b")


def _renamed(objective: str, kind: str) -> str:
    """A review beside other things is called one: "whether the sentence matches" -> "whether the review matches"."""
    message = _MESSAGE.search(kind)
    if message is None:
        return objective
    return re.sub(
        r"\bthe (sentence|text|context|passage)\b",
        lambda match: (
            match[0]
            if re.search(rf"\b{match[1]}\b(?! tweet)", kind.replace("review text", ""))
            else f"the {message[1]}"
        ),
        objective,
    )


_TEXTS = "sentence|question|text|answer|title|headline|summary|passage|paragraph|story|version|phrase|word"


def _once(objective: str, noun: str) -> str:
    """The text type is not said twice: "classifying the tweet as" of a tweet -> "classifying it as"."""
    objective = re.sub(r"^(\w+ing) them\b", r"\1 it", objective)
    objective = re.sub(rf"^(\w+ing) (?:each|every) (?:original )?{noun}(?= in\b| so\b| to\b|$)", r"\1 it", objective)
    objective = re.sub(
        rf"^(classifying) (?:the |a |an )?(?:\w+ )?(?:{noun}|{noun} text|text)(?= as\b)", r"\1 it", objective
    )
    told_again = rf"^(?!{_CREATING})(\w+ing) (?:the |a |an )(?:original )?{noun}\b(?! \w+ing\b| pair| type)"
    phrase = re.sub(told_again, r"\1 it", objective)
    return re.sub(rf"\bwhether (?:the |a |an ){noun}\b", "whether it", phrase)


_PLAUSIBLE = re.compile(
    r"\b(?:generated|new|output|resulting) \w+ (?:should|must) "
    r"(?:be|have|sound)(?: a)?(?: high)? (?:commonsense )?plausib",
    re.IGNORECASE,
)
_BESIDE = re.compile(
    r"\bthe (story|question|summary|headline|title|hypothesis|update"
    r"|response|answer|category|label|interpretation|explanation|part)\b"
)
_BY_COMMONSENSE = re.compile(r"\bcommon-?\s?sense\b(?! rule)", re.IGNORECASE)


def restricted(kind: str, objective: str, definition: str) -> tuple[str, str]:
    """With what another sentence of the definition demands: a plausible sentence, commonsense."""
    if _PLAUSIBLE.search(definition) and "plausib" not in objective:
        objective = re.sub(
            r"^(\w+ing an?)n? (new )?(?=\w)", lambda m: f"{m[1].removesuffix('n')} {m[2] or ''}plausible ", objective
        )
    if re.search("answering the question\\b", objective) and not re.search("question|problem|query", kind):
        kind = joined(kind, "question")
    for noun in _BESIDE.findall(objective):
        if noun not in kind and re.search(
            rf"\b(?:given|provided|presented)\b[^.]*? and (?:an? |the )?(?:[\w-]+ )?{noun}\b",
            definition,
            re.IGNORECASE,
        ):
            kind = joined(kind, noun)
    objective = objective.removesuffix(" that can be answered in a binary manner")
    if re.fullmatch(rf"{_ASKING.pattern}s?", objective) and (answers := _binary(definition)):
        objective = f"{objective} that can be answered with {answers[1].lower()} or {answers[2].lower()}"
    offered = re.search(r"\bwhich of the (?:two |provided )?(candidate \w+s)\b", objective)
    if offered and offered[1] not in kind:
        kind = joined(kind, offered[1])
    kind = _with_topic(kind, definition)
    if objective == "answering it" and (means := _MEANS.search(definition)):
        objective = f"answering it with {means[1]}"
    judged = re.match(r"(?:judging|evaluating|deciding|verifying)\b.* answer to (?:a|the) question", objective)
    answered = "whether the answer is" in objective and _ANSWER_TO.search(definition)
    if (judged or answered) and "question" not in kind:
        kind = joined(f"{kind} and question", "answer")
    options = re.match(r"question(?=.* (?:options|choices)\b)", kind)
    if options and _BY_COMMONSENSE.search(definition):
        kind = f"commonsense {kind}"
    return kind, objective


_BINARY = re.compile(
    r"\banswer(?:ed|s|able)?\b(?:[^.]|\.(?=\w|,)|(?<=\.\w)\.){0,60}?"
    r"[\"' ](yes|true)\b[\"']? ?(?:or|/|and) ?[\"']?(no|false)\b",
    re.IGNORECASE,
)
_AVOIDED = re.compile(r"\b(?:avoid|not|don't|cannot|never)\b[^.]*$", re.IGNORECASE)


def _binary(definition: str) -> re.Match[str] | None:
    """The two answers of the questions asked for; None if they are of another kind."""
    match = _BINARY.search(definition)
    return None if match is None or _AVOIDED.search(definition[: match.start()]) else match


_MEANS = re.compile(r"\brequires? ((?:common|general|world|background) knowledge(?: (?:of|about) \w+)?)")
_ON_TOPIC = re.compile(
    r"\b(?:given|following) (?:[\w-]+ )?(?:problem|question) on (?:the )?(?P<topic>[a-z]+(?: [a-z]+)?)"
    r"(?=[.,]| from| with| and)",
    re.IGNORECASE,
)


def _with_topic(kind: str, definition: str) -> str:
    """``problem on gain and answer options`` of ``problem and answer options``, where the definition says so."""
    told = _ON_TOPIC.search(definition)
    if told is None or told["topic"].split()[-1] in NOUNS or told["topic"].split()[0] in ("basis", "a", "an", "this"):
        return kind
    return re.sub(r"^(?:math )?(problem|question)(?=$| and| with|,)", rf"\1 on {told['topic']}", kind)

"""What a Super-NI task asks, from its definition: "Your task is to write a title for it" -> "writing a title for it"."""

import re

from medi_build.ingest.adapters.super_ni_english import NOUNS, VERBS, gerund, plain, sentences, shorten, without_dangling

MAX_WORDS = 18
"""Most words of an objective."""

_NOT_REQUESTS = frozenset(
    "avoid be consider do ensure keep note pay read remember see try use include follow not only never bear look take "
    "please think let refer rely ignore assume contain mention focus respond reply understand".split()
)
_FORMAT = re.compile(
    r"(?:answer|output|return|respond|reply|label|indicate|say|write|print|generate|give|mark|classify|report|type|enter|choose|assign|"
    r"select|use|provide)\b"
)
_ADVERB = r"(?:(?:also|then|now|only|simply|correctly|accurately|first|just|further|instead|either|please|to|precisely|faithfully|carefully|always|briefly|logically|try to|attempt to|be able to) )*"

_ASKING = (
    r"(?:your|the|this|our) (?:(?:main|sub)? ?)(?:task|job|goal|objective|aim|role|subtask)(?: here| in this task| of this task| of the task| now)?,? (?:is|are|would be|will be)(?: about| for you)?(?: to|:)? ",
    r"you(?: are|'re|r)? task(?: is)? to ",
    r"you(?: have|'ve) (?:got )?to ",
    r"you (?:are|'re|will be|would be)(?: also)? (?:to|expected to|asked to|required to|supposed to|tasked to|tasked with|instructed to|requested to) ",
    r"you(?: (?:will|would|also|just|now|then|only|further))? (?:need|want|ought|are expected) to ",
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
    r"(?:(?:,|;|,? then|\.)(?: and)? (?:then )?(?:the |your )?(?:please )?(?:you should |you |we )?(?:output|answer|label|indicate|return|respond|reply|say|write|print|generate|classify|it |we |"
    r"mark|provide|type|result|this is|predict)\b| (?:output|return|indicate|respond|print|mark|write|generate|the (?:output|label|answer)) (?:should|is|it|as|with|via|a label|[\"']|True|False|Yes|No|yes|no|1|0)"
    r"| (?:answer|write|print|output|return) (?:it|as|with|via|a label|[\"']|True|False|Yes|No|yes|no))"
)
_IF = re.compile(rf"^(?:and )?(?:(?:check|see) )?if (?P<condition>[^;]+?){_THEN}", re.IGNORECASE)
_LABEL_IF = re.compile(
    r"^(?:(?:(?:answer|output|return|respond|reply|label|indicate|say|write|print|generate|give|mark|report)\b(?: with| as| it as| the \w+ as| it| answer| answers| output| a| label| an| the)* )|(?:classify|label|mark|categorize) .{2,60}? (?:as|into|in|to) )"
    rf"(?-i:{_LABEL})(?:,? (?:or|/) (?-i:{_LABEL}))?,? (?:if|when|in case) (?P<condition>(?:\"[^\"]*\"|[^\"])+?)(?:[,;]|\. |,? and (?:classify|otherwise)\b|,? and (?:output|answer|return|\"|'|label|generate|write|print|say|respond|(?:False|No|NO|0)\b)|,? otherwise|,? else\b|,? or (?:else|as|\"|'|generate|answer|output|return|(?:False|No|0)\b)|$)",
    re.IGNORECASE,
)
_OPERATIONS = re.compile(r"\b(?:use|apply|perform) (?P<which>.{3,120}?) (?:on|to|over) the numbers", re.IGNORECASE)
_TWO_RULES = re.compile(r"\bif the (?P<what>\w+) is (?:an? )?(?P<one>\w+)\b.*?\bif (?:the (?P=what)|it|they)(?: is| are)? (?:an? )?(?P<two>\w+)", re.IGNORECASE)


def request(definition: str) -> str:
    """The request as a phrase that begins with a gerund; empty if the definition's form is none of the known."""
    found: list[tuple[int, str]] = []
    text = re.sub(r"[\"']?\b\d\b[\"']?\s*\(([A-Za-z][\w -]{2,25})\)", r"'\1'", plain(definition))
    text = re.sub(r" ?\((?![^)]*\b(?:\d|ii?)\))[^()]*\)", "", text)
    text = re.sub(r'"([^"]*)"', lambda m: '"' + m.group(1).strip(" .") + '"', text)
    if rules := _TWO_RULES.search(text):
        if rules["one"] != rules["two"] and re.match(r"(?:even|odd|positive|negative|divisible)", rules["one"], re.IGNORECASE):
            return f"changing {rules['one']} and {rules['two']} {rules['what']}s by different rules"
    for place, sentence in enumerate(sentences(text)):
        for rank, phrase in _phrases(sentence):
            spoken = _spoken(phrase)
            if spoken:
                found.append((rank * 3 + place, spoken))
    return min(found, key=lambda item: item[0])[1] if found else ""


def _phrases(sentence: str) -> list[tuple[int, str]]:
    """Parts of a sentence that may be a request, each with a rank: the lower the surer."""
    sentence = re.sub(
        r"^(?:in|for|during) (?:this|the|our) (?:sub)?(?:task|problem|exercise)s?,? ?", "", sentence, flags=re.IGNORECASE
    )
    each = re.match(r"for (?:every|each) (?P<what>[^,]{1,40}?),", sentence, re.IGNORECASE)
    if each:
        sentence = re.sub(r"\b(?:this|that) (?:list|element|number|string|word)\b", f"each {each['what']}", sentence)
    parts = [(0, sentence[match.end() :]) for match in _STRONG.finditer(sentence)]
    parts += [(1, sentence[match.end() :]) for match in _WEAK.finditer(sentence) if not _conditional(sentence, match.start())]
    given = re.match(r"(?:given|based|provided|using|from|for|read|considering|with|after)\b", sentence, re.IGNORECASE)
    for opening in re.finditer(r"(?:^|, |\band |\bthen |: | (?=(?:identify|classify|determine|predict|generate|decide|indicate) (?:if|whether|the|a|it)\b))(?=[A-Za-z])", sentence):
        if (opening.start() == 0 or given) and not _conditional(sentence, opening.start()):
            parts.append((1, sentence[opening.end() :]))
    return parts


def _conditional(sentence: str, place: int) -> bool:
    """Whether what stands there is asked under a condition only."""
    return re.search(r"\b(?:if|when|unless)\b", sentence[:place], re.IGNORECASE) is not None


def _spoken(phrase: str) -> str:
    """A request in the imperative or as a gerund -> a bounded phrase; empty if it is none."""
    phrase = re.sub(rf"^{_ADVERB}", "", phrase, flags=re.IGNORECASE).strip(" ,:")
    if condition := _condition(phrase):
        return condition
    if operations := _OPERATIONS.match(phrase):
        return f"answering the question by {_operations(operations['which'])}"
    word, _, rest = phrase.partition(" ")
    verb = word.lower().strip(",")
    if verb in ("read", "reading", "reason", "look", "analyze", "understand", "consider", "see", "take", "use") and (
        second := re.search(r"\b(?:and|, |to)(?: then)? (?P<rest>[a-z]+ .*)", rest)
    ):
        return _spoken(second["rest"])
    base = _base(verb)
    if not base or not rest or base in _NOT_REQUESTS:
        return ""
    if base == "answer" and re.match(r"with (?:the|an?) (?!index|letter|option|label|word|number|following|choice)", rest):
        base, rest = "give", rest.removeprefix("with ")
    if base in ("output", "print"):
        base = "give"
    if base == "make" and not re.match(r"(?:an?|the) ", rest):
        return ""
    if re.match(r"(?:the )?(?:following )?operations?\b|only one\b|(?:the )?(?:exact|full) (?:text|word)", rest):
        return ""
    if base in ("make", "give", "take") and re.match(r"(?:sure|attention|care)\b", rest):
        return ""
    return _finished(base, rest)


def _base(verb: str) -> str:
    if verb in VERBS:
        return verb
    return next((base for base in VERBS if gerund(base) == verb), "")


def _condition(phrase: str) -> str:
    """ "If it is spam, answer yes" and "answer yes if it is spam" -> "deciding whether it is spam"."""
    match = _IF.match(phrase) or _LABEL_IF.match(phrase)
    if not match:
        return ""
    condition = re.sub(r",? (?:then|you)$", "", match["condition"].split(". ")[0].strip(" ,"))
    if re.search(r"\b(?:you|your|no|there (?:are|is) no|sure)\b", condition, re.IGNORECASE) or len(condition.split()) < 3:
        return ""
    whole = _mended("deciding whether " + condition[:1].lower() + condition[1:])
    return whole if len(whole.split()) >= 5 else ""


def _operations(which: str) -> str:
    if re.search(r"\b(?:multiple|several)\b", which):
        return "several arithmetic operations"
    if re.search(r"\bsingle\b", which):
        return "a single arithmetic operation"
    return " or ".join(re.findall(r"addition|subtraction|multiplication|division", which)) or "arithmetic"


_STOP = re.compile(
    r"(?:,|;|:)? (?:ie|eg)\b.*| - .*|[;:] .*|\. .*|, (?:where|which|in which|such as|so|but|note|otherwise|for example|for instance|using only|from these)\b.*"
    r"|,? (?:(?:such that|so that)(?= \(| \d| it\b| you| conveys| is| has| the (?:answer|output))|in such a way|in a way that|without (?:changing|omitting)|if (?:it|the|there|they|yes|so|present)\b|as mentioned|as (?:given|described|shown)|by (?:classifying|writing|indicating|answering|selecting|generating|typing|responding|labell?ing|outputting)|from among|from the following|out of|as (?:an |the )?output|in (?:the )?(?:input|response)\b(?! to)|in the output|(?:from|among|out of) (?:the )?(?:\w+ )?(?:given |following )?(?:options|choices)(?: (?:displayed|given|provided|below))?|to thus|in your own|and (?:if|when|can)|instead of|as follows|with index|as well as (?:the )?(?:label|possible)|keeping in mind|"
    r"(?:and|or|,) (?:then )?(?:output|print|return|answer|respond|label|indicate|report|reply|say|state|give (?:it|the output|a)|write (?:it|the|your|down)|provide|generate (?:\"|'|the (?:output|answer))|put the|classify (?:it|the answer)|you|your|we|it|the (?:answer|output|question|paragraph|input|sentence|text) (?:is|should|must|can|may)))\b.*"
    r"|,? (?:with|as|like|by saying)(?: a| an| the| either| one of| label)* ?[\"'].*"
    r"|,? (?:based on|depending on|according to|considering|given|using|with the help of|keeping|relying on|on the basis of) (?:your|whether|(?:its|their) (?!category|topic|genre|theme|sentiment|emotion|type|tone)|them|it|this|that|these|those|everything|common|the (?:content|category|following|above|information|given|provided|tone|context in))\b.*"
    r"|,? or not(?:$| (?:based|depending|according)\b.*)| if present\b.*",
    re.IGNORECASE | re.DOTALL,
)
_CHANGING = frozenset("alter change modify edit make".split())
_STOP_CHANGING = re.compile(_STOP.pattern.replace("(?:such that|so that)(?=", "(?:(?!)so)(?="), _STOP.flags)
_BY = re.compile(r"\b(?:given|provided|input|specified|presented|associated|corresponding|respective|aforementioned|above|mentioned|following|supplied) (?=[\w'\"-])", re.IGNORECASE)
_KEEP_LABELS = re.compile(
    r"^(?P<what>.*?),? (?:in)?to (?:be )?(?:either )?(?:one (?:out )?of |any of |exactly |only )?(?:the |these |its |your |three |two )?(?:following |given |possible |correct |above |below |different |predefined )*"
    r"(?:(?:\d+|two|three|four|five|six|seven|eight|nine|ten|binary)\b ?)?(?:different |distinct |possible |given |following |sentiment |emotion |relation )*"
    r"(?P<classes>class(?:es)?|categor(?:y|ies)|groups?|labels?|topics?|themes?|types?|options?|sentiments?|genres?|classifications?|emotions?|parts|forms|values)?(?: labels?| classes)?(?: from this list of [a-z ]+-| of)?[:,\-.]* *(?P<labels>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_AS_LABELS = re.compile(r"^(?P<what>.*?),? as (?:either |being |one of )?(?:the )?(?P<labels>.*)$", re.IGNORECASE | re.DOTALL)
_SORTING = frozenset(("classify", "categorize", "categorise", "divide", "label", "separate", "group", "assign", "sort", "mark", "put", "map"))


def _finished(base: str, rest: str) -> str:
    if base in _SORTING:
        match = _KEEP_LABELS.match(rest) if re.search(r"\bto\b|into", rest) else _AS_LABELS.match(rest)
        if match and match["what"] and not re.match(r"whether\b|if\b", rest):
            what = _STOP.sub("", match["what"])
            head = gerund(base) if base in ("label", "sort", "mark", "categorize") else "classifying"
            classes = "categories" if "classes" not in match.groupdict() else (match["classes"] or "categories").lower()
            labels = _labels(match["labels"], classes)
            return _mended(f"{head} {what} {labels}") if labels else _mended(_aspect(head, what, classes))
    if base in ("answer", "output", "return", "generate", "give", "write") and re.match(r"(?:with |only )*[\"'(]", rest):
        return ""
    if re.match(r"(?:with|in|as) ", rest) and base in ("answer", "label", "return", "indicate", "give"):
        return ""
    rest = re.sub(r"^(?:out )?if\b", lambda match: match.group(0).replace("if", "whether"), rest)
    stop = _STOP if base not in _CHANGING else _STOP_CHANGING
    return _mended(f"{gerund(base)} {stop.sub('', rest)}")


def _aspect(head: str, what: str, classes: str) -> str:
    """Classes that cannot be listed: "classifying the topic of the article"."""
    noun = {"topics": "topic", "themes": "theme", "genres": "genre", "emotions": "emotion", "types": "type", "sentiments": "sentiment"}.get(classes, "category")
    simple = re.fullmatch(r"(?:it|them|(?:the |this )?(?:given |input |provided )?(?:\w+ )?\w+)", what.strip())
    if not simple or re.match(r"(?:the )?(?:sentiment|emotion|language|relation|topic|category|type|genre|intent)", what):
        return f"{head} {what}"
    owner = {"it": "its", "them": "their"}.get(what.strip(), "")
    return f"{head} {owner} {noun}" if owner else f"{head} the {noun} of {what}"


def _labels(text: str, classes: str) -> str:
    """``as A, B or C`` of "1) 'A', 2) 'B' and 3) 'C'. Note ...", of many ``into classes such as A, B and C``; else empty."""
    text = re.split(
        r"\. |\.$|;| based on| depending| on the basis|, (?:if|where|which|according|correspond|on its)\b"
        r"| if | on its | according| in which| such that| by | corresp| (?:on|of) (?:the )?given", text
    )[0]
    text = re.sub(r"\(?\b(?:\d+|[a-hivx]{1,3})[.):]\s*|\b\d+ ?[-:=] ?|[\"'\[\]()]|\b(?:as|either|only|both|namely|label)\b ", " ", text)
    text = text.split(":")[-1]
    names = [re.sub(r"^(?:an?|the|or|and) ", "", " ".join(part.split())) for part in re.split(r",|/|\bor\b|\band\b|\n", text)]
    names = [name.strip(" .") for name in names if name.strip(" .")]
    if not 2 <= len(names) <= 25 or any(len(name.split()) > 3 or not re.search("[A-Za-z]", name) for name in names):
        return ""
    if any(re.search(r"\b(?:class|classes|categor\w+|is|are|it|the|given|of|with|from|label)\b", name.lower()) or len(name) == 1 for name in names):
        return ""
    names = [name.lower() for name in names] if not any(name in _PROPER for name in names) else names
    if len(names) <= 5:
        return f"as {', '.join(names[:-1])} or {names[-1]}"
    return f"into {classes} such as {', '.join(names[:2])} and {names[2]}"


_PROPER = frozenset(("English", "French", "German", "Africa"))


def _mended(phrase: str) -> str:
    """Without what points into the definition alone; empty if too much is left."""
    phrase = re.split(r" (?:the |an? )?[<{\[]", phrase.replace('"', "").replace("*", "").replace("_", " "))[0]
    phrase = re.sub(r"(?<!\w)'([^']*)'(?!\w)", r"\1", phrase)
    phrase = _BY.sub(lambda match: match.group(0) if _said_before(phrase, match) else "", phrase)
    phrase = re.sub(r",? or not(?:$| (?:based|depending|according|by|in|on|with|using)\b.*)", "", phrase)
    phrase = re.sub(r"\bwhether you can\b", "whether one can", re.sub(r"\bif you can\b", "whether one can", phrase))
    phrase = re.sub(r"^answering whether\b", "deciding whether", phrase)
    phrase = re.sub(r"\balphabets\b|\balphabetical elements\b", "letters", phrase)
    phrase = re.sub(
        r"\b(?:this|that|these|those) (?=(?:(?!are|is|was|were|has|have|can)\w+ )?(?:sentence|question|text|list|tweet|passage|paragraph|review|answer|story|"
        r"number|dialogue|post|comment|statement|paper|poem|article)s?\b)", "the ", phrase,
    )
    phrase = re.sub(r"\byour\b ?(?:own )?", "", phrase)
    phrase = re.sub(r"\bA from the ith element to the jth element\b", "the list from the first index to the second", phrase)
    phrase = re.sub(r"\b(of|from|in) A\b", r"\1 the list", phrase)
    phrase = re.sub(r"\bstrings A and B\b", "two strings", phrase)
    phrase = re.sub(r"\b(the|a|an) (?:the|a|an)\b", r"\1", phrase)
    phrase = re.sub(r"\ba (?=most\b)", "the ", phrase)
    phrase = re.sub(r"\ban (?=[bcdfgjklmnpqrstvwxyz])(?!hour)", "a ", phrase)
    phrase = re.sub(r"\ba (?=[aeio])(?!one\b)", "an ", phrase)
    phrase = re.sub(r"\b([A-Z])([a-z]+)(?=\b)", lambda match: match.group(0).lower() if match.group(0).lower() in NOUNS | {"the", "is", "if", "positive", "negative", "neutral"} else match.group(0), phrase)
    phrase = re.sub(r"^(\w+ing) ((?:short|right|correct|single|proper|relevant|unambiguous|new) )?(answer|question|title|summary|sentence|label)\b(?! \w+ing)(?=$| (?:to|for|of|from|that))", r"\1 the \2\3", phrase)
    phrase = " ".join(phrase.split()).strip(" .,;:")
    phrase = _coordinated(phrase)
    phrase = re.split(r"(?:,| in| to| for| of| by| with)? (?:that|which|if|when|how|where|because|as|and|or|what)? ?\b(?:you|we|I|us|my)\b", phrase)[0]
    phrase = re.sub(r" (?:correctly|provided|given|displayed|described|embedded|contained|(?:which|that) can be used to \w+)$", "", phrase)
    phrase = shorten(phrase, MAX_WORDS)
    if phrase.count("(") != phrase.count(")") or phrase.count("[") != phrase.count("]") or re.search(r"[{}<>=]|\\", phrase):
        return ""
    if re.search(r" (?:this way|as follows)$|\bfollowing way", phrase):
        return ""
    if (asked := re.search(r"\bwhether (.*)", phrase)) and not _VERBAL.search(asked.group(1)):
        return ""
    words = phrase.split()
    if len(words) < 3 and not (len(words) == 2 and words[1] in ("it", "them")):
        return ""
    return without_dangling(phrase[:1].lower() + phrase[1:])


_VERBAL = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|can|could|will|would|does|do|did|should|may|might|must|contain|express|exist|belong|contains|includes|mentions|expresses|conveys|supports|matches|implies|shows|agrees|makes|gives|"
    r"refer|agree|match|mean|share|imply|need|want|make|happen|seem|entail|contradict|support|happened|occurred)\b"
    r"|\w \w+(?:[^s\W]s|sses)(?= (?:the|a|an|in|to|of|on|with|for|that|or|and|any|its|well|not|correctly|clearly)\b|$)"
)


def _said_before(phrase: str, match: re.Match[str]) -> bool:
    """Whether "given" tells the second mention of a noun from the first ("a fact related to the given fact")."""
    noun = re.match(r"\w+", phrase[match.end() :])
    if noun and noun.group(0) in ("length", "letter", "number", "index", "integer", "value", "position") and match.group(0).startswith("given"):
        return True
    return noun is not None and match.group(0).startswith("given") and re.search(rf"\b{noun.group(0)}\b", phrase[: match.start()]) is not None


def _coordinated(phrase: str) -> str:
    """Verbs joined to the first: "reversing it and remove the" -> "reversing it and removing the"."""
    determiner = r"(?:if|how|what|the|a|an|all|every|each|it|them|whether|its|their|one|any|only)"
    return re.sub(
        rf"(?<=, )([a-z]+)(?= {determiner}\b)|(?<=\band )([a-z]+)(?= {determiner}\b)|(?<=\bthen )([a-z]+)(?= {determiner}\b)",
        lambda match: gerund(match.group(0)) if match.group(0) in VERBS else match.group(0),
        phrase,
    )

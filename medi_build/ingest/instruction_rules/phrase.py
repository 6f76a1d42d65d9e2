"""From a verb and what follows it in a definition to a bounded phrase that stands by itself."""

import re

from medi_build.ingest.instruction_rules.english import gerund, shorten, without_dangling
from medi_build.ingest.instruction_rules.words import NOUNS, VERBS

MAX_WORDS = 22
"""Most words of an objective."""

_STOP = re.compile(
    r"(?:,|;|:)? (?:ie|eg)\b.*| - .*|[;:] .*|\. .*|, (?:where|which|in which|such as|so|but|note|otherwise|for"
    r" example|for instance|using only|from these)\b.*"
    r"|,? (?:(?:such that|so that)(?= \(| \d| it\b(?! (?:identif|ask|involv|requir)\w+)"
    r"| you| conveys| is| has| the (?:answer|output))|in such a way|in a"
    r" way that|without (?:changing|omitting)|if (?:it|the|there|they|yes|so|present)\b|as mentioned|as (?:given"
    r"|described|shown)|by (?:classifying|indicating|answering|selecting|typing|responding|labell?ing"
    r"|outputting)|by (?:writing|generating)(?! an? (?!label|letter|number)\w)"
    r"|in which (?:it|they) (?:occur|appear)s?(?=$)"
    r"|that is(?=,)|especially (?:those|ones|the ones)|to (?:output|get|obtain) the result\w*"
    r"|\((?:respond|answer|output|write|indicate|choose|use|note)\b"
    r"|from among|from the following|out of|as (?:an |the )?output|in (?:the )?(?:input"
    r"|response)\b(?! to)|in the output|(?:from|among|out of) (?:the )?(?:\w+ )?(?:given |following )?(?:options"
    r"|choices)(?: (?:displayed|given|provided|below))?|to thus|in your own|and (?:if|when|can)|instead of|as"
    r" follows|with index|as well as (?:the )?(?:label|possible)|keeping in mind|"
    r"(?:and|or|,) (?:then )?(?:output|print|return|answer|respond"
    r"|label(?! them)|indicate|report|reply|say|state|give (?:it"
    r"|the output|a)|write (?:it|the|your|down)|provide|put (?:it"
    r"|them)\b|generate (?:\"|'|the (?:output|answer))|put the|classify"
    r" (?:it|the answer)|you|your|we|it|the (?:answer|output|question|paragraph|input|sentence|text) (?:is|should"
    r"|must|can|may)))\b.*"
    r"|,? (?:with|as|like|by saying)(?: a| an| the| either| one of| label)* ?[\"'].*"
    r"|,? (?:based on|depending on|according to|considering|given|using|with the help of|keeping|relying on|on the"
    r" basis of) (?:your|whether|(?:its|their) (?!category|topic|genre|theme|sentiment|emotion|type|tone)|them|it"
    r"|this|that|these|those|everything|common|the (?:content|category|following|above|information|given|provided"
    r"|tone|context in))\b.*"
    r"|(?<!\bthe)(?<!\ba)(?<!\ban) given (?:the|an?)\b.*"
    r"|,? or not(?:$| (?:based|depending|according)\b.*)| if present\b.*",
    re.IGNORECASE | re.DOTALL,
)
_CHANGING = ("alter", "change", "modify", "edit", "make")
_STOP_CHANGING = re.compile(_STOP.pattern.replace("(?:such that|so that)(?=", "(?:(?!)so)(?="), _STOP.flags)
_BY = re.compile(
    r"\b(?:given|provided|input|specified|presented|associated|corresponding|respective|aforementioned"
    r"|above|mentioned|following|supplied) (?=[\w'\"-])",
    re.IGNORECASE,
)
_KEEP_LABELS = re.compile(
    r"^(?P<what>.*?),? (?:in)?to (?:be )?(?:either )?(?:one (?:out )?of |any of |exactly |only )?(?:the |these |its "
    r"|your |three |two )?(?:following |given |possible |correct |above |below |different |predefined )*"
    r"(?:(?:\d+|two|three|four|five|six|seven|eight|nine|ten|binary)\b ?)?(?:different |distinct |possible |given "
    r"|following |sentiment |emotion |relation )*"
    r"(?P<classes>class(?:es)?|categor(?:y|ies)|groups?|labels?|topics?|themes?|types?|options?|sentiments?|genres?"
    r"|classifications?|emotions?|parts|forms|values)?(?: labels?| classes)?(?: from this list of [a-z ]+-|"
    r" from (?:the )?(?:\w+ ){0,2}(?:outputs|list|labels)(?= ?[-:])| of)?[:,\-.]* *(?P<labels>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_AS_LABELS = re.compile(
    r"^(?P<what>.*?),? as (?:either |being |one of )?(?:the )?(?P<labels>.*)$", re.IGNORECASE | re.DOTALL
)
_SORTING = (
    "classify", "categorize", "categorise", "divide", "label", "separate", "group", "assign", "sort", "mark",
    "put", "map",
)  # fmt: skip


def finished(base: str, rest: str) -> str:
    """A phrase with a gerund for a request's verb and what follows it in the definition; empty if it is none."""
    if evaluated := re.match(
        r"(?P<what>.{3,40}?) by (?:classifying|categorizing) (?:it|them) (?P<classes>(?:in)?to .*)", rest
    ):
        return finished("classify", f"{evaluated['what']} {evaluated['classes']}")
    if base in _SORTING:
        match = _KEEP_LABELS.match(rest) if re.search(r"\bto\b|into", rest) else _AS_LABELS.match(rest)
        if match and match["what"] and not re.match(r"whether\b|if\b", rest):
            what = _STOP.sub("", match["what"]).replace("the them", "them")
            head = gerund(base) if base in ("label", "sort", "mark", "categorize") else "classifying"
            classes = "categories" if "classes" not in match.groupdict() else (match["classes"] or "categories").lower()
            labels = _labels(match["labels"], classes)
            said = f"{what} as {match['labels']}"
            if (
                not labels
                and "classes" not in match.groupdict()
                and re.search(r"\bor\b", said)
                and len(said.split()) <= 16
            ):
                return mended(f"{head} {said}")
            return mended(f"{head} {what} {labels}") if labels else mended(_aspect(head, what, classes))
    if base in ("answer", "output", "return", "generate", "give", "write") and re.match(
        r"(?:with |only )*[\"'(]", rest
    ):
        return ""
    if base == "answer" and (
        kind := re.match(r"with (?P<whose>its|their) (?P<what>type|category|topic|genre)\b", rest)
    ):
        return f"classifying {kind['whose']} {kind['what']}"
    if re.match(r"(?:with|in|as) ", rest) and base in ("answer", "label", "return", "indicate", "give"):
        return ""
    rest = re.sub(r"^(?:out |that )?if\b", lambda match: match.group(0).replace("if", "whether"), rest)
    stop = _STOP if base not in _CHANGING else _STOP_CHANGING
    return mended(f"{gerund(base)} {stop.sub('', rest)}")


def _aspect(head: str, what: str, classes: str) -> str:
    """Classes that cannot be listed: "classifying the topic of the article"."""
    noun = {
        "topics": "topic",
        "themes": "theme",
        "genres": "genre",
        "emotions": "emotion",
        "types": "type",
        "sentiments": "sentiment",
    }.get(classes, "category")
    simple = re.fullmatch(r"(?:it|them|(?:the |this )?(?:given |input |provided )?(?:\w+ )?\w+)", what.strip())
    if not simple or re.match(
        r"(?:the )?(?:sentiment|emotion|language|relation|topic|category|type|genre|intent)", what
    ):
        return f"{head} {what}"
    owner = {"it": "its", "them": "their"}.get(what.strip(), "")
    return f"{head} {owner} {noun}" if owner else f"{head} the {noun} of {what}"


def _labels(text: str, classes: str) -> str:
    """``as A, B or C`` of "1) 'A', 2) 'B' and 3) 'C'. Note ..."; ``into classes such as A, B and C`` of more than five.

    Empty where the text cannot be read as a list of classes.
    """
    text = re.split(
        r"\. |\.$|;|,? \b(?:ie|eg)\b| based on| depending| on the"
        r" basis|, (?:if|where|which|according|correspond|on its)\b"
        r"| if | on its | on the topic|  according| in which| such that| by | corresp| (?:on|of) (?:the )?given",
        text,
    )[0]
    text = re.sub(
        r"\(?\b(?:\d+|[a-hivx]{1,3})[.):]\s*|\b\d+ ?[-:=] ?|[\"'\[\]()]|\b(?:as|either|only|both|namely|label)\b ",
        " ",
        text,
    )
    text = text.split(":")[-1]
    names = [
        re.sub(r"^(?:an?|the|or|and) ", "", " ".join(part.split()))
        for part in re.split(r",|(?<=\s)/|/(?=\s)|\bor\b|\band\b|\n" if "," in text else r",|/|\bor\b|\band\b|\n", text)
    ]
    names = [name.strip(" .-") for name in names if name.strip(" .-")]
    if not 2 <= len(names) <= 25 or any(len(name.split()) > 3 or not re.search("[A-Za-z]", name) for name in names):
        return ""
    if any(
        re.search(r"\b(?:class|classes|categor\w+|is|are|it|the|given|of|with|from|label)\b", name.lower())
        or len(name) == 1
        for name in names
    ):
        return ""
    if (
        len(names) > 1
        and len({name.split()[-1] for name in names}) == 1
        and names[0].endswith("s")
        and all(" " in name for name in names)
    ):
        names = [name.rsplit(" ", 1)[0] for name in names]
    whole = names[-1].rsplit(" ", 1)
    if len(whole) == 2 and whole[1] in NOUNS and whole[1].endswith("s") and not any(" " in name for name in names[:-1]):
        names[-1] = whole[0]
    names = [name.lower() for name in names] if not any(name in _PROPER for name in names) else names
    if len(names) <= 5:
        return f"as {', '.join(names[:-1])} or {names[-1]}"
    return f"into {classes} such as {', '.join(names[:2])} and {names[2]}"


_PROPER = frozenset(("English", "French", "German", "Africa"))


def _titled(word: re.Match[str]) -> str:
    return word[0].title()


_COMMON = (
    "headline|title|response|interpretation|translation|summary|hypothesis|premise|sentence"
    "|abstract|review|tweet|passage|paragraph|article|text|question|answer|post|comment|statement"
)
_MENDING = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r",? or not(?:$| (?:based|depending|according|by|in|on|with|using)\b.*)", ""),
        (r"\b(?:if|whether) you can\b", "whether one can"),
        (
            r"^(?:answering|classifying|finding|giving|generating|outputting|indicating|labeling) (?:if|whether)\b",
            "deciding whether",
        ),
        (r"^(?:indicating|identifying|finding) the presence of\b", "detecting"),
        (r" in the (?!form\b)\w+, solely$", ""),
        (r"\bwhether there is entailment or agreement of the (\w+) by the (\w+)", r"whether the \2 entails the \1"),
        (
            r" that (?:you|one) (?:can|could) (?:make|create|form|get)(?="
            r" by\b)| you (?:can|could) (?:make|create|form|get)(?= by\b)",
            "",
        ),
        (r" of the form$", ""),
        (r"\beach of the (?:sets of )?(\w+) pairs\b", r"the \1 pair"),
        (r"^(?:generating|giving|writing) answers? from the input$", "answering the question"),
        (rf"\b(for|of|from|in|to|by|with) (?=(?:{_COMMON}|context)(?:$|,| (?:is|and|as|that|with)\b))", r"\1 the "),
        (r" in (?:your )?response(?: to)?\W*$", ""),
        (r"^(?:giving|generating|providing) an answer (?:to|of) (?=what|who|where|which|how)", "finding out "),
        (r"\basked (?=outcome|result|goal)", "desired "),
        (r"\bBahasa Indonesia\b", "Indonesian"),
        (r"\bthe (?=Person[XYZ]\b)", ""),
        (r"\bstill (?=refer)", ""),
        (
            r"^(?:determining|identifying|predicting|classifying) (?:.*)\K"
            if False
            else r"(?<=[a-z]) (?:of|in) the (?:input|instance)$",
            "",
        ),
        (r"\ba ((?:\w+ )?(?:advice|information|evidence|knowledge))\b", r"\1"),
        (r"\b(strength)s or (weakens)\b", r"\1ens or \2"),
        (r"\b(european|american|asian|african|french|german|italian|chinese|spanish|english|indian)\b", _titled),
        (r"(?<=the order) in which (?:it|they) (?:occur|appear)s?", ""),
        (
            r"\b(whether (?:the|a|an|its) (?:\w+ )?(?:category|label|sentence|text|answer|title|headline|summary|review"
            r"|tweet|question|response|statement|polarity|sentiment) (?:match|contradict|entail|support|contain|express"
            r"|agree|describe|fit|impl))(y)?\b(?! \w+s (?:is|are)\b)",
            lambda match: f"{match[1]}{'ies' if match[2] else 'es' if match[1].endswith('match') else 's'}",
        ),
        (
            r"^classifying (.*) based on (?:its|their|the) (category|topic|sentiment|emotion|genre|type|theme)$",
            r"classifying the \2 of \1",
        ),
        (r"^classifying the (\w+) of it$", r"classifying its \1"),
        (rf"\beach of the (?=(?:argument|{_COMMON})\b)", "the "),
        (r"^\w+ing that (?=whether\b)", "deciding "),
        (r"^(classifying|choosing|identifying)\b(.*) from (?:the|this) list$", r"\1\2"),
        (r"\bname of (?=(?:gene|company|person|disease|drug|organization|place|city|country)\b)", "name of a "),
        (
            r"\b(\w+ing) (?=(?:end|last|first|final|appropriate|suitable|correct)"
            r" (?:part|word|sentence|last sentence|answer|option|ending)\b)",
            r"\1 the ",
        ),
        (r"\bone or more making\b", "making"),
        (r",? if any\b(?: \w+)?$", ""),
        (r"\bmaximum and minimum element\b", "the maximum and minimum element"),
        (
            r"^(\w+ing) (?=(?:broad |topical |correct |appropriate )*(?:category|type|label|sentiment|language)\b)",
            r"\1 the ",
        ),
        (r"\bthe them\b", "them"),
        (
            r"(?<=\bis )[A-Z][a-z]+ or [A-Z][a-z]+$",
            lambda match: match[0].lower(),
        ),
        (r"\b(\w+)/\1\b", r"\1"),
        (r" from the original(?= that\b|$)", ""),
        (r" and classify(?:ing)? (?:it|them) into .*", ""),
        (r"\bthe (one of the)\b", r"\1"),
        (r"(?<=\bwith )(?=(?:highest|lowest|largest|smallest|most|least|maximum|minimum|longest|shortest)\b)", "the "),
        (r"\bis (?:a )?translation of (?:the )?([A-Z]\w+)$", r"is a translation of the \1 one"),
        (r"\bamazon\b", "Amazon"),
        (rf"\bwhether (?=(?:{_COMMON}) (?:is|has|can|was|and|contains|expresses|matches)\b)", "whether the "),
        (r"\bpositions i and j\b", "two positions"),
        (r"\bthe (last|first) [ijn] (elements|items|words|letters)\b", r"the given number of \1 \2"),
        (r"\b(lists|strings|numbers|integers|sentences) A and B\b", r"two \1"),
        (r"\b(list|string|array|number|integer|sentence|paragraph)s? [A-Zn](?= |,|$)(?! and)", r"\1"),
        (r"\bwritten from [a-z]{2}, .*", "written"),
        (r"\balphabets\b|\balphabetical elements\b", "letters"),
        (
            r"\b(?:this|that|these|those) (?=(?:(?!are|is|was|were|has|have|can)\w+ )?(?:sentence|question|text|list"
            r"|tweet|passage|paragraph|review|answer|story|number|part|dialogue|post|comment|statement|paper|poem"
            r"|article)s?\b)",
            "the ",
        ),
        (r"\byour\b ?(?:own )?", ""),
        (r"\bA from the ith element to the jth element\b", "the list from the first index to the second"),
        (r"\b(of|from|in) A\b", r"\1 the list"),
        (r"\b(the|a|an) (?:the|a|an)\b", r"\1"),
        (r"\ba (?=most\b)", "the "),
        (r"\ban (?=[bcdfgjklmnpqrstvwxyz])(?!hour)", "a "),
        (r"\ba (?=[aeio])(?!one\b)", "an "),
    )
)
_NO_ARTICLE = re.compile(
    r"^(\w+ing) ((?:short|right|correct|single|proper|relevant|unambiguous|new) )?"
    r"(answer|question|title|summary|sentence|label)\b(?! \w+ing)(?=$| (?:to|for|of|from|that))"
)
_PERSON = re.compile(
    r"(?:,| in| to| for| of| by| with)? (?:that|which|if|when|how|where|because|as|and|or|what)? ?"
    r"\b(?:you|we|I|us|my)\b"
)
_TRAILING = re.compile(
    r" (?:correctly|provided|given|displayed|described|embedded|contained|(?:which|that) can be used to \w+)$"
)
_LOWERED = NOUNS | {"the", "is", "if", "positive", "negative", "neutral"}


def mended(phrase: str) -> str:
    """Without what points into the definition alone; empty if too much is left."""
    phrase = re.split(r" (?:the |an? )?[<{\[]", phrase.replace('"', "").replace("*", "").replace("_", " "))[0]
    phrase = re.sub(r"(?<!\w)'([^']*)'(?!\w)", r"\1", phrase)
    phrase = _BY.sub(lambda match: match.group(0) if _said_before(phrase, match) else "", phrase)
    for pattern, by in _MENDING:
        phrase = pattern.sub(by, phrase)
    phrase = re.sub(r"\b[A-Z]{6,}\b", lambda word: word[0].lower(), phrase)
    phrase = _CAPITALISED.sub(_lowered, phrase)
    phrase = _NO_ARTICLE.sub(r"\1 the \2\3", phrase)
    phrase = " ".join(phrase.split()).strip(" .,;:")
    phrase = _TRAILING.sub("", _PERSON.split(_coordinated(phrase))[0])
    phrase = shorten(phrase, MAX_WORDS)
    if any(phrase.count(a) != phrase.count(b) for a, b in ("()", "[]")) or re.search(r"[{}<>=]|\\", phrase):
        return ""
    if re.search(r" (?:this way|as follows)$|\bfollowing way", phrase):
        return ""
    if (asked := re.search(r"\bwhether (.*)", phrase)) and not _VERBAL.search(asked.group(1)):
        return ""
    words = phrase.split()
    if len(words) < 3 and not (len(words) == 2 and words[1] in ("it", "them")):
        return ""
    return without_dangling(phrase[:1].lower() + phrase[1:])


_CAPITALISED = re.compile(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+)*\b")


def _lowered(run: re.Match[str]) -> str:
    """Capitals as in "Positive Review" go, those of names ("Resource Description Framework") stay."""
    words = run[0].lower().split()
    return run[0].lower() if all(word in _LOWERED for word in words) else run[0]


_VERBAL = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|can|could|will|would|does|do|did|should|may|might|must|contain|express"
    r"|exist|belong|contains|includes|mentions|expresses|conveys|supports|matches|implies|shows|agrees|makes|gives|"
    r"refer|agree|match|mean|share|imply|need|want|make|happen|seem|entail|contradict|support|happened|occurred)\b"
    r"|\w \w+(?:[^s\W]s|sses)(?= (?:the|a|an|in|to|of|on|with|for|that|or|and|any|its|well|not|correctly|clearly)\b|$)"
)


def _said_before(phrase: str, match: re.Match[str]) -> bool:
    """Whether "given" tells the second mention of a noun from the first ("a fact related to the given fact")."""
    noun = re.match(r"\w+", phrase[match.end() :])
    if noun is None or not match[0].startswith("given"):
        return False
    measured = noun[0] in ("length", "letter", "number", "index", "integer", "value", "position")
    return measured or re.search(rf"\b{noun[0]}\b", phrase[: match.start()]) is not None


def _coordinated(phrase: str) -> str:
    """Verbs joined to the first in its form: "reversing it and remove the" -> "reversing it and removing the"."""
    return _JOINED.sub(lambda verb: gerund(verb[0]) if verb[0] in VERBS else verb[0], phrase)


_JOINED = re.compile(
    r"(?:(?<=, )|(?<=\band )|(?<=\bthen ))[a-z]+"
    r"(?= (?:if|how|what|the|a|an|all|every|each|it|them|whether|its|their|one|any|only)\b)"
)

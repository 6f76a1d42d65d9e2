"""What a definition says of its inputs, said shorter: "review from Amazon" -> "Amazon review"."""

import re

_ONE = "article|paper|passage|document|tweet|story|sentence|question|conversation|dialogue|book|movie|text"
_MIXED = "multiple|various|different|several|many|one of these"
_BEFORE_CUT = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\bdata in (?:a )?tabular (?:format|form)\b", "table"),
        (r"\breviews? (?:from|of|on|about) Amazon's (\w+ )?products?\b", r"Amazon \1product review"),
        (r",? (?:and given|along with) (?=an? )", " and "),
        (r"\bcontext (?:paragraph|passage|text) of (?:the|a) (?=\w+)", ""),
        (r"\b(of|about) some (?!a\b)(?=\w+ \w+)", r"\1 a "),
        (r"\b(?:piece of text|text passage|text)(?: as input)?,? (?:compris\w+(?: of)?|consisting of) ", ""),
        (r"(?<=\w) between (?:an?|the) [\w ]+? and (?:an?|the) [\w ]*?(?:pronoun|phrase|noun|word)(?=$|,)", ""),
    )
)
_AFTER_CUT = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r", (?=of |containing)", " "),
        (r",? (?:and )?(?:which is )?followed by", ","),
        (r"\b(?:further |additional )information available\b", "information"),
        (r"\breviews? of (?:an? |the |various )?products?\b", "product review"),
        (r" (?:in)?to (?:the )?[A-Z]\w+(?: language)?$", ""),
        (r" on (?:a (?:wide )?range of|various|different|several) (?:topic|subject)s", ""),
        (r"\b([a-z]+(?: text)?) from (Amazon|Twitter|Reddit|Wikipedia)(?=$|,| and)", r"\2 \1"),
        (
            r"\b(category|title|polarity|rating) of (?:the|an?) (product|article|paper|story|review|movie|book)s?\b",
            r"\2 \1",
        ),
        (r"\b(high school|college) level\b", r"\1"),
        (r"\b(?:european|american|asian|african|indian|amazon)\b", lambda word: word[0].title()),
        (r" on a scale\b.*", ""),
        (r"\btext as an? (?=\w+)", ""),
        (r" about (?:some|a certain|a particular|a specific|various) (?:topic|subject|event|thing)s?", ""),
        (r"\bdvd\b", "DVD"),
        (rf"(?<=\w) of (?:{_ONE})(?=$|,| and)", ""),
        (rf"(?<=\w) from the (?!text)(?=(?:\w+ )?(?:{_ONE})(?:$|,| and))", " from a "),
        (rf" in (?:{_MIXED}) (?:languages?|language)\b.*", ""),
        (r"'s\b", "’s"),
        ("'", ""),
        (r"\b[A-Z]\b(?:, ?[A-Z]\b)*(?:,? and [A-Z]\b)?", ""),
        (
            r",? (?:written )?(?:in|that is) (?:either )?(?:the )?[A-Z]\w+(?: languages?)?,?"
            r"(?: (?:or|and) (?:the |in )*[A-Z]\w+)+(?: languages?)?",
            "",
        ),
    )
)
_WITHOUT_LANGUAGE = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (
            r" (?:written |either )*in (?:either |the )*[A-Z]\w+(?: (?:or|and) (?:the )?[A-Z]\w+)*(?: languages?)?$",
            "",
        ),
        (
            r"\b(?:(context)|(passage|paragraph|sentence)) from (?:an?|the) ((?:\w+ ){0,2}\w+)(?=,? and )",
            lambda match: f"{match[3]} {match[2] or 'passage'}",
        ),
        (r"\bpair of (sentence|question)s\b", r"\1 pair"),
    )
)


def before_cut(text: str) -> str:
    """A sentence's rest behind "you are given", before it is cut to what is given."""
    for pattern, by in _BEFORE_CUT:
        text = pattern.sub(by, text)
    return text


def after_cut(text: str, languages: tuple[str, ...]) -> str:
    """What is given, without its languages and without what says nothing.

    Args:
        text: what is given, in the definition's words.
        languages: languages that an instruction names elsewhere.
    """
    for pattern, by in _AFTER_CUT:
        text = pattern.sub(by, text)
    for language in languages:
        named = rf" (?:written )?in (?:the |native |simplified |traditional )?{language}(?: language)?\b"
        text = re.sub(named, "", text, flags=re.IGNORECASE)
        text = re.sub(rf"\b{language}(?: language)?(?=\W|$) ?", "", text, flags=re.IGNORECASE)
    for pattern, by in _WITHOUT_LANGUAGE:
        text = pattern.sub(by, text)
    return text

"""Languages of a Super-NI translation, where the row tells no more than its definition (the hub's form)."""

import re
import unicodedata

# Language -> the script it is written in, as Unicode names it.
_LATIN = """
    English French German Spanish Italian Portuguese Polish Dutch Romanian Swedish Norwegian Finnish Danish Czech
    Slovak Croatian Lithuanian Catalan Galician Hungarian Turkish Vietnamese Indonesian Malay Filipino Tagalog
    Yoruba Igbo Swahili Xhosa Zulu Somali Kurdish Irish Welsh Basque Estonian Latvian Slovenian Malagasy Hausa
"""
_SCRIPTS = {
    **dict.fromkeys(_LATIN.split(), "LATIN"),
    **dict.fromkeys(("Hindi", "Marathi", "Nepali", "Sanskrit"), "DEVANAGARI"),
    **dict.fromkeys(("Arabic", "Urdu", "Persian", "Farsi", "Pashto", "Sindhi"), "ARABIC"),
    **dict.fromkeys(("Russian", "Bulgarian", "Ukrainian", "Serbian", "Macedonian"), "CYRILLIC"),
    **dict.fromkeys(("Panjabi", "Punjabi"), "GURMUKHI"),
    "Bengali": "BENGALI", "Gujarati": "GUJARATI", "Hebrew": "HEBREW", "Greek": "GREEK", "Kannada": "KANNADA",
    "Malayalam": "MALAYALAM", "Oriya": "ORIYA", "Sinhala": "SINHALA", "Tamil": "TAMIL", "Telugu": "TELUGU",
    "Thai": "THAI", "Lao": "LAO", "Khmer": "KHMER", "Burmese": "MYANMAR", "Korean": "HANGUL", "Chinese": "CJK",
    "Japanese": "HIRAGANA", "Amharic": "ETHIOPIC", "Georgian": "GEORGIAN", "Armenian": "ARMENIAN",
}  # fmt: skip
_NAME = rf"({'|'.join(_SCRIPTS)})\b"
_FROM_TO = re.compile(rf"\bfrom (?:the )?{_NAME}.{{0,40}}?\b(?:in)?to (?:the )?{_NAME}", re.IGNORECASE)
_IN_TO = re.compile(rf"\b{_NAME}.{{0,200}}?\b(?:into|to|in) (?:the )?{_NAME}", re.IGNORECASE | re.DOTALL)


def languages_told(definition: str, sample: str) -> tuple[str, str] | None:
    """Source and target language of a translation's definition; None if they are not told for certain.

    Some definitions have the two the wrong way round; the script of ``sample`` decides where it can.
    """
    match = _FROM_TO.search(definition) or _IN_TO.search(definition)
    if match is None:
        return None
    source, target = match.group(1).title(), match.group(2).title()
    seen = _script(sample)
    if source == target or seen not in (_SCRIPTS[source], _SCRIPTS[target]):
        return None
    return (source, target) if seen == _SCRIPTS[source] else (target, source)


def languages_labelled(sample: str) -> tuple[str, str] | None:
    """The two languages that an input names before its texts (``English: ... French: ...``); None if not just two."""
    told = (_ALIASES.get(name, name) for name in _LANGUAGE_LABEL.findall(sample))
    names = [name for name in told if name in _SCRIPTS]
    return (names[0], names[1]) if len(names) == 2 and names[0] != names[1] else None


def turned(definition: str, sample: str, tags: tuple[str, str]) -> bool:
    """Whether a translation's tags have source and target the wrong way round, by its definition and input's script."""
    told = languages_told(definition, sample)
    return told == tags[::-1] and _SCRIPTS[told[0]] != _SCRIPTS[told[1]]


_ALIASES = {"Indonesia": "Indonesian", "Melayu": "Malay", "Farsi": "Persian"}
_LANGUAGE_LABEL = re.compile(
    r"(?:^|\n|\s{2}|, |, ')[\s']*(?:Bahasa |Simplified )?([A-Z][a-z]+)(?: [Ss]entence| [Tt]ext)? ?:"
)


def _script(text: str) -> str:
    """Unicode's name for the script of most letters; ``HIRAGANA`` for Japanese."""
    names = [unicodedata.name(letter, "").split() for letter in text if letter.isalpha()]
    scripts = [name[0] for name in names if name]
    if any(script in ("HIRAGANA", "KATAKANA") for script in scripts):
        return "HIRAGANA"
    return max(sorted(set(scripts)), key=scripts.count, default="")

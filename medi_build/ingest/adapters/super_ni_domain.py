"""Domain and language of a Super-NI task's inputs, where its file tells them reliably."""

import re
from collections.abc import Sequence

# Tag of a task file (its last part or its first) -> how an instruction says it. Tags that are missing here say nothing about the
# topic (Commonsense, Dialogue, Story, Web, Miscellaneous) or are often wrong (Animals, Game, Countries, Public Places).
_ORIGINS = {
    "News": "news", "Wikipedia": "Wikipedia", "TED Talks": "TED talk", "Government and Politics": "political",
    "Scientific Research Papers": "scientific", "Natural Science": "science", "School Science Textbooks": "science",
    "Healthcare": "health", "Medicine": "medical", "Clinical Knowledge": "clinical", "Law": "legal", "Justice": "legal", "Jurisprudence": "legal",
    "International Law": "legal", "World Religions": "religious", "Movies": "movie", "Twitter": "Twitter",
    "Reddit": "Reddit", "Social Media": "social media", "Restaurants": "restaurant",
}  # fmt: skip
_TOPICS = {
    "Accounting": "accounting", "Anatomy": "anatomy", "Astronomy": "astronomy", "Biology": "biology", "Business Ethics": "business ethics",
    "Chemistry": "chemistry", "Computer Science": "computer science", "Econometrics": "econometrics",
    "Economics": "economics", "Electrical Engineering": "electrical engineering", "History": "history",
    "Machine Learning": "machine learning", "Management": "management", "Marketing": "marketing",
    "Mathematics": "math", "Medical Genetics": "medical genetics", "Nutrition": "nutrition",
    "Philosophy": "philosophy", "Physics": "physics", "Psychology": "psychology", "Sociology": "sociology",
    "Statistics": "statistics", "US Foreign Policy": "US foreign policy",
}  # fmt: skip
_REVIEWED = {"Movies": "movie", "Food": "food", "Books": "book", "Music": "music", "Restaurants": "restaurant"}
# Tags that go beside another without saying anything of their own.
_SILENT = ("Sociology", "Captions", "Dialogue", "Story", "Narrative", "Commonsense", "Web", "Knowledge Base", "Books", "Fiction", "Public Places", "Professions", "Global Facts")
_PROSE = re.compile(r"sentence|passage|paragraph|article|text|context|headline|abstract|document|event|statement|summary|commentary|\bnews|tweet|post|comment|review|premise|title")


_NAMES = {"Panjabi": "Punjabi", "Central Khmer": "Khmer", "Haitian": "Haitian Creole"}


def named(language: str) -> str:
    """A language's usual name."""
    return _NAMES.get(language, language)


def language_of(languages: Sequence[str], english: bool) -> str:
    """The language of the inputs, where it is one; English only if ``english``."""
    return named(languages[0]) if len(languages) == 1 and (english or languages[0] != "English") else ""


def domain_of(tags: Sequence[str], kind: str, category: str) -> str:
    """The one domain of a task; empty if it has several, a mixture, or one that cannot be relied on.

    Args:
        tags: ``Domains`` of the task file.
        kind: the text type: origins (Wikipedia, news) are those of running text, topics those of questions.
        category: the task's category.
    """
    named: set[str] = set()
    for tag in tags:
        parts = tag.split(" -> ")
        if parts[0] == "Reviews":
            named.add(_REVIEWED.get(parts[-1], ""))
            continue
        known = {**_ORIGINS, **_TOPICS} if category == "Question Answering" else _ORIGINS
        silent = parts[0] in _SILENT and not (category == "Question Answering" and len(tags) == 1)
        word = "" if silent and parts[-1] not in _ORIGINS else next((known[part] for part in (parts[-1], parts[0]) if part in known), "" if silent else "?")
        named.add(word)
    named.discard("")
    word = named.pop() if len(named) == 1 else ""
    if word in ("", "?"):
        return ""
    if (word == "movie" and "Movies" in tags and not re.search("movie|film|question", kind)) or (word == "social media" and "message" in kind):
        return ""
    said = word.split()[0][:4].lower() in kind.lower() or (word == "Twitter" and "tweet" in kind)
    said = said or (word in _TOPICS.values() and " on " in kind) or (word == "legal" and " on " in kind)
    origin = word in _ORIGINS.values() and word not in ("science", "medical", "legal", "movie", "clinical", "scientific", "health")
    return "" if said or (origin and not _PROSE.search(kind)) else word

"""Domain and language of a Super-NI task's inputs, where its file tells them reliably."""

import re
from collections.abc import Sequence

# Tag of a task file (its last part or its first) -> how an instruction says it. Tags that are missing here say nothing
# about the topic (Commonsense, Dialogue, Story, Web, Miscellaneous) or are often wrong (Animals, Game, Countries).
_ORIGINS = {
    "News": "news", "Wikipedia": "Wikipedia", "TED Talks": "TED talk", "Government and Politics": "political",
    "Scientific Research Papers": "scientific", "Natural Science": "science", "School Science Textbooks": "science",
    "Healthcare": "health", "Medicine": "medical", "Clinical Knowledge": "clinical",
    "Law": "legal", "Justice": "legal", "Jurisprudence": "legal",
    "International Law": "legal", "World Religions": "religious", "Movies": "movie", "Twitter": "Twitter",
    "Personal Narratives": "personal narrative", "Reddit": "Reddit",
    "Social Media": "social media", "Restaurants": "restaurant",
}  # fmt: skip
_TOPICS = {
    "Accounting": "accounting", "Anatomy": "anatomy", "Astronomy": "astronomy",
    "Biology": "biology", "Business Ethics": "business ethics",
    "Chemistry": "chemistry", "Computer Science": "computer science", "Econometrics": "econometrics",
    "Economics": "economics", "Electrical Engineering": "electrical engineering", "History": "history",
    "Machine Learning": "machine learning", "Management": "management", "Marketing": "marketing",
    "Mathematics": "math", "Medical Genetics": "medical genetics", "Nutrition": "nutrition",
    "Philosophy": "philosophy", "Physics": "physics", "Psychology": "psychology", "Sociology": "sociology",
    "Statistics": "statistics", "US Foreign Policy": "US foreign policy",
}  # fmt: skip
_FIELDS = ("science", "medical", "legal", "movie", "clinical", "scientific", "health")
_UNKNOWN = "?"
_REVIEWED = {"Movies": "movie", "Food": "food", "Books": "book", "Music": "music", "Restaurants": "restaurant"}
# Tags that go beside another without saying anything of their own.
_SILENT = (
    "Sociology",
    "Captions",
    "Dialogue",
    "Story",
    "Narrative",
    "Commonsense",
    "Web",
    "Knowledge Base",
    "Books",
    "Fiction",
    "Public Places",
    "Professions",
    "Global Facts",
)
_PROSE = re.compile(
    r"sentence|passage|paragraph|article|text|context|headline|abstract|document|event"
    r"|statement|summary|commentary|\bnews|tweet|post|comment|review|premise|title"
)


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
    answering = category == "Question Answering"
    words = {_word(tag, answering, alone=len(tags) == 1) for tag in tags} - {""}
    word = words.pop() if len(words) == 1 else ""
    if word in ("", _UNKNOWN):
        return ""
    if (word == "Twitter" and "social media" in kind) or (word == "restaurant" and kind in ("sentence", "text")):
        return ""
    movie = word == "movie" and "Movies" in tags and not re.search("movie|film|question", kind)
    if word == "personal narrative" and not re.match("context|passage|text|story|paragraph", kind):
        return ""
    paper = word == "scientific" and re.search("academic|research|paper", kind) is not None
    message = word == "social media" and "message" in kind
    said = word.split()[0][:4].lower() in kind.lower() or (word == "Twitter" and "tweet" in kind)
    topic = (word in _TOPICS.values() or word == "legal") and " on " in kind  # "question on anatomy"
    if word == "Wikipedia" and re.search("sentence|question|statement|fact", kind.split(" and ", 1)[0]):
        return ""
    origin = word in _ORIGINS.values() and word not in _FIELDS and not _PROSE.search(kind)
    return "" if movie or paper or message or said or topic or origin else word


def _word(tag: str, answering: bool, alone: bool) -> str:
    """How an instruction says a tag; empty if the tag says nothing, `_UNKNOWN` if it says another thing."""
    parts = tag.split(" -> ")
    first, last = parts[0], parts[-1]
    if first == "Reviews":
        return _REVIEWED.get(last, "")
    silent = first in _SILENT and not (answering and alone)
    if silent and last not in _ORIGINS:
        return ""
    known = {**_ORIGINS, **_TOPICS} if answering else _ORIGINS
    return next((known[part] for part in (last, first) if part in known), "" if silent else _UNKNOWN)

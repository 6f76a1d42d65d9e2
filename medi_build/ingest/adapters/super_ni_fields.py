"""Instruction fields of a Super-NI task: domain, text type and objective, by rules over the task's own file.

They fill ``Represent the [domain] <text type> [for <objective>]`` (Su et al. 2023, section 2.4). A rule leaves a field
empty rather than say something untrue; ``sources/super_ni_overrides.tsv`` says it where the rules cannot.
"""

import re
from collections.abc import Mapping
from typing import Any

# Domain as the task file names it (its last parts included: "Natural Science -> School Science Textbooks") -> how an
# instruction says it. What is missing here (Miscellaneous, Commonsense, Dialogue, Story, ...) says nothing
# about the topic, or is a type of text rather than a domain.
_DOMAINS = {
    "Accounting": "Accounting", "Animals": "Animal", "Anthropology": "Anthropology", "Art": "Art",
    "Astronomy": "Astronomy", "Biology": "Biology", "Books": "Book", "Business Ethics": "Business",
    "Chemistry": "Chemistry", "Code": "Programming", "Computer Science": "Computer Science", "Conference": "Conference",
    "Countries": "Geography", "Debatepedia": "Debate", "Econometrics": "Economics", "Economics": "Economics",
    "Electrical Engineering": "Engineering", "English Exams": "English Exam", "Food": "Food", "Game": "Game",
    "Geography": "Geography", "Government and Politics": "Politics", "Healthcare": "Healthcare", "History": "History",
    "International Law": "Law", "Jurisprudence": "Law", "Justice": "Law", "Knowledge Base": "Knowledge Base",
    "Law": "Law", "Linguistics": "Linguistics", "Literature": "Literature", "Logic": "Logic",
    "Management": "Management", "Marketing": "Marketing", "Mathematics": "Mathematics",
    "Medical Genetics": "Medicine", "Medicine": "Medicine", "Movies": "Movie", "Natural Science": "Science",
    "News": "News", "Nutrition": "Nutrition", "Philosophy": "Philosophy", "Physics": "Physics",
    "Pop Culture": "Pop Culture", "Psychology": "Psychology", "Public Places": "Travel", "Restaurants": "Restaurant",
    "SQL": "Programming", "School Science Textbooks": "Science", "Scientific Research Papers": "Science",
    "Social Media": "Social Media", "Sociology": "Sociology", "Sports": "Sports", "Statistics": "Statistics",
    "TED Talks": "TED Talk", "US Foreign Policy": "Politics", "Web": "Web", "Wikidata": "Wikidata",
    "Wikipedia": "Wikipedia", "World Religions": "Religion",
}  # fmt: skip
_REVIEWED = {"Movies": "Movie", "Food": "Food", "Books": "Book", "Music": "Music", "Restaurants": "Restaurant"}

_OBJECTIVES = {
    "Answer Verification": "verifying the answer",
    "Answerability Classification": "deciding whether the question can be answered",
    "Cause Effect Classification": "relating cause and effect",
    "Code to Text": "describing the code in words",
    "Coherence Classification": "classifying the coherence",
    "Commonsense Classification": "judging the plausibility",
    "Coreference Resolution": "resolving the coreference",
    "Data to Text": "describing the data in words",
    "Dialogue Act Recognition": "recognizing the dialogue act",
    "Dialogue Generation": "generating the dialogue",
    "Dialogue State Tracking": "tracking the state of the dialogue",
    "Discourse Connective Identification": "identifying the discourse connective",
    "Discourse Relation Classification": "classifying the discourse relation",
    "Entity Generation": "naming a related entity",
    "Entity Relation Classification": "classifying the relation between the entities",
    "Ethics Classification": "judging the ethics",
    "Explanation": "explaining the answer",
    "Fact Verification": "verifying the fact",
    "Fill in The Blank": "filling in the blank",
    "Gender Classification": "identifying the gender",
    "Grammar Error Correction": "correcting the grammar",
    "Grammar Error Detection": "detecting the grammatical error",
    "Information Extraction": "extracting information",
    "Intent Identification": "identifying the intent",
    "Irony Detection": "detecting irony",
    "Keyword Tagging": "tagging the keywords",
    "Language Identification": "identifying the language",
    "Linguistic Probing": "judging the grammatical structure",
    "Mathematics": "solving the mathematical problem",
    "Named Entity Recognition": "recognizing the named entities",
    "Negotiation Strategy Detection": "detecting the negotiation strategy",
    "Number Conversion": "converting the numbers",
    "Overlap Extraction": "extracting the overlap",
    "Paper Review": "predicting the decision on the paper",
    "Paraphrasing": "paraphrasing",
    "Poem Generation": "generating a poem",
    "Pos Tagging": "tagging the parts of speech",
    "Preposition Prediction": "predicting the preposition",
    "Program Execution": "executing the instruction in it",
    "Punctuation Error Detection": "detecting punctuation errors",
    "Question Answering": "answering the question",
    "Question Decomposition": "decomposing the question",
    "Question Generation": "generating a question",
    "Question Rewriting": "rewriting the question",
    "Question Understanding": "understanding the question",
    "Section Classification": "classifying the sections",
    "Sentence Composition": "composing a sentence",
    "Sentence Compression": "compressing the text",
    "Sentence Expansion": "elaborating the sentence",
    "Sentence Ordering": "judging the order",
    "Sentence Perturbation": "altering the sentence",
    "Sentiment Analysis": "classifying the sentiment",
    "Spam Classification": "detecting spam",
    "Speaker Identification": "identifying the speaker",
    "Speaker Relation Classification": "classifying the relation between the speakers",
    "Spelling Error Detection": "detecting the spelling error",
    "Stance Detection": "detecting the stance",
    "Stereotype Detection": "detecting stereotypes",
    "Story Composition": "composing a story",
    "Style Transfer": "transferring the style",
    "Summarization": "summarizing the text",
    "Text Categorization": "classifying the text",
    "Text Completion": "completing the text",
    "Text Matching": "matching the texts",
    "Text Quality Evaluation": "evaluating the quality of the text",
    "Text Simplification": "simplifying the text",
    "Text to Code": "writing the code",
    "Textual Entailment": "classifying the entailment",
    "Title Generation": "generating a title",
    "Toxic Language Detection": "detecting toxic language",
    "Translation": "translation",
    "Word Analogy": "predicting the missing word",
    "Word Relation Classification": "classifying the relation between the words",
    "Word Semantics": "determining the meaning of the word",
    "Wrong Candidate Generation": "generating a wrong answer",
}

# The hub's form has no categories: the words of the task's name stand in. First match wins.
_CATEGORY_BY_NAME = (
    (r"wrong|incorrect", "Wrong Candidate Generation"),
    (r"sentiment|emotion|polarity", "Sentiment Analysis"),
    (r"translat", "Translation"),
    (r"question_(generation|writing)", "Question Generation"),
    (r"answerab", "Answerability Classification"),
    (r"summari[sz]", "Summarization"),
    (r"title|headline", "Title Generation"),
    (r"paraphras", "Paraphrasing"),
    (r"toxic|hate|offensive|abus", "Toxic Language Detection"),
    (r"entail|nli", "Textual Entailment"),
    (r"spam", "Spam Classification"),
    (r"irony|sarcas", "Irony Detection"),
    (r"stance", "Stance Detection"),
    (r"answer", "Question Answering"),
)

# Parts that the inputs of a task name ("Premise: ... Hypothesis: ...") -> text type. First match wins; every
# part has to be there.
_PARTS = (
    (("premise", "hypothesis"), "premise and hypothesis"),
    (("sentence 1", "sentence 2"), "sentence pair"),
    (("question 1", "question 2"), "question pair"),
    (("review 1", "review 2"), "review pair"),
    (("word 1", "word 2"), "word pair"),
    (("concept", "relatum"), "word pair"),
    (("entity 1", "entity 2"), "entity pair"),
    (("prompt", "response"), "dialogue"),
    (("utterance",), "dialogue"),
    (("question", "answer"), "question and answer"),
    (("passage", "question"), "passage and question"),
    (("paragraph", "question"), "passage and question"),
    (("context", "question"), "context and question"),
    (("sentence", "question"), "sentence and question"),
    (("argument",), "argument"),
    (("review",), "review"),
    (("passage",), "passage"),
    (("paragraph",), "passage"),
    (("sentence",), "sentence"),
    (("question",), "question"),
)
_LABELLED = re.compile(r"(?:^|(?<=[\s'\"(]))([A-Za-z]+)[ _]?([1-9]?)\s?:")

# Words of a definition for what is given -> text type.
_NOUNS = {
    "tweet": "tweet", "review": "review", "sentence": "sentence", "question": "question", "query": "question",
    "passage": "passage", "paragraph": "passage", "dialogue": "dialogue", "dialog": "dialogue",
    "conversation": "dialogue", "article": "article", "comment": "comment", "headline": "headline",
    "abstract": "abstract", "poem": "poem", "story": "story", "statement": "statement", "post": "post",
    "argument": "argument", "word": "word", "table": "table", "recipe": "recipe", "document": "document",
    "caption": "caption", "message": "message", "text": "text", "title": "title", "utterance": "utterance",
    "list": "list", "premise": "premise", "claim": "claim", "entity": "entity",
}  # fmt: skip
_GIVEN = re.compile(
    r"\b(?:given|shown|provided(?: with)?|presented with|the input is|will see|reading)\b[^.:]{0,60}?"
    rf"\b({'|'.join(_NOUNS)})(?:s|es)?\b",
    re.IGNORECASE,
)


def fields(task: Mapping[str, Any]) -> dict[str, str]:
    """Work out ``domain``, ``text_type`` and ``objective`` of a task.

    Args:
        task: the task file's mapping, any key of which may be missing: ``Domains``, ``Categories``, ``Definition``,
            ``Input_language``, ``Output_language``, ``Instances`` (the first is looked at); and ``task``, its name.

    Returns:
        The three fields; ``domain`` and ``objective`` may be empty.
    """
    domain, language = _domain(_strings(task, "Domains")), _language(task)
    text_type = _text_type(task)
    if language and domain:
        domain = f"{language} {domain}"
    elif language:
        text_type = f"{language} {text_type}"
    return {"domain": domain, "text_type": text_type, "objective": _objective(task)}


def _strings(task: Mapping[str, Any], key: str) -> list[str]:
    value = task.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _domain(domains: list[str]) -> str:
    """The one domain that the task names; empty if it names several, or a mixture."""
    if "Miscellaneous" in domains:
        return ""
    named = {_domain_name(domain): None for domain in domains}
    named.pop("", None)
    return next(iter(named)) if len(named) == 1 else ""


def _domain_name(domain: str) -> str:
    parts = domain.split(" -> ")
    if parts[0] == "Reviews":
        return _REVIEWED.get(parts[-1], "")
    return next((_DOMAINS[part] for part in (parts[-1], parts[0]) if part in _DOMAINS), "")


def _language(task: Mapping[str, Any]) -> str:
    """The language of the inputs, where it is one and not English."""
    languages = _strings(task, "Input_language")
    return languages[0] if len(languages) == 1 and languages[0] != "English" else ""


def _text_type(task: Mapping[str, Any]) -> str:
    if "Word Analogy" in _strings(task, "Categories"):
        return "word analogy"
    return _type_by_domain(_strings(task, "Domains")) or _type_by_input(task) or _type_by_definition(task)


def _type_by_domain(domains: list[str]) -> str:
    known = {
        "Social Media -> Twitter": "tweet",
        "Social Media -> Text Message": "message",
        "Reviews": "review",
        "Dialogue": "dialogue",
        "Captions": "caption",
    }
    first = {known.get(domain) or known.get(domain.split(" -> ")[0], "") for domain in domains}
    return first.pop() if len(first) == 1 else ""


def _type_by_input(task: Mapping[str, Any]) -> str:
    sample = _sample(task)
    found: set[str] = set()
    for word, number in _LABELLED.findall(sample):
        found |= {word.lower(), f"{word.lower()} {number}".strip()}
    return next((kind for parts, kind in _PARTS if found.issuperset(parts)), "")


def _type_by_definition(task: Mapping[str, Any]) -> str:
    match = _GIVEN.search(" ".join(_strings(task, "Definition")[:1]))
    if match:
        return _NOUNS[match.group(1).lower()]
    sample = _sample(task)
    if sample.endswith("?"):
        return "question"
    words = len(sample.split())
    return "text" if not words else "phrase" if words <= 3 else "sentence" if words <= 40 else "passage"


def _sample(task: Mapping[str, Any]) -> str:
    instances = task.get("Instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    text = first.get("input") if isinstance(first, dict) else None
    return text.strip() if isinstance(text, str) else ""


def _objective(task: Mapping[str, Any]) -> str:
    name = str(task.get("task", ""))
    categories = _strings(task, "Categories")
    if not categories:
        categories = [category for pattern, category in _CATEGORY_BY_NAME if re.search(pattern, name)]
    category = categories[0] if categories else ""
    if category == "Sentiment Analysis" and "emotion" in " ".join([name, *_strings(task, "Definition")]).lower():
        return "classifying the emotion"
    languages = _strings(task, "Output_language")
    if category == "Translation" and len(languages) == 1:
        return f"translation into {languages[0]}"
    return _OBJECTIVES.get(category, "")

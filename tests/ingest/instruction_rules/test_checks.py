"""Phrases that may not stand, and text type and objective fitted to each other; all tasks are made up."""

import pytest

from medi_build.ingest.instruction_rules.checks import stands, yes_or_no
from medi_build.ingest.instruction_rules.english import joined
from medi_build.ingest.instruction_rules.fields import fields
from medi_build.ingest.instruction_rules.fit import fitted
from medi_build.ingest.instruction_rules.languages import languages_labelled, turned
from tests.ingest.instruction_rules.test_request import say, task


@pytest.mark.parametrize(
    ("phrase", "sentence"),
    [
        ("indicating the colour of the bird, solely", "Indicate the colour of the bird, solely from the song"),
        ("creating a question of form", "Create a question of form 'Where is the cat?'"),
        ("reading the passage in simplified", "Read the passage in simplified Chinese"),
        ("summing the elements of B", "Sum the elements of B"),
        ("returning the sum up to position j", "Return the sum up to position j"),
        ("completing the tale", "Complete the tale with an incorrect ending"),
        ("writing a reply", "Write a reply that is irrelevant"),
    ],
)
def test_phrases_that_do_not_stand(phrase: str, sentence: str) -> None:
    assert not stands(phrase, sentence)


@pytest.mark.parametrize(
    ("phrase", "sentence"),
    [
        ("naming the town that the tower is located in", "Name the town that the tower is located in"),
        ("writing an incorrect ending", "Write an incorrect ending"),
        ("deciding whether it is correct", "Decide whether it is correct or incorrect"),
        ("finding every ith element of the list", "Find every ith element of the list"),
    ],
)
def test_phrases_that_stand(phrase: str, sentence: str) -> None:
    assert stands(phrase, sentence)


def test_one_condition_is_no_request_among_three_labels() -> None:
    two = 'If it mentions rain answer "yes", else answer "no".'
    three = 'If it mentions rain answer "wet", if it mentions snow answer "cold", else answer "dry".'
    assert yes_or_no(two)
    assert not yes_or_no(three)
    assert "rain" in fields(task(f"You are given a report. {two}"))["objective"]
    assert "rain" not in fields(task(f"You are given a report. {three}"))["objective"]


@pytest.mark.parametrize(
    ("definition", "sample", "instruction"),
    [
        (
            "You are given a sentence in English and its Dutch translation. Say if the translation is right.",
            "English: Good day. \n Dutch: Goede dag.",
            "English and Dutch sentence pair for saying whether the translation is right",
        ),
        (
            "You are given a story. Your job is to complete it such that it is odd, i.e., select an incorrect ending.",
            "A cat sat.",
            "story for selecting an incorrect ending",
        ),
        (
            "Classify the post into two categories: 1) yes if the post is rude, 2) no, otherwise.",
            "Go away.",
            "post for deciding whether it is rude",
        ),
        (
            "Given a post, classify the target of the post as single or several, i.e., a person or a group.",
            "Go away.",
            "post for classifying the target of the post as single or several",
        ),
        (
            "You are given a conversation. Classify if there are two moods in conversation.",
            "Person1: Hi. Person2: Hi.",
            "conversation for deciding whether there are two moods in it",
        ),
        (
            "You are given a story. Write a yes/no question that is answerable based on the given story.",
            "A cat sat.",
            "story for writing a yes/no question answerable from the story",
        ),
        (
            "Given a story, answer the question about the story.",
            "A cat sat. Who sat?",
            "story and question for answering the question from the story",
        ),
        (
            "You are given an abstract of article. Output 'True' if abstract is long, otherwise 'False'.",
            "We show nothing.",
            "abstract for deciding whether it is long",
        ),
        (
            "You are given a review of products in various languages. Predict whether the review is kind.",
            "Nice cup.",
            "product review for predicting whether it is kind",
        ),
        (
            "You are given lists. Return the sum of the list A between positions i and j.",
            "2, 3, ['4', 'b', '5', '6']",
            "two numbers and list of letters and numbers for returning the sum of the list between two positions",
        ),
        (
            "You will be given a sentence. The sentence you enter must be a likely cause of the given sentence.",
            "The cup fell.",
            "sentence for writing a likely cause of the sentence",
        ),
        (
            "You are given a question. Choose the best option by your common sense.",
            "Question: Where do cups stand? (A) shelf (B) sea",
            "commonsense question with answer options for choosing the correct option",
        ),
    ],
)
def test_what_is_given_is_whole_and_what_is_asked_is_kept(definition: str, sample: str, instruction: str) -> None:
    assert say(fields(task(definition, sample))) == f"Represent the {instruction}"


def test_a_new_sentence_that_has_to_be_plausible() -> None:
    definition = (
        "Given a sentence in Basque, generate a new Basque sentence by performing small changes on the sentence. "
        "The generated sentence should have high commonsense plausibility."
    )
    told = fields(task(definition, "Kaixo", Input_language=["Basque"], Output_language=["Basque"]))
    assert say(told) == "Represent the Basque sentence for generating a new plausible sentence by small changes"


@pytest.mark.parametrize(
    ("kind", "objective", "expected"),
    [
        ("sentence", "counting the words in a sentence", ("sentence", "counting the words in it")),
        ("joke", "converting a bad joke to a good joke", ("bad joke", "rewriting it as a good joke")),
        ("review", "classifying the mood of the reviews", ("review", "classifying the mood of the review")),
        ("text", "parsing recipe descriptions into a table", ("recipe description", "parsing it into a table")),
        ("sentence and title", "naming the sentence", ("sentence and title", "naming the sentence")),
        ("review and label", "saying the sentence", ("review and label", "saying the review")),
    ],
)  # fmt: skip
def test_nothing_is_said_twice(kind: str, objective: str, expected: tuple[str, str]) -> None:
    assert fitted(kind, objective, "") == expected


def test_languages_that_an_input_names() -> None:
    assert languages_labelled("Swedish: Hej. \n English: Hello.") == ("Swedish", "English")
    assert languages_labelled("Swedish: Hej.") is None
    assert languages_labelled("Title: Hej. \n Text: Hello.") is None


def test_a_translation_is_turned_only_by_the_script_of_its_input() -> None:
    definition = "You are given a sentence in the Tamil language. Convert it into the English language."
    assert turned(definition, "வணக்கம்", ("English", "Tamil"))
    assert not turned(definition, "வணக்கம்", ("Tamil", "English"))
    assert not turned("Translate from Dutch to Danish.", "Hej", ("Danish", "Dutch"))
    tags = {"Input_language": ["English"], "Output_language": ["Tamil"]}
    told = fields(task(definition, "வணக்கம்", "Translation", **tags))
    assert say(told) == "Represent the Tamil sentence for translation into English"


def test_parts_are_joined_with_one_and() -> None:
    assert joined("premise and hypothesis", "update") == "premise, hypothesis and update"
    assert joined("story", "question") == "story and question"

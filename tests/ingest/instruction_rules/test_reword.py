"""Golden instructions of made-up tasks: wording that a reader found weak, and what stands instead."""

import pytest

from medi_build.ingest.instruction_rules.fields import fields
from tests.ingest.instruction_rules.test_request import say, task


@pytest.mark.parametrize(
    ("definition", "sample", "category", "instruction"),
    [
        (
            "You are given a note, such as a line on a list. Choose the shelf it belongs to: top or bottom.",
            "two lemons",
            "",
            "note for choosing the shelf it belongs to",
        ),
        (
            "You are given a review from Amazon and category of the product. Check whether the given category match "
            "the review.",
            "Review: fine. Category: toys",
            "",
            "Amazon review and product category for checking whether the category matches the review",
        ),
        (
            "You need to answer the given question on the tides. Classify your answers into 'a' and 'b'.",
            "Problem: when is it high? Options: a ) noon , b ) dusk",
            "",
            "problem on tides and answer options for choosing the correct option",
        ),
        (
            "You will be given a passage and a question. The task is to answer the question from the passage. "
            "Answer should be a word.",
            "Passage: It rained. Question: What fell?",
            "",
            "passage and question for answering the question from the passage",
        ),
        (
            "You will be given a list of numbers. You should only return a number if the first digit is a prime.",
            "[21, 46]",
            "",
            "list of integers for selecting every number for which the first digit is a prime",
        ),
        (
            "You are given the beginning of a tale. Your job is to complete the tale by writing a last line that "
            "rhymes.",
            "Beginning: Once",
            "",
            "beginning of a tale for completing the tale by writing a last line that rhymes",
        ),
        (
            "You are given a legal act. Your task is to classify it into three categories (Rule, Order and Plan).",
            "All who dwell here shall pay.",
            "",
            "sentence for classifying it as rule, order or plan",
        ),
        (
            "Given a paragraph, write a question that can be answered in a binary manner i.e. True or False.",
            "It rained.",
            "",
            "paragraph for writing a question that can be answered with true or false",
        ),
        (
            "Given a paragraph, write a question. Avoid questions that can be answered with yes or no.",
            "It rained.",
            "",
            "paragraph for writing a question",
        ),
        (
            "Categorize the comment on the basis of rudeness. If the comment is rude output Yes, otherwise output No.",
            "Go away.",
            "",
            "comment for deciding whether it is rude",
        ),
        (
            "You are given a paragraph, and your job is to give an answer to what the ship's name is.",
            "The Argo sailed.",
            "",
            "paragraph for finding out what the ship's name is",
        ),
        (
            "You are given a text passage as input comprising of dialogue of haggling. Your task is to name the price.",
            "A: 5? B: 4.",
            "",
            "dialogue of haggling for naming the price",
        ),
        (
            "Given an abstract, indicate which of the provided candidate titles (Option1, Option2) best describes it "
            "(respond with the text of the title, not option1/2).",
            "Abstract: Fish swim.",
            "",
            "abstract and candidate titles for indicating which of the candidate titles best describes it",
        ),
        (
            "You need to judge a correct answer to a given question and decide if it is a good answer or not.",
            "Paragraph: It rained. Question: What fell? Answer: rain",
            "",
            "paragraph, question and answer for deciding whether the answer is a good answer",
        ),
        (
            "Write a question about the tale. The goal is to write questions that are easy for humans and hard for AI "
            "machines!",
            "Tale",
            "Question Generation",
            "phrase for writing a question about the tale",
        ),
    ],
)
def test_weak_wording_gives_way(definition: str, sample: str, category: str, instruction: str) -> None:
    assert say(fields(task(definition, sample, category))) == f"Represent the {instruction}"


def test_a_language_out_of_a_few_is_named() -> None:
    told = fields(
        task(
            "A sentence is given. You need to identify the language of the sentence.",
            "Tere",
            "Language Identification",
            Input_language=["Estonian", "Finnish"],
        )
    )
    assert told["objective"] == "identifying whether it is in Estonian or Finnish"


@pytest.mark.parametrize(
    ("definition", "name", "instruction"),
    [
        ("This task is about translating a given English language sentence to Greek.", "", "English sentence"),
        ("The files include book titles and sentences, translate those.", "", "English book title or sentence"),
        ("Your goal is to translate questions in English.", "", "English question"),
        ("Translate from English to Greek.", "task1_open_subtitles_en_el_translation", "English movie subtitle"),
        ("Translate from English to Greek.", "task1_songs_en_el_translation", "English text"),
    ],
)
def test_one_text_is_translated(definition: str, name: str, instruction: str) -> None:
    told = fields(task(definition, "Go on", "Translation", Output_language=["Greek"], task=name))
    assert say(told) == f"Represent the {instruction} for translation into Greek"

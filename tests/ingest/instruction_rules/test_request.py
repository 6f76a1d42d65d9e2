"""Golden instructions of made-up tasks, one for each form of a definition that the rules read."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medi_build.ingest.instruction_rules.english import gerund, sentences, shorten
from medi_build.ingest.instruction_rules.fields import MOST_WORDS, fields
from medi_build.ingest.instruction_rules.languages import languages_told
from medi_build.ingest.instruction_rules.request import request
from tests.conftest import ROOT


def say(told: dict[str, str]) -> str:
    domain = f"{told['domain']} " if told["domain"] else ""
    objective = f" for {told['objective']}" if told["objective"] else ""
    return f"Represent the {domain}{told['text_type']}{objective}"


def task(definition: str, sample: str = "", category: str = "", **more: object) -> dict[str, object]:
    return {
        "Definition": [definition],
        "Instances": [{"input": sample}],
        "Categories": [category],
        "Input_language": ["English"],
        "Output_language": ["English"],
        **more,
    }


@pytest.mark.parametrize(
    ("definition", "sample", "instruction"),
    [
        (
            "In this task, you are given an essay. Your job is to write a headline for the given essay.",
            "Dear Sir, the trams are late.",
            "essay for writing a headline for the essay",
        ),
        (
            "You will be given a recipe and a list of allergies. You need to determine if the recipe is safe or not.",
            "Recipe: Bread. Allergies: nuts",
            "recipe and list of allergies for determining whether the recipe is safe",
        ),
        (
            "Given a weather report, classify it into one of three categories: sunny, rainy, or mixed.",
            "Clouds all day.",
            "weather report for classifying it as sunny, rainy or mixed",
        ),
        (
            "You are given a post. If it asks for help then output 'Yes', otherwise output 'No'.",
            "My bike is broken.",
            "post for deciding whether it asks for help",
        ),
        (
            "You are given a sentence. Answer 'yes' if the sentence is a promise, otherwise answer 'no'.",
            "I shall come.",
            "sentence for deciding whether it is a promise",
        ),
        (
            "You are given a poem. You must name the animal in the poem. Note that your answer has one word.",
            "A cat, a mat.",
            "poem for naming the animal in it",
        ),
        (
            "You are given a passage and a question. Write the correct answer to the given question.",
            "Passage: It rained.\nQuestion: What fell?",
            "passage and question for answering the question from the passage",
        ),
        (
            "You are given a question on gardening. You are also given 4 answer options. Choose the correct answer.",
            "When to sow? (A) May (B) June (C) July (D) never",
            "question on gardening with four answer options for choosing the correct option",
        ),
        (
            "In this task you are given a list of numbers. You need to reverse it and remove the largest element.",
            "[4, 2, 9]",
            "list of integers for reversing it and removing the largest element",
        ),
        (
            "In this task you will be given a list of numbers. If the element is even, halve it. "
            "If the element is odd, add one.",
            "[4, 2, 9]",
            "list of integers for changing even and odd elements by different rules",
        ),
        (
            "You are given two statements. Alter statement 2 so that the pair agree with each other.",
            "Statement 1: It is hot. Statement 2: It is cold.",
            "two statements for altering statement 2 so that the pair agree with each other",
        ),
        (
            "You are given a word problem and you are supposed to apply division on the numbers in the text.",
            "Six pears for two.",
            "word problem for answering the question by division",
        ),
    ],
)
def test_what_is_given_and_what_is_asked(definition: str, sample: str, instruction: str) -> None:
    assert say(fields(task(definition, sample))) == f"Represent the {instruction}"


@pytest.mark.parametrize(
    ("tags", "category", "definition", "domain"),
    [
        (["News"], "Summarization", "You are given an article.", "news"),
        (["News"], "Summarization", "You are given a news article.", ""),
        (["News", "Wikipedia"], "Summarization", "You are given an article.", ""),
        (["Sociology", "News"], "Summarization", "You are given an article.", "news"),
        (["Animals"], "Summarization", "You are given an article.", ""),
        (["Wikipedia"], "Question Answering", "You are given a question.", ""),
        (["Physics"], "Question Answering", "You are given a question.", "physics"),
        (["Physics"], "Question Answering", "You are given a question on college physics.", ""),
        (["Reviews -> Movies"], "Sentiment Analysis", "You are given a review.", "movie"),
        (["Miscellaneous"], "Summarization", "You are given an article.", ""),
    ],
)
def test_domains_that_can_be_relied_on(tags: list[str], category: str, definition: str, domain: str) -> None:
    assert fields(task(definition, "text", category, Domains=tags))["domain"] == domain


def test_language_stands_before_the_noun_it_belongs_to() -> None:
    told = fields(task("You are given two statements in Tamil.", Input_language=["Tamil"]))
    assert say(told).startswith("Represent the two Tamil statements")
    told = fields(task("You are given a hateful post in Greek.", Input_language=["Greek"]))
    assert say(told).startswith("Represent the hateful Greek post")


def test_wrong_answers_are_never_said_to_be_right() -> None:
    definition = "You are given a question. Write an answer to the given question."
    assert "wrong" in fields(task(definition, "Why?", "Wrong Candidate Generation"))["objective"]
    told = fields(task(definition.replace("an answer", "an incorrect answer"), "Why?", "Wrong Candidate Generation"))
    assert told["objective"] == "writing an incorrect answer to the question"


def test_a_translation_names_both_languages() -> None:
    told = fields(task("Translate it.", "Hei", "Translation", Input_language=["Finnish"], Output_language=["Panjabi"]))
    assert say(told) == "Represent the Finnish text for translation into Punjabi"


@pytest.mark.parametrize(
    ("definition", "sample", "pair"),
    [
        ("Translate from Tamil to the Oriya language.", "வணக்கம்", ("Tamil", "Oriya")),
        ("Translate from Oriya to the Tamil language.", "வணக்கம்", ("Tamil", "Oriya")),
        ("Translate from Thai to Lao.", "வணக்கம்", None),
        ("You get a sentence in Polish. Convert it into Hebrew.", "Dzień dobry", ("Polish", "Hebrew")),
        ("Translate it into Klingon.", "Good day", None),
        ("Translate from Thai to Lao.", "", None),
    ],
)
def test_languages_in_the_hubs_form(definition: str, sample: str, pair: tuple[str, str] | None) -> None:
    assert languages_told(definition, sample) == pair


def test_hub_form_has_neither_categories_nor_languages() -> None:
    row = {
        "task": "task1_small_talk_translation",
        "Definition": ["A text is given in Greek. Translate it from Greek to Korean."],
        "Instances": [{"input": "Καλημέρα"}],
    }
    assert say(fields(row)) == "Represent the Greek text for translation into Korean"
    row = {"task": "task1_x", "Definition": ["Given a joke, explain why it is funny."], "Instances": [{"input": "Ha"}]}
    assert say(fields(row)) == "Represent the joke for explaining why it is funny"


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("write", "writing"), ("see", "seeing"), ("lie", "lying"), ("stop", "stopping"), ("add", "adding"),
        ("classify", "classifying"), ("writing", "writing"), ("agree", "agreeing"), ("answer", "answering"),
        ("sum", "summing"), ("bring", "bringing"),
    ],
)  # fmt: skip
def test_gerunds(verb: str, expected: str) -> None:
    assert gerund(verb) == expected


def test_sentences_are_not_cut_at_abbreviations() -> None:
    from medi_build.ingest.instruction_rules.english import plain

    assert sentences(plain("Say A vs. B. Use e.g. Latin. Done.")) == ["Say A vs B", "Use eg Latin", "Done"]


def test_a_long_request_is_cut_at_a_clause() -> None:
    assert shorten("naming the colour of the sky that hangs above the town", 6) == "naming the colour of the sky"
    assert shorten("naming " + "very " * 30 + "tall trees", 6) == ""


WORDS = """
    you are given a the sentence question passage list of and your task is to write classify it into answer if then
    output yes no otherwise such that which , . : ; ( ) " ' [ ] { } {{ }} {% 5 A B the input should determine whether
    translate generate based on need must in English or not e.g. i.e. <sep> = Note using find count two pair \\ ¶
    """.split()  # noqa: SIM905


def test_any_definition_gives_a_bounded_phrase() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        definition = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 60))).replace("¶", "\n\n")
        sample = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(0, 20)))
        told = fields(task(definition, sample, rng.choice(["", "Translation", "Question Answering"])))
        instruction = say(told)
        assert told["text_type"].strip(), definition
        assert len(instruction.split()) <= MOST_WORDS, definition
        assert not re.search(r"[{}<>\n]", instruction), definition
        assert re.match(r"\w+ing\b|translation\b|paraphrased |$", told["objective"]), definition


def test_a_huge_definition_takes_no_time_to_speak_of() -> None:
    for unit in ("you are given a ", "if the ", "(", '"', "a, ", "classify it into ", "\n \n", "the "):
        assert len(say(fields(task(unit * 4000, unit * 4000))).split()) <= MOST_WORDS


def test_same_phrase_under_any_hash_seed() -> None:
    program = (
        "import json,sys; from medi_build.ingest.instruction_rules.request import request;"
        "print(json.dumps([request(text) for text in json.loads(sys.argv[1])]))"
    )
    texts = ["You must label the line and sort the words.", "The task is about tagging names.", "Your task: sum it."]
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, json.dumps(texts)],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(seen) == 1


def test_no_request_is_made_up() -> None:
    for definition in ("", "Words.", "Make sure it is right.", "You can use a dictionary.", "Do not answer."):
        assert request(definition) == ""


@pytest.mark.shared
def test_tasks_with_other_definitions_get_other_instructions(shared_data: Path) -> None:
    told: dict[str, set[str]] = {}
    for path in sorted((shared_data / "super_ni" / "tasks").glob("*.json")):
        data = json.loads(path.read_bytes())
        told.setdefault(say(fields({**data, "task": path.stem})), set()).add(" ".join(data["Definition"]))
    assert sum(len(definitions) for definitions in told.values() if len(definitions) > 1) <= 4

import pytest

from medi_build.ingest.instruction_rules.definition import MAX_CHARACTERS, MAX_WORDS, first_sentence


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (["You get a post. Name its mood."], "You get a post"),
        ("Given a post,\n name   its mood.", "Given a post, name its mood"),
        (["Use short names (e.g. Jo) or none. Be brief."], "Use short names (e.g. Jo) or none"),
        (["Is it true? Say yes or no."], "Is it true?"),
        (["Mark the word '{{ ... }}' in 3.5 pages. Then stop."], "Mark the word '{{ ... }}' in 3.5 pages"),
        (['Say so! "Yes" is an answer.'], "Say so!"),
        (["Первое. Второе."], "Первое"),
        (["写出一个问题。然后回答。"], "写出一个问题"),
        (["Name\0 its \x1b[31mmood. Now."], "Name its [31mmood"),
        (["lone \ud800 surrogate;"], "lone surrogate"),
        ([], ""),
        (None, ""),
        ([None], ""),
        (["  "], ""),
    ],
)
def test_the_first_sentence(definition: object, sentence: str):
    assert first_sentence(definition) == sentence


def test_its_length_is_bounded():
    assert first_sentence("word " * 500) == " ".join(["word"] * MAX_WORDS)
    assert len(first_sentence("x" * 10_000)) == MAX_CHARACTERS

from pathlib import Path

import pytest

from medi_build.content.same_instruction import load_groups
from medi_build.content.wording import faults
from medi_build.errors import ContentError


@pytest.mark.parametrize(
    ("instruction", "what"),
    [
        ("Represent the review for " + "rating it and then " * 6 + "asking who wrote", "31 words"),
        ("Represent the for classifying the mood", "no text type"),
        ("Represent", "no text type"),
        ("Represent the phrase", "only 'phrase', which says nothing"),
        ("Represent this text", "only 'text', which says nothing"),
        ("Represent the dialogue for generating the dialogue", "says the text type again"),
        ("Represent the math question by what matters for understanding the question", "says the text type again"),
        ("Represent the list for executing the instruction in it", "says the text type again"),
        ("Represent the the review for rating it", "'the' stands twice"),
        ("Represent the review for giving a the mark", "two articles, 'a the'"),
        ("Represent the review for giving a answer", "'a answer'"),
        ("Represent the review for giving an mark", "'an mark'"),
        ("Represent the review (short for rating it", "unbalanced ()"),
        ('Represent the "review for rating it', 'unbalanced "'),
        ("Represent the {{ text_type }} for rating it", "an unfilled placeholder"),
        ("Represent the review , for rating it", "before a punctuation mark"),
        ("Represent the review for rating it.", "ends with '.'"),
        ("Represent the review for rating the", "ends with 'the'"),
    ],
)
def test_each_fault_is_told_alone(instruction: str, what: str) -> None:
    found = faults(instruction)
    assert any(what in fault.what for fault in found), found
    assert all(fault.do for fault in found)
    assert len(found) == 1, found


@pytest.mark.parametrize(
    "instruction",
    [
        "Represent the sentence for generating a sentence that follows it",
        "Represent the premise and hypothesis for deciding whether the hypothesis follows",
        "Represent the list of four words for naming the category that the words belong to",
        "Represent the dialogue between sender A and sender B for deciding whether sender A is a bot",
        "Represent the question for translation into an SQL query",
        "Represent the clause for rating an hour, a unit, a one-off and a European law",
        "Represent the review",
        "Represent the Wikipedia document for retrieval",
        "Represent the claim that that is so for checking it",
    ],
)
def test_good_wording_passes(instruction: str) -> None:
    assert faults(instruction) == []


def write(root: Path, *lines: str) -> Path:
    (root / "sources").mkdir()
    (root / "sources" / "same_instruction.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_groups_of_all_folders(tmp_path: Path) -> None:
    root = write(tmp_path, "names\twhy", "s/a s/b\tone request", "s/b s/c\tanother")
    groups = load_groups([tmp_path / "none", root], ["s/a", "s/b", "s/c"])
    assert groups == [{"s/a", "s/b"}, {"s/b", "s/c"}]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["name\twhy"], "the columns are names, why"),
        (["names\twhy", "s/a\tone"], ":2: expected 'name name ...<TAB>why'"),
        (["names\twhy", "s/a s/b"], ":2: expected"),
        (["names\twhy", "s/a s/b\t"], ":2: expected"),
        (["names\twhy", "s/a s/bb\tone"], r"no dataset 's/bb'; did you mean 's/b'\?"),
    ],
)
def test_faulty_groups_are_told(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(ContentError, match=told):
        load_groups([write(tmp_path, *lines)], ["s/a", "s/b"])

"""Instructions of evaluations: what ships keeps to the grammar and to no test set; a user's file is checked."""

from pathlib import Path

import pytest

from medi_build.content.evaluation import Sides, read_instructions, shipped_instructions
from medi_build.errors import ContentError
from medi_build.evaluate.instructions import NO_INSTRUCTIONS, choose_instructions

SHIPPED = shipped_instructions()


def texts() -> list[str]:
    every = [*SHIPPED.task_types.values(), SHIPPED.other, *(s for many in SHIPPED.paraphrases.values() for s in many)]
    return [text for sides in every for text in (sides.query, sides.document) if text is not None]


def test_what_ships_is_in_the_grammar_of_the_training_data_and_for_no_single_test_set() -> None:
    assert not SHIPPED.tasks
    assert all(text.startswith("Represent the ") and text.endswith(";") for text in texts())


def test_ten_paraphrases_differ_from_each_other_and_from_the_usual_one() -> None:
    for kind, many in SHIPPED.paraphrases.items():
        assert len({SHIPPED.task_types[kind], *many}) == 11, kind


def test_documents_and_queries_get_their_own_and_one_sided_tasks_one() -> None:
    shipped = choose_instructions("templates", leaves_instruction_out=False)
    assert shipped.prompt("Retrieval", "query").instruction == SHIPPED.task_types["Retrieval"].query
    assert shipped.prompt("Retrieval", "document").instruction == SHIPPED.task_types["Retrieval"].document
    assert shipped.prompt("STS", "document").instruction == shipped.prompt("STS", None).instruction
    assert shipped.prompt("NeverHeardOf", None).instruction == SHIPPED.other.query
    assert NO_INSTRUCTIONS.prompt("STS", None).instruction == ""
    assert choose_instructions("saved", leaves_instruction_out=True).prompt("STS", "query").instruction is None


@pytest.mark.parametrize(("leaves_out", "source"), [(True, "templates"), (False, "saved")])
def test_auto_goes_by_whether_the_model_leaves_instructions_out(leaves_out: bool, source: str) -> None:
    assert choose_instructions("auto", leaves_instruction_out=leaves_out).source == source


def test_a_users_own_go_by_name_first(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("other: {query: 'A: '}\ntask_types: {STS: {query: 'B: '}}\ntasks: {sick: {query: 'C: '}}\n")
    own = choose_instructions(str(path), leaves_instruction_out=False)
    found = [own.prompt(kind, None, task).instruction for kind, task in (("STS", "sick"), ("STS", "x"), ("Y", "x"))]
    assert found == ["C: ", "B: ", "A: "]
    assert own.table is not None and own.table.of("STS", "sick") == Sides(query="C: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other: {query: 1}", r"other.query: Input should be a valid string, saw '1'"),
        ("task_types: {}", r"other: Field required"),
        ("other: {query: a}\nmore: 1", r"more: Extra inputs are not permitted"),
        ("other: {", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_in_the_form_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ContentError, match=message):
        read_instructions(path)
    with pytest.raises(ContentError, match="cannot be read"):
        read_instructions(tmp_path / "none.yaml")

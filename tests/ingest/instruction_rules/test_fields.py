import json
import re
from pathlib import Path

import pytest

from medi_build.content.super_ni_tasks import Override, load_overrides
from medi_build.content.wording import faults
from medi_build.errors import ContentError
from medi_build.ingest.instruction_rules.fields import fields

OVERRIDES = Path(__file__).parents[3] / "sources" / "super_ni_overrides.tsv"


def say(told: dict[str, str]) -> str:
    domain = f"{told['domain']} " if told["domain"] else ""
    objective = f" for {told['objective']}" if told["objective"] else ""
    return f"Represent the {domain}{told['text_type']}{objective}"


@pytest.mark.parametrize(
    ("task", "instruction"),
    [
        (
            {
                "Categories": ["Sentiment Analysis"],
                "Domains": ["Social Media -> Twitter"],
                "Definition": ["Given a tweet"],
            },
            "Represent the tweet for classifying the sentiment",
        ),
        (
            {
                "Categories": ["Sentiment Analysis"],
                "Domains": ["Reviews -> Movies"],
                "Definition": ["You are given a review. Say its emotion."],
            },
            "Represent the movie review for saying its emotion",
        ),
        (
            {
                "Categories": ["Textual Entailment"],
                "Domains": ["Natural Science", "School Science Textbooks"],
                "Instances": [{"input": "Premise: Rain fell. Hypothesis: It is wet."}],
            },
            "Represent the science premise and hypothesis for deciding whether one text entails the other",
        ),
        (
            {
                "Categories": ["Translation"],
                "Domains": ["TED Talks"],
                "Definition": ["You are given a sentence in Polish."],
                "Input_language": ["Polish"],
                "Output_language": ["Hebrew"],
            },
            "Represent the Polish TED talk sentence for translation into Hebrew",
        ),
        (
            {"Categories": ["Summarization"], "Domains": ["News", "Law", "Fiction"], "Definition": ["Given a passage"]},
            "Represent the passage for summarizing it",
        ),
        ({"Categories": ["Misc."], "Instances": [{"input": "Angola"}]}, "Represent the phrase"),
        (
            {"task": "task1_spam_text", "Instances": [{"input": "Win now?"}]},
            "Represent the question for detecting spam",
        ),
        ({}, "Represent the text"),
        ({"Domains": None, "Categories": "x", "Instances": [7], "Definition": [None]}, "Represent the text"),
    ],
)
def test_rules(task: dict, instruction: str):
    assert say(fields(task)) == instruction


@pytest.mark.shared
def test_every_real_task_gets_a_grammatical_instruction(shared_data: Path):
    overrides = load_overrides(OVERRIDES)
    for path in sorted((shared_data / "super_ni" / "tasks").glob("*.json")):
        told = fields({**json.loads(path.read_bytes()), "task": path.stem})
        told |= overrides[path.stem].fields if path.stem in overrides else {}
        instruction = say(told)
        assert faults(instruction) == [], path
        assert re.match(r"(minimally )?[a-z]+ing\b|(paraphrased )?translation\b", told["objective"]), path


def test_shipped_overrides_name_known_tasks_once():
    tasks = (OVERRIDES.parent / "super_ni_tasks.tsv").read_text(encoding="utf-8").splitlines()
    known = {line.split("\t")[0] for line in tasks}
    assert set(load_overrides(OVERRIDES)) <= known


def write(folder: Path, *lines: str, header: str = "task\toutputs\tdomain\ttext_type\tobjective") -> Path:
    path = folder / "overrides.tsv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_overrides_replace_what_they_name(tmp_path: Path):
    path = write(tmp_path, "task1_a\tcount\t-\tsaying\t", "task2_b\t\t\t\tdoing it")
    overrides = load_overrides(path)
    assert overrides["task1_a"] == Override("task1_a", "count", "-", "saying", "")
    assert overrides["task1_a"].fields == {"domain": "", "text_type": "saying"}
    assert overrides["task2_b"].fields == {"objective": "doing it"}


@pytest.mark.parametrize(
    ("lines", "header", "told"),
    [
        ([], "task\toutput\tdomain\ttext_type\tobjective", r"unknown column 'output'; did you mean 'outputs'\?"),
        ([], "task\tkind\tdomain\ttext_type\tobjective", "unknown column 'kind' is called outputs now"),
        ([], "task\toutputs", "columns are, in this order"),
        (["task1_a\tpairs\t\t\t"], None, "outputs 'pairs'; allowed: class, text, option, count, wrong, or empty"),
        (["tusk\t\t\t\t"], None, "not a name like"),
        (["task1_a\t\t\t\t", "task1_a\t\t\t\t"], None, ":3: task1_a stands twice"),
        (["task1_a\t\t"], None, "3 cells, 5 are needed"),
    ],
)
def test_faulty_overrides_are_told(tmp_path: Path, lines: list[str], header: str | None, told: str):
    path = write(tmp_path, *lines, **({"header": header} if header else {}))
    with pytest.raises(ContentError, match=told):
        load_overrides(path)


def test_missing_table_is_told(tmp_path: Path):
    with pytest.raises(ContentError, match="no such file"):
        load_overrides(tmp_path / "nothing.tsv")

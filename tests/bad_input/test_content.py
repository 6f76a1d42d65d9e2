"""Faults in a team's cards, templates, pipelines and ids."""

import pytest

from medi_build.content.load import load_content
from medi_build.errors import ContentError
from tests.bad_input.team import CARD, IDS, NAME, Team

FAULTS = {
    "unknown key": ("sources/tickets.yaml", CARD + "colour: red\n", r"tickets\.yaml: colour: unknown key"),
    "unknown option": (
        "sources/tickets.yaml",
        CARD.replace("{options}", "{{adapter: pairs, qery: a}}"),
        r"tickets\.yaml: options\.pairs\.qery: unknown key; did you mean 'query'",
    ),
    "key twice": ("sources/tickets.yaml", CARD + "name: b/c\n", r"tickets\.yaml: not valid YAML: key 'name' .*line"),
    "not YAML": ("sources/tickets.yaml", "a: [", r"tickets\.yaml: not valid YAML: .* line 2"),
    "no mapping": ("sources/tickets.yaml", "- a\n", r"tickets\.yaml: the file: Input should be a valid dictionary"),
    "name twice": ("sources/again.yaml", CARD, r"the name 'our_team/tickets' is taken by .*again\.yaml"),
    "wrong ending": ("sources/more.yml", CARD, r"more\.yml: is not read; rename it to more\.yaml"),
    "id twice": ("sources/task_ids.tsv", IDS + "100000\tour_team/b\n", r"task_ids\.tsv:3: id 100000 belongs to"),
    "id of ours": ("sources/task_ids.tsv", f"task_id\tname\n1\t{NAME}\n", r"task_ids\.tsv:2: id 1 belongs to"),
    "name with two ids": ("sources/task_ids.tsv", IDS + f"7777777\t{NAME}\n", r"task_ids\.tsv:3: our_team/tickets has"),
    "id not a number": ("sources/task_ids.tsv", f"²\t{NAME}\n", r"task_ids\.tsv:1: expected 'number<TAB>name'"),
    "id too big": ("sources/task_ids.tsv", f"9999999999\t{NAME}\n", r"task_ids\.tsv:1: expected .*2147483647"),
    "unknown field": (
        "templates/a.yaml",
        "name: a\ndescription: d\nfields: {x: ''}\nphrasings: [{query: 'Represent {% if x %}{{ y }}{% endif %}'}]\n",
        r"a\.yaml: .*unknown field 'y' .*fields are x",
    ),
    "unknown field in a card": (
        "sources/tickets.yaml",
        CARD.replace("target:", "tarket:"),
        r"our_team/tickets: template 'similarity' has no field 'tarket'; did you mean 'target'",
    ),
    "unknown preset": (
        "pipelines/a.yaml",
        "name: a\ndescription: d\nsources: [sample]\nencoder: {model: x}\nmining: {preset: papre}\n",
        r"a\.yaml: .*no preset 'papre'; there are paper",
    ),
    "negative seed": (
        "pipelines/a.yaml",
        "name: a\ndescription: d\nsources: [sample]\nencoder: {model: x}\nmining: {}\nseed: -1\n",
        r"a\.yaml: seed: .*greater than or equal to 0",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_in_the_content_names_file_and_key(team: Team, case: str) -> None:
    name, text, message = FAULTS[case]
    team.put(name, text.format(file="t.jsonl", options="{adapter: pairs}", max_loss=0) if "{file}" in text else text)
    with pytest.raises(ContentError, match=message):
        load_content(team.content)


def test_a_card_that_is_a_folder(team: Team) -> None:
    (team.content / "sources" / "x.yaml").mkdir()
    with pytest.raises(ContentError, match=r"x\.yaml: cannot be read \(Is a directory"):
        load_content(team.content)

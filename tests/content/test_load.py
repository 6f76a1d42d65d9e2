import re
from pathlib import Path

import pytest

from medi_build.content.cards import Card
from medi_build.content.load import load_content, select_names
from medi_build.errors import ContentError
from medi_build.paths import content_root

CARD = """
name: our_team/tickets
description: pairs of tickets
options: {adapter: pairs}
files: {train: [tickets.jsonl]}
licence: {spdx: unconfirmed, commercial_use: unknown}
citation: ours
instruction: {template: similarity, fields: {target: sentences, text_type: sentence}}
"""


def overlay(root: Path, card: str = CARD, ids: str = "task_id\tname\n100000\tour_team/tickets\n") -> Path:
    (root / "sources").mkdir(parents=True)
    (root / "sources" / "tickets.yaml").write_text(card)
    (root / "sources" / "task_ids.tsv").write_text(ids)
    return root


def test_the_shipped_content_is_whole() -> None:
    content = load_content()
    medi = select_names(content.cards, ("medi",))
    assert len(medi) == 331
    assert sum(name.startswith("super_ni/") for name in medi) == 300
    assert list(content.cards) == sorted(content.cards, key=content.task_ids.__getitem__)
    assert len(set(content.task_ids.values())) == len(content.task_ids)
    assert {"quickstart", "devdata", "medi", "medi-large", "medi-instructor"} <= set(content.pipelines)


def test_every_card_is_one_that_would_be_accepted() -> None:
    """Those of the Super-NI tasks are copies of one that was checked."""
    for card in load_content().cards.values():
        assert Card.model_validate(card.model_dump()) == card


def test_overlay_adds_and_replaces(tmp_path: Path) -> None:
    root = overlay(tmp_path)
    (root / "pipelines").mkdir()
    quickstart = content_root() / "pipelines" / "quickstart.yaml"
    (root / "pipelines" / "ours.yaml").write_text(
        re.sub(r"(?m)^seed: .*\n|\Z", "", quickstart.read_text()) + "seed: 7\n"
    )
    content = load_content(root)
    assert content.cards["our_team/tickets"].citation == "ours"
    assert content.task_ids["our_team/tickets"] == 100000
    assert content.pipelines["quickstart"].seed == 7


def test_all_faults_of_all_files_come_together(tmp_path: Path) -> None:
    root = overlay(tmp_path, CARD.replace("citation: ours", "citatoin: ours").replace("[tickets.jsonl]", "[]"))
    (root / "pipelines").mkdir()
    (root / "pipelines" / "a.yaml").write_text("name: a\nname: b\n")
    (root / "templates").mkdir()
    (root / "templates" / "loop.yaml").write_text(
        "name: loop\ndescription: d\nphrasings: [{query: 'Represent {% for x in y %}{% endfor %}'}]\n"
    )
    with pytest.raises(ContentError) as caught:
        load_content(root)
    text = str(caught.value)
    assert "tickets.yaml: citatoin: unknown key; did you mean 'citation'" in text
    assert "tickets.yaml: citation: Field required" in text
    assert "tickets.yaml: files: name at least one file" in text
    assert "a.yaml" in text
    assert "'name' stands twice" in text
    assert "For is not allowed" in text


@pytest.mark.parametrize(
    ("card", "ids", "message"),
    [
        (
            CARD.replace("{adapter: pairs}", "{adapter: super_ni, kind: auto}"),
            "100000\tour_team/tickets\n",
            r"tickets\.yaml: options\.super_ni\.kind: is called outputs now; write the new name",
        ),
        (
            f"{CARD}judged_negatives: true\n",
            "100000\tour_team/tickets\n",
            r"tickets\.yaml: judged_negatives: is called verified_negatives now; write the new name",
        ),
        (CARD, "task_id\tname\n", "has no task id"),
        (CARD, "task_id\tname\n1\tour_team/tickets\n", "ids never move"),
        (CARD, "task_id\tname\none\tour_team/tickets\n", "expected 'number<TAB>name'"),
        (CARD.replace("similarity", "similarty"), "100000\tour_team/tickets\n", "did you mean 'similarity'"),
        (CARD.replace("target: sentences", "colour: red"), "100000\tour_team/tickets\n", "no field 'colour'"),
    ],
)
def test_faults_of_ids_and_templates(tmp_path: Path, card: str, ids: str, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        load_content(overlay(tmp_path, card, ids))


@pytest.mark.parametrize("table", ["super_ni_overrides.tsv", "super_ni_tasks.tsv"])
def test_a_table_of_tasks_that_nothing_reads_is_told(tmp_path: Path, table: str) -> None:
    root = overlay(tmp_path)
    (root / "sources" / table).write_text("task\n")
    with pytest.raises(ContentError, match=rf"{table}: is read only beside super_ni.yaml"):
        load_content(root)


def test_a_folder_without_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="holds none of sources/"):
        load_content(tmp_path)


def cards(*names: str) -> dict[str, Card]:
    base = load_content().cards["medmcqa"]
    return {n: base.model_copy(update={"name": n, "collections": ("odd",) if n.endswith("1") else ()}) for n in names}


NAMES = cards("kilt/a1", "kilt/b2", "pairs/a1", "medmcqa", "medmcqa/x2")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("all",), ["kilt/a1", "kilt/b2", "pairs/a1", "medmcqa", "medmcqa/x2"]),
        (("kilt",), ["kilt/a1", "kilt/b2"]),
        (("*/a1", "medmcqa"), ["kilt/a1", "pairs/a1", "medmcqa"]),
        (("odd",), ["kilt/a1", "pairs/a1"]),
        (("all", "-kilt"), ["pairs/a1", "medmcqa", "medmcqa/x2"]),
        (("-odd",), ["kilt/b2", "medmcqa", "medmcqa/x2"]),
        (("-odd", "kilt/a1"), ["kilt/a1", "kilt/b2", "medmcqa", "medmcqa/x2"]),
    ],
)
def test_select(patterns: tuple[str, ...], expected: list[str]) -> None:
    assert select_names(NAMES, patterns) == expected


def test_all_means_what_the_pipeline_names() -> None:
    assert select_names(NAMES, ("all", "-pairs"), everything=["kilt/a1", "pairs/a1"]) == ["kilt/a1"]
    assert select_names(NAMES, ("-odd",), everything=["kilt/a1", "kilt/b2"]) == ["kilt/b2"]


def test_unknown_source_gets_a_suggestion() -> None:
    with pytest.raises(ContentError, match="did you mean 'kilt/b2'"):
        select_names(NAMES, ("kilt/b3",))

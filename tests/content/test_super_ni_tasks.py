"""The table of Super-NI tasks: what its loader refuses, that its facts hold, that the 300 follow from the rule."""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.cards import Card
from medi_build.content.super_ni_tasks import COLUMNS, SPLITS, TaskFacts, load_overrides, load_tasks, save_tasks
from medi_build.errors import ContentError
from tools.choose_super_ni_tasks import choose, is_english, wrong_tasks

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "sources" / "super_ni_tasks.tsv"
OVERRIDES = ROOT / "sources" / "super_ni_overrides.tsv"
HELD_OUT = {  # Wang et al. 2022: the 12 categories of the English track's test split, tasks in each
    "Answerability Classification": 13,
    "Cause Effect Classification": 7,
    "Coreference Resolution": 14,
    "Data to Text": 9,
    "Dialogue Act Recognition": 7,
    "Grammar Error Correction": 1,
    "Keyword Tagging": 5,
    "Overlap Extraction": 2,
    "Question Rewriting": 11,
    "Textual Entailment": 24,
    "Title Generation": 18,
    "Word Analogy": 8,
}


@pytest.fixture(scope="module")
def table() -> list[TaskFacts]:
    return load_tasks(TABLE)


def test_table_has_every_task_of_the_official_splits(table: list[TaskFacts]) -> None:
    assert Counter(facts.split for facts in table) == {"train": 756, "test": 119, "excluded": 738}
    assert table == sorted(table, key=lambda facts: (facts.number, facts.task))
    assert len({facts.category for facts in table}) == 76


def test_test_split_holds_the_twelve_held_out_categories_and_train_none_of_them(table: list[TaskFacts]) -> None:
    assert Counter(facts.category for facts in table if facts.split == "test") == HELD_OUT
    train = [facts for facts in table if facts.split == "train"]
    assert not [facts.task for facts in train if facts.category in HELD_OUT]
    assert all(is_english(facts) for facts in train)


@pytest.mark.shared
def test_facts_agree_with_the_task_files(table: list[TaskFacts], shared_data: Path) -> None:
    by_name = {facts.task: facts for facts in table}
    files = sorted((shared_data / "super_ni" / "tasks").glob("*.json"))
    assert files
    for file in files:
        raw = json.loads(file.read_bytes())  # some hold NaN, which orjson refuses
        facts = by_name[file.stem]
        told = {
            "Categories": facts.category,
            "Input_language": facts.input_language,
            "Output_language": facts.output_language,
            "Domains": facts.domain,
        }
        assert {key: ", ".join(raw[key]) for key in told} == told, file.stem


@pytest.mark.shared
def test_splits_agree_with_the_official_lists(table: list[TaskFacts], shared_data: Path) -> None:
    for split in SPLITS:
        official = (shared_data / "super_ni" / "splits" / "default" / f"{split}_tasks.txt").read_text().split()
        assert sorted(facts.task for facts in table if facts.split == split) == sorted(official)


def test_the_300_follow_from_the_rule(table: list[TaskFacts]) -> None:
    marked = [facts.task for facts in table if facts.medi]
    assert len(marked) == 300
    assert marked == choose(table, wrong_tasks(OVERRIDES)), (
        "run: python tools/choose_super_ni_tasks.py sources/super_ni_tasks.tsv"
    )


def test_the_command_writes_the_same_table(table: list[TaskFacts], tmp_path: Path) -> None:
    copy = tmp_path / TABLE.name
    (tmp_path / OVERRIDES.name).write_bytes(OVERRIDES.read_bytes())
    save_tasks(copy, [replace(facts, medi=False) for facts in table])
    subprocess.run([sys.executable, "tools/choose_super_ni_tasks.py", str(copy)], check=True, cwd=ROOT)
    assert copy.read_bytes() == TABLE.read_bytes()


def test_none_of_the_300_answers_wrongly_on_purpose(table: list[TaskFacts]) -> None:
    wrong = wrong_tasks(OVERRIDES)
    assert {facts.task for facts in table if facts.category == "Wrong Candidate Generation"} < wrong
    assert not [facts.task for facts in table if facts.medi and facts.task in wrong]
    assert "task068_abductivenli_incorrect_answer_generation" in choose(table), "the first choice had it"


def test_the_instruction_of_each_of_the_300_is_written_by_hand(table: list[TaskFacts]) -> None:
    overrides = load_overrides(OVERRIDES)
    for facts in table:
        if facts.medi:
            override = overrides[facts.task]
            assert override.domain and override.text_type and override.objective, facts.task
            assert override.objective != "-" != override.text_type, facts.task
            said = ["Represent", "the", *" ".join(override.fields.values()).split(), "for"]
            assert len(said) <= 22, facts.task


def test_the_300_are_even_over_the_categories(table: list[TaskFacts]) -> None:
    wrong = wrong_tasks(OVERRIDES)
    train = Counter(facts.category for facts in table if facts.split == "train" and facts.task not in wrong)
    chosen = Counter(facts.category for facts in table if facts.medi)
    assert set(chosen) == set(train)
    # 300 fill eight tasks of every category (or all it has) and leave nine over, for the nine biggest.
    even = {category: min(8, size) for category, size in train.items()}
    assert chosen == even | dict.fromkeys(sorted(train, key=lambda name: (-train[name], name))[:9], 9)


def test_another_seed_keeps_the_counts_and_changes_the_tasks(table: list[TaskFacts]) -> None:
    by_name = {facts.task: facts for facts in table}
    first, second = choose(table, seed=1), choose(table, seed=2)
    assert first != second
    count = [Counter(by_name[task].category for task in chosen) for chosen in (first, second)]
    assert count[0] == count[1]


def test_hash_order_is_that_of_another_blake2b() -> None:
    """`printf 7:task004_made_up | b2sum -l 64` gives 45d7...; next come task005, 698f..., and task003, 69e8...."""
    tasks = [_facts(number, "Sorting") for number in range(1, 7)]
    assert [choose(tasks, (), count, seed=7) for count in (1, 2, 3)] == [
        ["task004_made_up"],
        ["task004_made_up", "task005_made_up"],
        ["task003_made_up", "task004_made_up", "task005_made_up"],
    ]


def _facts(number: int, category: str, split: str = "train", language: str = "English") -> TaskFacts:
    known = next(name for name in SPLITS if name == split)
    return TaskFacts(
        f"task{number:03}_made_up", known, category, language, "English", "Letters", number % 3 * 500 or None, False
    )


@st.composite
def tables(draw: st.DrawFn) -> list[TaskFacts]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["", "A", "B", "C", "D"]),
                st.sampled_from(SPLITS),
                st.sampled_from(["English", "English, Farsi", "Farsi"]),
            ),
            max_size=40,
        )
    )
    return [_facts(number, *row) for number, row in enumerate(rows, 1)]


@given(tables(), st.data())
def test_choice_is_an_even_deal(tasks: list[TaskFacts], data: st.DataObject) -> None:
    eligible = {t.task: t.category for t in tasks if t.split == "train" and is_english(t) and t.category}
    count = data.draw(st.integers(0, len(eligible)))
    seed = data.draw(st.integers(0, 3))
    chosen = choose(tasks, (), count, seed)

    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(eligible)
    shuffled = list(tasks)
    random.Random(count).shuffle(shuffled)
    assert choose(shuffled, (), count, seed) == chosen
    if count:
        assert set(choose(tasks, (), count - 1, seed)) < set(chosen)

    sizes = Counter(eligible.values())
    got = {category: sum(eligible[task] == category for task in chosen) for category in sizes}
    most = max(got.values(), default=0)
    for category, dealt in got.items():
        assert dealt >= most - 1 or dealt == sizes[category], "left behind although it had tasks to give"


def test_asking_for_more_than_there_are_is_refused() -> None:
    tasks = [_facts(1, "A"), _facts(2, ""), _facts(3, "A", split="test"), _facts(4, "A", language="Farsi")]
    with pytest.raises(ContentError, match=r"cannot choose 2 .* 1 of 4 .* between 0 and 1"):
        choose(tasks, count=2)
    with pytest.raises(ContentError, match="cannot choose -1"):
        choose(tasks, count=-1)


@given(tables())
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, tasks: list[TaskFacts]) -> None:
    path = tmp_path_factory.mktemp("table") / "tasks.tsv"
    marked = [replace(facts, medi=facts.number % 2 == 0) for facts in tasks]
    save_tasks(path, reversed(marked))
    assert load_tasks(path) == marked


GOOD = "task001_a\ttrain\tQuestion Answering\tEnglish\tEnglish\tNews, Law\t6500\t1"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["task001_a\ttrain"], r":2: 2 cells, 8 are needed"),
        (
            [GOOD.replace("train", "trian")],
            r"split 'trian'; did you mean 'train'\?; allowed: train, test, excluded",
        ),
        ([GOOD[:-1] + "yes"], r"medi 'yes'; allowed: 0, 1"),
        ([GOOD.replace("6500", "6.5k")], r"rows '6.5k'; a number, or empty"),
        ([GOOD.replace("task001_a", "a")], r"task 'a' is not a name like"),
        ([GOOD, GOOD], r":3: task001_a stands in line 2 already"),
        ([GOOD, ""], r":3: 0 cells"),
        ([GOOD[:-1] + "2", GOOD.replace("train", "dev")], r"3 fault\(s\)"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    path = tmp_path / "tasks.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *rows, ""]), encoding="utf-8")
    with pytest.raises(ContentError, match=message):
        load_tasks(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("\t".join(COLUMNS).replace("domain", "domian"), r"unknown column 'domian'; did you mean 'domain'\?"),
        ("\t".join(COLUMNS[:-1]), r"the columns are, in this order: task, split"),
        ("", r"the columns are"),
    ],
)
def test_bad_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    path = tmp_path / "tasks.tsv"
    path.write_text(header, encoding="utf-8")
    with pytest.raises(ContentError, match=message):
        load_tasks(path)


def test_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="no such file"):
        load_tasks(tmp_path / "tasks.tsv")


def test_cells_with_quotes_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "tasks.tsv"
    path.write_text("\t".join(COLUMNS) + "\n" + GOOD.replace("News, Law", '"News') + "\n", encoding="utf-8")
    assert load_tasks(path)[0].domain == '"News'


def test_shared_card_makes_a_card_for_a_task() -> None:
    shared = yaml.safe_load((ROOT / "sources" / "super_ni.yaml").read_text(encoding="utf-8"))
    own = {"name": "super_ni/task001_a", "files": {"train": ("task001_a.json",)}}
    card = Card.model_validate({**shared, **own})
    assert card.download is not None and card.download.archive is not None
    assert card.download.archive.url.endswith(f"/{card.download.revision}.tar.gz")
    assert card.download.archive.members == f"natural-instructions-{card.download.revision}/tasks/"
    assert len(card.download.revision) == 40

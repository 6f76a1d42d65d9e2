import gzip
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.cards import Card
from medi_build.dataset.schema import EXAMPLES
from medi_build.errors import ContentError, InputError
from medi_build.ingest.adapt import ADAPTERS
from medi_build.ingest.adapters.base import MAX_CHARACTERS, Inputs
from medi_build.ledger import Ledger

FIXTURES = Path(__file__).parent.parent / "fixtures" / "pairs"
LABELLED = {"query": "s1", "positive": "s2", "label": "label", "positive_labels": ["1"], "negative_labels": ["0"]}
SCORED = {"query": "s1", "positive": "s2", "score": "score", "positive_min": 0.8, "negative_max": 0.2}


def card(**options: Any) -> Card:
    return Card.model_validate(
        {
            "name": "embedding_training_data/x",
            "description": "pairs",
            "options": {"adapter": "pairs", **options},
            "files": {"train": ["x.jsonl"]},
            "licence": {"spdx": "unconfirmed", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "similarity"},
        }
    )


def run(*paths: Path, **options: Any) -> tuple[list[dict[str, Any]], Ledger]:
    """Adapt files; the counts have to add up every time."""
    ledger = Ledger("embedding_training_data/x")
    adapted = ADAPTERS["pairs"](card(**options), Inputs(paths, {}, Path()), ledger)
    rows = pa.Table.from_batches(adapted.examples, EXAMPLES).to_pylist()
    assert ledger.adapted == len(rows)
    assert ledger.read == ledger.adapted + ledger.dropped_in("adapt")
    return rows, ledger


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def table(folder: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def texts(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[str]]]:
    return [(row["query"], row["positives"], row["negatives"]) for row in rows]


def dropped(ledger: Ledger) -> dict[str, int]:
    return dict(ledger.dropped.get("adapt", Counter()))


def test_pairs():
    path = FIXTURES / "ferry_pairs.jsonl"
    rows, ledger = run(path)
    assert len({row["id"] for row in rows}) == 3
    assert all(re.fullmatch("embedding_training_data/x/[0-9a-f]{16}", row["id"]) for row in rows)
    assert [(row["source_file"], row["source_row"]) for row in rows] == [("ferry_pairs.jsonl", n) for n in (1, 2, 3)]
    assert texts(rows)[2] == ("Is there a café on board?", ["Coffee and soup are sold on the upper deck."], [])
    assert dropped(ledger) == {"positive_equals_query": 1}
    assert ledger.places == {"adapt/positive_equals_query": [f"{path}:4"]}


def test_triplets():
    rows, _ = run(FIXTURES / "lighthouse_triplets.jsonl")
    assert texts(rows)[1] == (
        "Two gulls share a herring.",
        ["Birds are eating a fish."],
        ["Two gulls sleep on a roof."],
    )


def test_a_set_is_one_example_whose_members_share_a_group():
    rows, ledger = run(FIXTURES / "harbour_sets.jsonl")
    assert texts(rows) == [
        (
            "A red boat lies on the sand.",
            ["On the beach there is a red boat.", "A boat, painted red, rests on sand."],
            [],
        ),
        ("Children fish from the pier.", ["Some kids are fishing off a pier."], []),
    ]
    assert all(row["groups"] == [row["id"]] for row in rows)
    assert dropped(ledger) == {"set_too_small": 1}
    assert ledger.notes == {"set_member_removed": 1}


def test_a_negative_that_is_a_positive_is_removed():
    rows, ledger = run(FIXTURES / "baker_query_pos_neg.jsonl")
    assert rows[0]["positives"] == ["Rye dough rests for twelve hours.", "Leave the rye dough overnight."]
    assert rows[0]["negatives"] == ["Wheat dough rests for one hour."]
    assert rows[1]["negatives"] == []
    assert ledger.notes == {"given_negative_removed": 1}


def test_flag_embedding_keys_are_known_and_the_query_is_no_negative():
    rows, _ = run(FIXTURES / "kitchen_flag.jsonl")
    assert texts(rows) == [
        ("which pan for pancakes", ["A flat iron pan suits pancakes best."], ["A deep pot suits soup."])
    ]


def test_instruction_items_give_their_text():
    rows, _ = run(FIXTURES / "garden_instruct.jsonl")
    assert texts(rows) == [
        ("When are gooseberries ripe?", ["Gooseberries ripen in July."], ["Medlars are eaten after frost."])
    ]


def test_a_pretty_printed_document_is_one_row():
    rows, ledger = run(FIXTURES / "clock_prompt.json")
    assert ledger.read == 1
    assert texts(rows) == [
        ("who winds the town clock", ["The clock on the town hall is wound every Monday by the sexton."], [])
    ]


def test_the_file_is_told_below_the_common_folder_and_is_no_part_of_the_id(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write(tmp_path / "a", ["q", "p"])
    second = tmp_path / "b" / "rows.jsonl.gz"
    second.write_bytes(gzip.compress(first.read_bytes()))
    rows, _ = run(first, second)
    assert [row["source_file"] for row in rows] == ["a/rows.jsonl", "b/rows.jsonl.gz"]
    assert len({row["id"] for row in rows}) == 1


def test_forms_are_recognised_line_by_line_and_gzip_changes_nothing(tmp_path: Path):
    mixed = write(
        tmp_path,
        ["q1", "p1"],
        ["q2", "p2", "n2"],
        {"set": ["a", "b"]},
        {"query": "q3", "pos": "p3"},
        {"anchor": "q4", "positive": "p4", "negative": "n4"},
        name="plain.jsonl",
    )
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(mixed.read_bytes()))
    rows, ledger = run(mixed)
    assert [row["query"] for row in rows] == ["q1", "q2", "a", "q3", "q4"]
    assert run(packed)[0] == [row | {"source_file": "packed.jsonl.gz"} for row in rows]
    assert dropped(ledger) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["only one"], "unknown_form"),
        (["a", "b", "c", "d"], "unknown_form"),
        (["a", "b", 0.5], "unknown_form"),
        ([["i", "q"], "p"], "unknown_form"),
        ({"question": "q", "answer": "a"}, "unknown_form"),
        ({"query": "q", "doc": "p", "label": 0}, "unknown_form"),
        ({"query": None, "pos": ["p", "r"]}, "no_query"),
        ({"query": None, "pos": ["p", "r"], "neg": ["n"], "surprise": 1}, "no_query"),
        ([None, "p"], "no_query"),
        ([["i", None], ["i", "p"]], "no_query"),
        ({"query": float("nan"), "pos": ["p"]}, "wrong_type"),
        ({"query": "q", "pos": float("nan")}, "wrong_type"),
        ("text", "unknown_form"),
        (None, "unknown_form"),
        (["q", 5], "wrong_type"),
        ([5, "p"], "wrong_type"),
        (["", "p"], "empty_text"),
        (["q", " \n"], "empty_text"),
        (["q", "p" * (MAX_CHARACTERS + 1)], "too_long"),
        ({"query": "q", "pos": []}, "no_positive"),
        ({"query": "q", "pos": None}, "no_positive"),
        ({"query": "q", "pos": [1, ""]}, "wrong_type"),
        ({"query": "q", "pos": ["q", " q "]}, "positive_equals_query"),
        ({"set": []}, "set_too_small"),
        ({"set": [1, 2]}, "wrong_type"),
    ],
)
def test_bad_rows_are_dropped_under_a_reason_with_their_place(tmp_path: Path, row: Any, reason: str):
    path = write(tmp_path, ["q", "p"], row)
    rows, ledger = run(path)
    assert len(rows) == 1
    assert dropped(ledger) == {reason: 1}
    assert ledger.places == {f"adapt/{reason}": [f"{path}:2"]}


def test_known_columns_are_found_beside_others(tmp_path: Path):
    path = write(
        tmp_path,
        {"source": 1, "anchor": "q1", "positive": "p1", "negative_10": "n10", "negative_2": "n2", "scores": [1.0]},
        {"question": "q2", "pos": ["p2"], "neg": ["n1", "n2"], "source": float("nan")},
        {"query": "q3", "pos": "p3", "positive": "p4", "negative": None, "neg_1": "n"},
        {"set": ["a", "b"], "neg": ["n"], "source": "x"},
    )
    rows, ledger = run(path)
    assert texts(rows) == [
        ("q1", ["p1"], ["n2", "n10"]), ("q2", ["p2"], ["n1", "n2"]), ("q3", ["p3"], ["n"]), ("a", ["b"], [])
    ]  # fmt: skip
    assert ledger.notes == {"given_positive_column_ignored": 1, "given_negative_column_ignored": 1}


def test_given_negatives_beside_named_columns_are_kept_or_counted(tmp_path: Path):
    row = {"q": "q", "p": "p", "neg": ["n"], "bad": ["m"]}
    rows, ledger = run(write(tmp_path, row), query="q", positive="p")
    assert (texts(rows), ledger.notes) == ([("q", ["p"], ["n"])], {})
    rows, ledger = run(write(tmp_path, row), query="q", positive="p", negative="bad")
    assert (texts(rows), ledger.notes) == ([("q", ["p"], ["m"])], {"given_negative_column_ignored": 1})


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.parquet", "rows.jsonl"])
def test_tables_have_given_negatives_and_null_queries_like_lines(tmp_path: Path, name: str):
    columns = {
        "": [0, 1, 2],
        "query": ["q1", None, "q3"],
        "positive": ["p1", "p2", None],
        "negative_1": ["n1", "x", "y"],
    }
    frame = pl.DataFrame(columns)
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.rename({"": "__index_level_0__"}).write_parquet(path)
    elif name.endswith("jsonl"):
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if name.endswith("tsv") else ",")
    rows, ledger = run(path)
    assert texts(rows) == [("q1", ["p1"], ["n1"])]
    assert dropped(ledger) == {"no_query": 1, "no_positive": 1}


def test_scores_and_labels_of_a_csv_are_text(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("s1,s2,score\nq,p,0.9\nq,n,0.1\nq,x,high\nq,y,nan\n")
    rows, ledger = run(path, **SCORED)
    assert texts(rows) == [("q", ["p"], ["n"])]
    assert dropped(ledger) == {"used_as_negative": 1, "wrong_type": 2}


def test_broken_lines_are_dropped(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'["q", "p"]\n["q", \n\n["\\ud800", "p"]\n["caf\xe9", "p"]\n["q2", "p2"]')
    rows, ledger = run(path)
    assert [row["source_row"] for row in rows] == [1, 6]
    assert dropped(ledger) == {"invalid_json": 2, "invalid_unicode": 1}


@pytest.mark.parametrize("keep", [5, 40])
def test_truncated_gzip_names_the_file(tmp_path: Path, keep: int):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(os.urandom(100).hex().encode())[:keep])
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz.*fetch it again"):
        run(path)


def test_broken_documents_and_tables_name_the_file(tmp_path: Path):
    document = tmp_path / "rows.json"
    document.write_text('{\n  "query": "q",\n')
    with pytest.raises(InputError, match="not a JSON document"):
        run(document)
    parquet = tmp_path / "rows.parquet"
    parquet.write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match="Parquet"):
        run(parquet)
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "absent.jsonl")


def test_an_empty_file_has_no_rows(tmp_path: Path):
    rows, ledger = run(write(tmp_path))
    assert rows == []
    assert ledger.read == 0


def test_parquet_of_a_known_form(tmp_path: Path):
    path = table(tmp_path, anchor=["q1", "q2"], positive=["p1", None], negative=["n1", "n2"])
    rows, ledger = run(path)
    assert texts(rows) == [("q1", ["p1"], ["n1"])]
    assert dropped(ledger) == {"no_positive": 1}


def test_parquet_columns_from_the_card(tmp_path: Path):
    path = table(tmp_path, question=["q1"], answers=[["p1", "p2"]], views=[7])
    rows, _ = run(path, query="question", positive="answers")
    assert texts(rows) == [("q1", ["p1", "p2"], [])]
    with pytest.raises(InputError, match="question, answers, views"):
        run(path)
    with pytest.raises(InputError, match="question, answers, views"):
        run(path, query="question", positive="answer")


@pytest.mark.parametrize("as_type", [int, str, float])
@pytest.mark.parametrize("form", ["parquet", "json"])
def test_labelled_pairs(tmp_path: Path, form: str, as_type: type):
    labels = [as_type(label) for label in (0, 1, 2, 1, 0, 0)]
    columns = {
        "s1": ["q", "q", "q", "q", "alone", "q"],
        "s2": ["hard", "p1", "neutral", "p2", "x", "p1"],
        "label": ["0", "1", "2", "1", "0", "0"] if as_type is str else labels,
    }
    if form == "parquet":
        path = table(tmp_path, **columns)
    else:
        path = write(tmp_path, *(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)))
    rows, ledger = run(path, **LABELLED)
    assert texts(rows) == [("q", ["p1"], ["hard"]), ("q", ["p2"], ["hard", "p1"])]
    assert dropped(ledger) == {"used_as_negative": 2, "label_not_used": 1, "negative_without_positive": 1}


def test_scored_pairs(tmp_path: Path):
    path = table(
        tmp_path,
        s1=["q", "q", "q", "q", "r", "r", "r"],
        s2=["p", "mid", "low", "lost", "s", "r", ""],
        score=[0.8, 0.5, 0.2, None, 0.0, 1.0, 0.1],
    )
    rows, ledger = run(path, **SCORED)
    assert texts(rows) == [("q", ["p"], ["low"])]
    assert dropped(ledger) == {
        "score_in_between": 1,
        "used_as_negative": 1,
        "wrong_type": 1,
        "negative_without_positive": 1,
        "positive_equals_query": 1,
        "empty_text": 1,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"label": "label"},
        {"score": "score"},
        {"score": "score", "positive_min": 0.2, "negative_max": 0.2},
        {**LABELLED, **SCORED},
    ],
)
def test_contradicting_options_are_an_error_before_any_row(options: dict[str, Any], tmp_path: Path):
    with pytest.raises(ContentError, match="embedding_training_data/x"):
        ADAPTERS["pairs"](card(**options), Inputs((tmp_path / "absent",), {}, tmp_path), Ledger("x"))


_text = st.sampled_from(["a", "b", "c", " a ", "d e", "", "ü"])
_item = st.one_of(_text, st.none(), st.integers(0, 2))
_line = st.one_of(
    st.lists(_item, max_size=4),
    st.fixed_dictionaries({"set": st.lists(_item, max_size=4)}),
    st.fixed_dictionaries(
        {"query": _item, "pos": st.lists(_item, max_size=3)}, optional={"neg": st.lists(_item, max_size=3)}
    ),
)


@given(st.lists(_line, max_size=12), st.randoms(use_true_random=False))
def test_rows_are_clean_and_do_not_depend_on_each_other(tmp_path_factory, lines, random):
    folder = tmp_path_factory.mktemp("pairs")
    rows, ledger = run(write(folder, *lines))
    assert ledger.read == len(lines)
    for row in rows:
        assert row["positives"]
        known = [row["query"], *row["positives"]]
        assert len(set(known)) == len(known)
        assert not set(known) & set(row["negatives"])
        assert all(text == text.strip() != "" for text in known + row["negatives"])
    shuffled = list(lines)
    random.shuffle(shuffled)
    again, other = run(write(folder, *shuffled, name="shuffled.jsonl"))
    assert Counter(map(repr, texts(again))) == Counter(map(repr, texts(rows)))
    assert dropped(other) == dropped(ledger)


@given(st.lists(st.tuples(_text, _text, st.integers(0, 2)), max_size=15))
def test_labelled_pairs_agree_with_grouping_everything_in_memory(tmp_path_factory, pairs):
    path = write(tmp_path_factory.mktemp("labelled"), *({"s1": a, "s2": b, "label": label} for a, b, label in pairs))
    rows, _ = run(path, **LABELLED)
    clean = [(a.strip(), b.strip(), label) for a, b, label in pairs if a.strip() and b.strip()]
    hard = defaultdict(list)
    for a, b, label in clean:
        if label == 0 and b not in hard[a]:
            hard[a].append(b)
    expected = [(a, [b], [n for n in hard[a] if n not in (a, b)]) for a, b, label in clean if label == 1 and a != b]
    assert texts(rows) == expected


def _options(path: Path) -> dict[str, Any]:
    name = path.as_posix()
    if "all-nli/pair-class" in name:
        pairs = {"query": "premise", "positive": "hypothesis", "label": "label"}
        return {**pairs, "positive_labels": ["0"], "negative_labels": ["2"]}
    if "quora-duplicates" in name:
        return {**LABELLED, "query": "sentence1", "positive": "sentence2"}
    if "stsb" in name:
        return {**SCORED, "query": "sentence1", "positive": "sentence2"}
    return {}


@pytest.mark.slow
@pytest.mark.shared
def test_every_real_pair_file(shared_data: Path):
    files = [path for path in sorted((shared_data / "embedding_training_data").rglob("*")) if path.is_file()]
    assert len(files) > 30
    for path in files:
        rows, ledger = run(path, **_options(path))
        assert rows, path
        assert set(dropped(ledger)) <= {
            "positive_equals_query",
            "label_not_used",
            "score_in_between",
            "used_as_negative",
            "negative_without_positive",
            "set_too_small",
        }, path
        for row in rows:
            assert not {row["query"], *row["positives"]} & set(row["negatives"]), row["id"]
            assert row["query"] not in row["positives"], row["id"]

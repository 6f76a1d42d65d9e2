"""Rows of KILT's tasks become examples with passages of their pages, or are counted."""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.errors import ContentError
from medi_build.ingest.adapt import ADAPTERS
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger
from tests.ingest.kilt_files import FIXTURES, PAGES, card, run, write


def test_natural_questions(tmp_path: Path):
    examples, _, ledger = run(FIXTURES / "nq-dev-kilt.jsonl", tmp_path)
    assert [row["id"] for row in examples] == ["kilt/x/n1", "kilt/x/n2", "kilt/x/n3"]
    first, mail, wide = examples
    assert first["query"] == "who built the town hall of tarnby"
    assert first["positives"] == [  # two spans, one passage
        "Tarnby Tarnby is the only town of Lindholm. The town hall was built in 1871 by the carpenter Ole Brask. "
        "Most families live from herring and from painting fans."
    ]
    assert first["answers"] == ["Ole Brask", "the carpenter Ole Brask"]
    assert first["groups"] == ["102"]
    assert mail["positives"][0].startswith("Lindholm Island ")
    assert mail["positives"][0].endswith("a broad boat for nets; the heron, which carries the mail.")
    assert wide["positives"][0].startswith("Amber Sound The Amber Sound is a strait")
    assert ledger.dropped["adapt"] == {"page_missing": 2, "no_provenance": 1, "duplicate_id": 1}
    assert ledger.notes == {"provenance_page_missing": 2, "span_not_found": 1}


def test_all_pages_of_the_provenance_are_groups_and_multi_hop_gives_all_passages(tmp_path: Path):
    (row,), _, _ = run(FIXTURES / "hotpotqa-dev-kilt.jsonl", tmp_path)
    assert [text.split(" ")[0] for text in row["positives"]] == ["Tarnby", "Ole", "Lindholm"]
    assert row["groups"] == ["102", "103", "101", "777"]  # the last is not in the knowledge source
    assert row["answers"] == []  # "yes" is in any passage and in none


def test_refuting_evidence_is_a_positive(tmp_path: Path):
    rows, _, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path)
    assert rows[0]["query"] == "Ole Brask was a sailor."
    assert rows[0]["positives"][0].startswith("Ole Brask Ole Brask (1830–1902) was a carpenter")
    assert rows[0]["answers"] == rows[1]["answers"] == []


@pytest.mark.parametrize(
    ("task", "query", "answers"),
    [
        ("structured_zeroshot-dev-kilt", "Tarnby architect", ["Ole Brask"]),
        ("trex-dev-kilt", "Ole Brask place of birth", ["Tarnby", "Tarnby town"]),
        (
            "wow-dev-kilt",
            "I love paper crafts.\nOh, do you know painted fans?\nNo, tell me more!",
            ["They show scenes of the sea."],
        ),
        (
            "eli5-dev-kilt",
            "Why does the mail travel on sledges in winter?",
            ["Because the strait freezes, boats cannot cross it."],
        ),
        ("aidayago2-dev-kilt", "Visitors to [START_ENT] Tarnby [END_ENT] buy fans .", ["Tarnby"]),
        ("cweb-dev-kilt", "[START_ENT] Brask [END_ENT] built it", ["Ole Brask"]),
    ],
)
def test_other_tasks(tmp_path: Path, task: str, query: str, answers: list[str]):
    (row,), _, _ = run(FIXTURES / f"{task}.jsonl", tmp_path)
    assert row["query"] == query
    assert row["answers"] == answers
    assert len(row["positives"]) == 1


def test_trivia_questions_are_joined_by_id(tmp_path: Path):
    rows = FIXTURES / "triviaqa-dev_id-kilt.jsonl"
    (row,), _, ledger = run(rows, tmp_path, questions=(FIXTURES / "triviaqa_questions.json",))
    assert row["query"] == "Which strait freezes so hard that mail crosses it by sledge?"
    assert ledger.dropped["adapt"] == {"no_input": 1}
    as_lines = write(tmp_path / "questions.jsonl", {"QuestionId": "tq_2", "Question": "What do fans show?"})
    (row,), _, _ = run(rows, tmp_path, questions=(as_lines,))
    assert row["id"] == "kilt/x/tq_2"


def test_trivia_questions_of_the_hub_are_joined_whatever_the_order_of_its_columns(tmp_path: Path):
    rows = FIXTURES / "triviaqa-dev_id-kilt.jsonl"
    columns = {
        "question": ["What do fans show?"] * 2,
        "question_id": ["tq_2"] * 2,
        "answer": [{"value": "the wind"}] * 2,
    }
    for order in (["question", "question_id", "answer"], ["answer", "question_id", "question"]):
        path = tmp_path / "questions.parquet"
        pq.write_table(pa.table({name: columns[name] for name in order}), path)
        (row,), _, _ = run(rows, tmp_path, questions=(path,))
        assert (row["id"], row["query"]) == ("kilt/x/tq_2", "What do fans show?")


def test_the_context_of_a_mention_is_cut_around_it(tmp_path: Path):
    (row,), _, _ = run(FIXTURES / "wned-dev-kilt.jsonl", tmp_path)
    words = row["query"].split()
    assert len(words) == 128
    assert words.index("[START_ENT]") == 62
    assert "[START_ENT] the Sound [END_ENT]" in row["query"]


def test_a_mention_without_marks_and_a_test_row_are_dropped(tmp_path: Path):
    _, _, ledger = run(FIXTURES / "cweb-dev-kilt.jsonl", tmp_path)
    assert ledger.dropped["adapt"] == {"no_mention": 1}
    rows, _, ledger = run(FIXTURES / "nq-test_without_answers-kilt.jsonl", tmp_path)
    assert rows == []
    assert ledger.dropped["adapt"] == {"no_answer": 1}


def test_documents_are_passages_of_gold_pages_then_of_others(tmp_path: Path):
    _, documents, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path, other_documents=3)
    pages = [row["groups"][0] for row in documents]
    assert set(pages[:2]) == {"103", "106"}
    assert len(pages) == 2 + 3
    assert not {"103", "106"} & set(pages[2:])
    assert all(row["id"].startswith(f"{row['groups'][0]}-") for row in documents)
    assert len({row["id"] for row in documents}) == len(documents)
    _, none, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path, other_documents=0)
    assert none == documents[:2]


def test_gold_and_other_passages_have_one_form(tmp_path: Path):
    examples, documents, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path)
    assert {text for row in examples for text in row["positives"]} <= {row["text"] for row in documents}
    for row in documents:
        assert "::::" not in row["text"]
        assert not row["text"].endswith("\n")


def test_gzip_and_split_sources_change_nothing(tmp_path: Path):
    rows = FIXTURES / "nq-dev-kilt.jsonl"
    expected = run(rows, tmp_path / "cache")
    packed = tmp_path / "pages.json.gz"
    packed.write_bytes(gzip.compress(PAGES.read_bytes()))
    lines = PAGES.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl.gz"
    first.write_bytes(b"".join(lines[::2]))
    second.write_bytes(gzip.compress(b"\n".join(lines[1::2])))
    for pages in [(packed,), (first, second), (second, first), (PAGES, packed)]:
        again = run(rows, tmp_path / "cache", pages)
        assert again[:2] == expected[:2]
        assert again[2].to_dict() == expected[2].to_dict()


def test_the_options_of_another_adapter_are_an_error(tmp_path: Path):
    for adapter, other in [("kilt", "pairs"), ("pairs", "kilt")]:
        with pytest.raises(ContentError, match="kilt/x"):
            ADAPTERS[adapter](card(adapter=other), Inputs((), {}, tmp_path), Ledger("x"))


_PROVENANCE = [{"wikipedia_id": 102, "start_paragraph_id": "1", "end_paragraph_id": "1"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "wrong_type"),
        ({"input": "q", "output": [{"provenance": _PROVENANCE}]}, "wrong_type"),
        ({"id": 1, "input": "q", "output": {"answer": "a"}}, "wrong_type"),
        ({"id": 1, "input": "q", "output": []}, "no_answer"),
        ({"id": 1, "input": "q", "output": ["a"]}, "no_answer"),
        ({"id": 1, "input": "q", "output": [{"provenance": "p"}]}, "no_provenance"),
        ({"id": 1, "input": "q", "output": [{"provenance": [{"title": "no id"}]}]}, "no_provenance"),
        ({"id": 1, "output": [{"provenance": _PROVENANCE}]}, "no_input"),
        ({"id": 1, "input": 5, "output": [{"provenance": _PROVENANCE}]}, "wrong_type"),
        ({"id": 1, "input": " ", "output": [{"provenance": _PROVENANCE}]}, "empty_text"),
    ],
)
def test_bad_rows_are_dropped_under_a_reason_with_their_place(tmp_path: Path, row: Any, reason: str):
    good = {"id": 0, "input": "q", "output": [{"answer": None, "provenance": _PROVENANCE}]}
    path = write(tmp_path / "nq.jsonl", good, row)
    examples, _, ledger = run(path, tmp_path)
    assert [example["groups"] for example in examples] == [["102"]]
    assert ledger.dropped["adapt"] == {reason: 1}
    assert ledger.places == {f"adapt/{reason}": [f"{path}:2"]}


def test_broken_lines_are_dropped(tmp_path: Path):
    path = tmp_path / "nq.jsonl"
    path.write_bytes(b'{"id": 1,\n{"id": "\\ud800"}\n')
    _, _, ledger = run(path, tmp_path)
    assert ledger.dropped["adapt"] == {"invalid_json": 1, "invalid_unicode": 1}


_place = st.one_of(st.none(), st.integers(-1, 12), st.sampled_from(["1", "x"]), st.floats())
_entry = st.fixed_dictionaries(
    {"wikipedia_id": st.sampled_from(["101", "102", 103, "104", "107", "777", None])},
    optional=dict.fromkeys(("start_paragraph_id", "end_paragraph_id", "start_character", "end_character"), _place),
)
_output = st.fixed_dictionaries(
    {},
    optional={"answer": st.sampled_from(["a", " ", None, "Yes"]), "provenance": st.lists(_entry, max_size=3)},
)
_task_row = st.fixed_dictionaries(
    {"id": st.integers(0, 9), "output": st.lists(_output, max_size=3)},
    optional={"input": st.sampled_from(["q", "", None])},
)


@given(st.lists(_task_row, max_size=8))
def test_any_provenance_gives_passages_of_its_pages_or_a_counted_drop(tmp_path_factory, rows):
    cache = tmp_path_factory.getbasetemp() / "kilt-cache"
    path = write(tmp_path_factory.mktemp("kilt") / "nq.jsonl", *rows)
    examples, documents, ledger = run(path, cache, other_documents=0)
    assert ledger.read == len(rows)
    titles = {"101": "Lindholm Island", "102": "Tarnby", "103": "Ole Brask", "104": "Painted fan"}
    for row in examples:
        assert len(set(row["positives"])) == len(row["positives"]) > 0
        for text in row["positives"]:
            assert any(text.startswith(f"{titles.get(group, '?')} ") for group in row["groups"])
    assert {row["groups"][0] for row in documents} <= set(titles)


@pytest.mark.shared
def test_every_real_dev_file(shared_data: Path, tmp_path: Path):
    kilt = shared_data / "kilt"
    pages = (*sorted(kilt.glob("knowledge_pages*")), *sorted(kilt.glob("kilt_knowledgesource*")))
    for path in [*sorted(kilt.glob("hf_dummy/*.jsonl")), *sorted(kilt.glob("hotpotqa-*"))]:
        examples, documents, ledger = run(path, tmp_path, pages, other_documents=200)
        assert set(ledger.dropped.get("adapt", Counter())) <= {
            "page_missing",
            "no_provenance",
            "no_answer",
            "no_input",
        }
        lengths = [len(row["text"].split()) for row in documents]
        assert np.percentile(lengths, 99) <= 110
        for row in examples:
            assert 1 <= len(row["positives"]) <= 20
            assert row["query"] not in row["positives"]


@pytest.mark.shared
def test_every_covered_question_has_all_its_pages(shared_data: Path, tmp_path: Path):
    kilt = shared_data / "kilt"
    pages = tuple(kilt.glob("knowledge_pages.hotpot_abstracts*"))
    examples, documents, ledger = run(kilt / "hotpotqa-dev-kilt.covered.jsonl", tmp_path, pages)
    assert len(examples) == ledger.read == 233
    assert all(len(row["positives"]) >= 2 for row in examples)
    assert len({row["id"] for row in documents}) == len(documents)
    answered = sum(
        any(answer.casefold() in text.casefold() for text in row["positives"] for answer in row["answers"])
        for row in examples
        if row["answers"]
    )
    assert answered > 150  # the gold passages hold the answers

"""What is told of candidates is what happened to them, and telling it changes nothing; marks are honoured."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.explanations import LIFTED, MARKED, SKIPPED, SPARE, TAKEN, VERDICTS
from medi_build.dataset.marks import RECORD, Mark
from medi_build.files import text_digest
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.explain import explaining
from medi_build.mine.filters import EXPLAINED, FILTERS
from medi_build.mine.run import Encoders, Run
from tests.mine.conftest import documents, embed, examples

REJECTED = "false_negative_probability"
WORDS = ("fox", "box", "sea", "tea", "bee", "sky", "hen", "owl")
ROWS = [
    {
        "query": f"the red {one} of {two}",
        "positives": [f"a red {one} {two}"],
        "negatives": [f"the {two} of {one}"][: i % 2],
    }
    for i, (one, two) in enumerate((one, two) for one in WORDS for two in WORDS if one != two)
]
LABELLED = [{"query": f"{one} number {i}", "labels": [one], "answers": [one]} for one in WORDS[:4] for i in range(9)]


def run(tmp_path: Path, rows=ROWS, kind="pairs", explain=True, marks=(), symmetric=False, others=None, **knobs):
    """Mined rows by id, the ledger, and by id the candidates that were told of."""
    ledger = Ledger("toy", read=len(rows), adapted=len(rows))
    paths = tmp_path / "e.parquet", tmp_path / "t.parquet"

    def found(explainer):
        run = Run(MiningRule(**knobs), 3, ledger, marks=tuple(marks), explain=explainer)
        encoders = Encoders(embed, others or {})
        mined = mine(examples(rows), documents([]), kind=kind, encoders=encoders, run=run, symmetric=symmetric)
        table = [row for part in mined.tables() for row in part.to_pylist()]
        ledger.written = len(table)
        ledger.check()
        return {f"toy/{row['row']}": row for row in table}

    if not explain:
        return found(None), ledger, {}
    with explaining(paths, tmp_path) as (explainer, done):
        table = found(explainer)
    rows = [pq.read_metadata(path).num_rows for path in paths]
    assert [(file.path, file.rows) for file in done.files] == [("e.parquet", rows[0]), ("t.parquet", rows[1])]
    texts = {row["number"]: row["text"] for row in pq.read_table(paths[1]).to_pylist()}
    told = {}
    for row in pq.read_table(paths[0]).to_pylist():
        keys = ("candidate", "rank", "found_by", "verdict", "score", "guide_score", "false_negative_probability")
        told[row["id"]] = [
            dict(zip(keys, (texts[one[0]], *one[1:]), strict=True))
            for one in zip(*(row[key] for key in keys), strict=True)
        ]
    return table, ledger, told


def negatives(row) -> list[str]:
    return [row["neg"], *row["hard_negatives"]]


KNOBS = [
    {},
    {"num_negatives": 3},
    {"num_negatives": 2, "range_min": 4, "range_max": 30},
    {"preset": "positive-aware"},
    {"preset": "medi2", "num_negatives": 2},
    {"lexical": True, "num_negatives": 2},
    {"relative_margin": 0.9, "relax": True, "max_false_negative_probability": 0.9, "num_negatives": 2},
    {"min_score": 0.99, "relax": True, "num_negatives": 3},
    {"sampling_strategy": "random", "range_max": 12},
    {"guide": "other", "max_guide_score": 0.6},
]


@pytest.mark.parametrize("kind", ["pairs", "classification", "text2text"])
@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_what_is_told_is_what_was_taken_and_telling_changes_nothing(tmp_path: Path, knobs, kind) -> None:
    rows = ROWS if kind == "pairs" else LABELLED
    others = dict.fromkeys(MiningRule(**knobs).others, embed)
    plain, plain_ledger, _ = run(tmp_path, rows, kind, explain=False, others=others, **knobs)
    table, ledger, told = run(tmp_path, rows, kind, others=others, **knobs)
    assert str(table) == str(plain)  # NaN is not equal to itself
    assert ledger.to_dict() == plain_ledger.to_dict()
    assert table or knobs.get("relative_margin") or knobs.get("guide")
    for name, row in table.items():
        taken = [one for one in told[name] if one["verdict"] in (TAKEN, LIFTED)]
        assert sorted(one["candidate"] for one in taken) == sorted(negatives(row))
        assert {one["rank"] for one in taken} == {row["neg_rank"], *row["hard_negative_ranks"]}
        if not knobs:
            assert taken[0]["score"] == row["neg_score"]


def test_rejections_are_those_of_the_ledger(tmp_path: Path) -> None:
    _, ledger, told = run(tmp_path, relative_margin=0.1, max_length_ratio=1.5, max_score=0.9)
    counted = {
        one.name: sum(c["verdict"] == one.name for candidates in told.values() for c in candidates) for one in FILTERS
    }
    noted = {
        name.removeprefix("rejected_"): count for name, count in ledger.notes.items() if name.startswith("rejected_")
    }
    assert {name: count for name, count in counted.items() if count} == noted
    assert len(noted) >= 2, "a test of nothing"


def test_every_verdict_is_one_that_is_documented(tmp_path: Path) -> None:
    known = {*VERDICTS, *(one.name for one in FILTERS), "cross_encoder"}
    for knobs in KNOBS:
        _, _, told = run(tmp_path, others=dict.fromkeys(MiningRule(**knobs).others, embed), **knobs)
        assert {one["verdict"] for candidates in told.values() for one in candidates} <= known


def test_texts_that_were_drawn_are_told_of_and_so_are_those_that_a_filter_rejects(tmp_path: Path) -> None:
    _, ledger, told = run(tmp_path, relative_margin=0.9, relax=True)
    drawn = [[one for one in candidates if one["found_by"] == "random"] for candidates in told.values()]
    assert all(one["rank"] == -2 for candidates in drawn for one in candidates)
    taken = [one["verdict"] for candidates in drawn for one in candidates if one["verdict"] in (TAKEN, LIFTED)]
    assert len(taken) == ledger.notes["random_text_taken"] > 0
    assert taken.count(LIFTED) == ledger.notes["random_text_above_margin"] > 0


def test_a_filter_that_was_lifted_is_told_of(tmp_path: Path) -> None:
    _, ledger, told = run(tmp_path, max_false_negative_probability=1e-9, relax=True)
    lifted = [one for candidates in told.values() for one in candidates if one["verdict"] == LIFTED]
    assert len(lifted) == ledger.notes["least_likely_false_negative_taken"] > 0
    assert {one["found_by"] for one in lifted} <= {"given", "dense"}


def test_the_probability_by_which_a_candidate_was_rejected_is_told(tmp_path: Path) -> None:
    _, _, told = run(tmp_path, max_false_negative_probability=0.6)
    ranked = [one for candidates in told.values() for one in candidates if one["verdict"] in (TAKEN, SPARE, REJECTED)]
    assert {one["verdict"] == REJECTED for one in ranked} == {True, False}
    assert all((one["false_negative_probability"] > 0.6) == (one["verdict"] == REJECTED) for one in ranked)


def test_a_row_that_lost_all_its_candidates_is_told_of(tmp_path: Path) -> None:
    table, _, told = run(tmp_path, max_score=-0.9)
    assert not table
    assert len(told) == len(ROWS)
    assert {one["verdict"] for candidates in told.values() for one in candidates} == {"max_score"}


def test_what_the_window_skips_and_what_was_left_is_told(tmp_path: Path) -> None:
    table, _, told = run(tmp_path, range_min=3, range_max=50)
    for name in table:
        ranked = [one for one in told[name] if one["found_by"] != "given"]
        by_rank = {one["rank"]: one["verdict"] for one in ranked}
        assert [by_rank[rank] for rank in range(3)] == [SKIPPED] * 3
        assert set(by_rank.values()) <= {SKIPPED, TAKEN, SPARE}
        assert len(ranked) >= EXPLAINED


def test_who_found_a_candidate_is_told(tmp_path: Path) -> None:
    _, _, told = run(tmp_path, lexical=True)
    found = {one["found_by"] for candidates in told.values() for one in candidates}
    assert found <= {"given", "dense", "bm25", "dense+bm25"} and "dense+bm25" in found and "given" in found


def test_a_marked_negative_is_not_used_again_and_nothing_else_changes(tmp_path: Path) -> None:
    before, _, _ = run(tmp_path)
    name = next(one for one, row in before.items() if row["neg_rank"] == 0)
    mark = Mark(name, text_digest(before[name]["neg"]), text_digest(ROWS[int(name[4:])]["query"]))
    after, ledger, told = run(tmp_path, marks=[mark])
    assert after[name]["neg"] != before[name]["neg"]
    assert before[name]["neg_id"] in after[name]["possible_false_negative_ids"]
    assert [one["candidate"] for one in told[name] if one["verdict"] == MARKED] == [before[name]["neg"]]
    assert {one: after[one]["neg"] for one in after if one != name} == {
        one: before[one]["neg"] for one in before if one != name
    }
    assert (ledger.notes["marked_negatives"], ledger.notes["marks_without_effect"]) == (1, 0)


def test_the_score_of_a_marked_text_is_told_if_it_was_encoded_as_a_document(tmp_path: Path) -> None:
    before, _, _ = run(tmp_path)
    name = next(one for one, row in before.items() if row["neg_rank"] == 0)
    candidate, query = before[name]["neg"], ROWS[0]["query"]
    marks = [Mark(name, text_digest(text)) for text in (candidate, query)]
    _, _, told = run(tmp_path, marks=marks)
    scores = {one["candidate"]: one["score"] for one in told[name] if one["verdict"] == MARKED}
    assert scores == {candidate: before[name]["neg_score"], query: pytest.approx(math.nan, nan_ok=True)}


def test_a_marked_given_negative_is_dropped_and_counted(tmp_path: Path) -> None:
    before, _, _ = run(tmp_path)
    name = next(one for one, row in before.items() if row["neg_rank"] == -1)
    after, ledger, _ = run(tmp_path, marks=[Mark(name, text_digest(before[name]["neg"]))])
    assert after[name]["neg_rank"] == 0
    assert ledger.notes["rejected_given_is_marked"] == 1
    assert "rejected_given_is_positive_or_query" not in ledger.notes


def test_a_mark_finds_its_query_under_another_id(tmp_path: Path) -> None:
    before, _, _ = run(tmp_path)
    mark = Mark("toy/gone", text_digest(before["toy/4"]["neg"]), text_digest(ROWS[4]["query"]))
    after, ledger, _ = run(tmp_path, marks=[mark])
    assert after["toy/4"]["neg"] != before["toy/4"]["neg"] and not ledger.notes["marks_without_effect"]


def test_a_marked_record_is_left_out_by_id_or_by_its_texts(tmp_path: Path) -> None:
    texts = {"query": text_digest(ROWS[7]["query"]), "pos": text_digest(ROWS[7]["positives"][0])}
    before, _, _ = run(tmp_path)
    after, ledger, _ = run(tmp_path, marks=[Mark("toy/2", RECORD), Mark("toy/gone", RECORD, **texts)])
    assert set(before) - set(after) == {"toy/2", "toy/7"}
    assert ledger.dropped["mine"]["marked_record"] == 2
    assert {one: after[one]["neg"] for one in after} == {one: before[one]["neg"] for one in after}


def test_marks_find_their_texts_however_many_are_hashed_at_a_time(tmp_path: Path, monkeypatch) -> None:
    before, _, _ = run(tmp_path)
    marks = [Mark(name, text_digest(row["neg"])) for name, row in before.items()]
    expected, _, _ = run(tmp_path, marks=marks)
    monkeypatch.setattr("medi_build.mine.marks.TEXTS_AT_ONCE", 5)
    found, ledger, _ = run(tmp_path, marks=marks)
    assert str(found) == str(expected) and not ledger.notes["marks_without_effect"]


def test_marks_of_what_is_not_there_are_counted(tmp_path: Path) -> None:
    gone = text_digest("no such text")
    marks = [Mark("toy/1", gone), Mark("toy/x", RECORD), Mark("toy/y", gone, gone), Mark("toy/z", RECORD, gone, gone)]
    before, _, _ = run(tmp_path)
    after, ledger, _ = run(tmp_path, marks=marks)
    assert str(after) == str(before)
    assert ledger.notes["marks_without_effect"] == 4


@pytest.mark.parametrize("kind", ["classification", "text2text"])
def test_marks_are_honoured_where_labels_tell(tmp_path: Path, kind) -> None:
    before, _, _ = run(tmp_path, LABELLED, kind)
    name = next(iter(before))
    after, ledger, told = run(tmp_path, LABELLED, kind, marks=[Mark(name, text_digest(before[name]["neg"]))])
    assert after[name]["neg"] != before[name]["neg"] and after[name]["pos"] == before[name]["pos"]
    assert [one["candidate"] for one in told[name] if one["verdict"] == MARKED] == [before[name]["neg"]]
    assert {one: after[one]["neg"] for one in after if one != name} == {
        one: before[one]["neg"] for one in before if one != name
    }
    assert ledger.notes["marked_negatives"] == 1


def test_symmetric_sets_honour_marks(tmp_path: Path) -> None:
    before, _, _ = run(tmp_path, symmetric=True)
    name = next(one for one, row in before.items() if row["neg_rank"] == 0)
    after, _, _ = run(tmp_path, symmetric=True, marks=[Mark(name, text_digest(before[name]["neg"]))])
    assert after[name]["neg"] != before[name]["neg"]

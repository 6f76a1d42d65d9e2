"""The two rules of the paper against the plain version, and what must never happen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import MINED
from medi_build.ledger import Ledger
from medi_build.share import WHOLE, Split
from tests.mine import reference
from tests.mine.conftest import embed, examples, mined_table

WORDS = ["red fox", "red box", "blue fox", "blue sea", "green tea", "green sea", "a fox", "tea"]
PAPER = MiningRule(preset="paper")
SPLITS = [WHOLE, Split(map, 1), Split(map, 5)]

texts = st.sampled_from([f"{a} and {b}" for a in WORDS for b in WORDS[:3]])
labelled = st.fixed_dictionaries({"query": texts, "labels": st.lists(st.sampled_from("ABC"), max_size=2, unique=True)})
answered = st.fixed_dictionaries({"query": texts, "answers": st.lists(st.sampled_from(WORDS), max_size=2, unique=True)})


def run(rows, kind, rule=PAPER, seed=1, split=WHOLE):
    ledger = Ledger("toy", read=len(rows), adapted=len(rows))
    table = mined_table(examples(rows), None, kind=kind, rule=rule, embed=embed, seed=seed, ledger=ledger, split=split)
    assert table.schema == MINED
    ledger.written = table.num_rows
    ledger.check()
    return table, ledger


def check_against(expected, table, ledger):
    got = {row["row"]: (row["pos"], row["neg"]) for row in table.to_pylist()}
    assert got == {i: pair for i, pair in expected.items() if pair[1] is not None}
    assert list(got) == sorted(got)
    assert ledger.dropped.get("mine", {}).get("no_negative", 0) == sum(n is None for _, n in expected.values())


@settings(max_examples=60)
@given(st.lists(labelled, max_size=12), st.sampled_from(SPLITS))
def test_labels_equal_the_plain_version(rows, split):
    table, ledger = run(rows, "classification", split=split)
    check_against(reference.by_label(rows, embed), table, ledger)


@settings(max_examples=60)
@given(st.lists(answered, max_size=12), st.sampled_from(SPLITS))
def test_outputs_equal_the_plain_version(rows, split):
    table, ledger = run(rows, "text2text", split=split)
    check_against(reference.by_output(rows, embed), table, ledger)


def test_scores_ids_and_ranks_are_those_of_the_inputs():
    rows = [
        {"query": "a cat sat on a mat", "answers": ["cats sit"]},
        {"query": "a cat sat on the mat", "answers": ["cats sit down"]},
        {"query": "a cat sat in a hat", "answers": ["hats hold things"]},
    ]
    table, _ = run(rows, "text2text")
    row = table.to_pylist()[0]
    vectors = embed([r["query"] for r in rows]).vectors
    assert (row["pos_id"], row["neg_id"], row["neg_rank"], row["miner"]) == ("toy/1", "toy/2", 0, "output")
    assert row["pos_score"] == reference.cosine(vectors[0], vectors[1])
    assert row["neg_score"] == reference.cosine(vectors[0], vectors[2])


def test_rows_that_cannot_be_used_are_counted():
    rows = [
        {"query": "no label here"},
        {"query": "the only one of its kind", "labels": ["rare"]},
        {"query": "first of a kind", "labels": ["common"]},
        {"query": "second of a kind", "labels": ["common"]},
    ]
    table, ledger = run(rows, "classification")
    assert table["row"].to_pylist() == [2, 3]
    assert dict(ledger.dropped["mine"]) == {"no_label": 1, "no_positive": 1}


def test_several_negatives_are_the_next_best_and_shortage_is_counted():
    rows = [{"query": f"text number {i}", "labels": ["A" if i < 3 else "B"]} for i in range(5)]
    table, ledger = run(rows, "classification", MiningRule(preset="paper", num_negatives=3))
    first = table.to_pylist()[0]
    scores = [first["neg_score"], *first["hard_negative_scores"]]
    assert scores == sorted(scores, reverse=True)
    assert len(first["hard_negatives"]) == 1
    assert ledger.notes["fewer_negatives_than_asked"] == 3


def test_range_min_skips_the_best_and_random_picks_depend_on_the_seed_alone():
    rows = [{"query": f"text {i} {WORDS[i % 8]}", "labels": ["AB"[i % 2]]} for i in range(40)]
    top = run(rows, "classification", MiningRule(num_negatives=3))[0].to_pylist()
    skipped = run(rows, "classification", MiningRule(range_min=2))[0].to_pylist()
    assert [row["hard_negatives"][1] for row in top] == [row["neg"] for row in skipped]
    assert {row["neg_rank"] for row in skipped} == {2}
    random = MiningRule(sampling_strategy="random", range_max=10)
    a, b, c = (run(rows, "classification", random, seed)[0] for seed in (1, 1, 2))
    assert a.equals(b)
    assert not a.equals(c)
    assert len({row["neg_rank"] for row in a.to_pylist()}) > 5


def test_length_ratio_rejects_and_counts():
    rows = [
        {"query": "a short text", "labels": ["A"]},
        {"query": "a short note", "labels": ["A"]},
        {"query": "a short text " * 20, "labels": ["B"]},
        {"query": "quite another", "labels": ["B"]},
    ]
    table, ledger = run(rows, "classification", MiningRule(max_length_ratio=3.0))
    assert table.to_pylist()[0]["neg"] == "quite another"
    assert ledger.notes["rejected_length"] > 0


@pytest.mark.parametrize("kind", ["classification", "text2text"])
def test_knobs_that_have_no_effect_here_are_named(kind):
    rows = [{"query": f"text {i} {WORDS[i % 8]}", "labels": ["AB"[i % 2]], "answers": ["AB"[i % 2]]} for i in range(20)]
    plain, quiet = run(rows, kind, MiningRule(num_negatives=2, range_min=1, max_length_ratio=2.0))
    assert not [note for note in quiet.notes if note.startswith("no_effect")]
    ignored = {"cross_encoder": "no/such-model", "cross_encoder_scores": True, "max_score": 0.0, "lexical": True}
    table, ledger = run(rows, kind, MiningRule(num_negatives=2, range_min=1, max_length_ratio=2.0, **ignored))
    assert table.equals(plain)
    assert {note for note in ledger.notes if note.startswith("no_effect")} == {f"no_effect_{knob}" for knob in ignored}
    _, ledger = run(rows, kind, MiningRule(preset="positive-aware"))
    assert ledger.notes["no_effect_relative_margin"] == 1
    _, ledger = run(rows, kind, MiningRule(preset="positive-aware", relative_margin=None))
    assert "no_effect_relative_margin" not in ledger.notes
    assert ledger.notes["no_effect_near_duplicate"] == 1


@pytest.mark.parametrize("kind", ["classification", "text2text"])
def test_both_sides_are_encoded_under_their_own_instructions(kind):
    rows = [{"query": f"text {i}", "labels": ["AB"[i % 2]], "answers": ["AB"[i % 2]]} for i in range(6)]
    for instructions, wanted in (
        (("Q: ", "D: "), {("Q: ", "query"), ("D: ", "query")}),
        (("Q: ", None), {("Q: ", "query")}),
    ):
        seen = set()

        def spy(texts, instruction=None, side=None, seen=seen):
            if texts[0].startswith("text"):
                seen.add((instruction, side))
            return embed(texts, instruction)

        options = {"rule": PAPER, "embed": spy, "instructions": instructions, "seed": 0, "ledger": Ledger("toy")}
        mined_table(examples(rows), None, kind=kind, **options)
        assert seen == wanted


def test_nothing_in_nothing_out():
    for kind in ("classification", "text2text", "pairs"):
        assert run([], kind)[0].num_rows == 0


def test_many_labels_need_several_words():
    rows = [{"query": f"text {i}", "labels": [str(i % 100)]} for i in range(300)]
    table, _ = run(rows, "classification")
    label = np.arange(300) % 100
    number = {f"text {i}": i for i in range(300)}
    assert table.num_rows == 300
    for row in table.to_pylist():
        assert label[number[row["pos"]]] == label[row["row"]] != label[number[row["neg"]]]

"""Pairs against the plain version, and the faults known from other miners, each as a test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.embedding import Embedded
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from tests.mine import reference
from tests.mine.conftest import documents, embed, examples, mined_table, text_id

WORDS = ["red fox", "red box", "blue fox", "blue sea", "green tea", "green sea", "a fox", "tea", "red sea"]
TEXT = st.sampled_from(WORDS)
GROUPS = st.lists(st.sampled_from("PQR"), max_size=2, unique=True)
ROW = st.fixed_dictionaries(
    {
        "query": TEXT,
        "positives": st.lists(TEXT, max_size=3, unique=True),
        "negatives": st.lists(TEXT, max_size=2, unique=True),
        "groups": GROUPS,
    }
)
DOCUMENT = st.tuples(st.uuids().map(str), TEXT, GROUPS)


def run(rows, docs=(), rule=None, seed=1, **options):
    ledger = Ledger("toy", read=len(rows), adapted=len(rows))
    table = mined_table(
        examples(rows),
        documents(list(docs)),
        kind="pairs",
        rule=rule or MiningRule(),
        embed=embed,
        seed=seed,
        ledger=ledger,
        **options,
    )
    ledger.written = table.num_rows
    ledger.check()
    return table.to_pylist(), ledger


@pytest.mark.slow
@settings(max_examples=150)
@given(
    rows=st.lists(ROW, max_size=8),
    docs=st.lists(DOCUMENT, max_size=5),
    symmetric=st.booleans(),
    count=st.integers(1, 4),
)
def test_negatives_equal_the_plain_version(rows, docs, symmetric, count):
    got, _ = run(rows, docs, MiningRule(num_negatives=count), symmetric=symmetric)
    by_row = {row["row"]: row for row in got}
    for i, row in enumerate(rows):
        usable = [p for p in row["positives"] if p != row["query"]]
        expected = reference.negatives_of(row, rows, docs, embed, symmetric, count)
        if not usable or not expected:
            assert i not in by_row
            continue
        assert by_row[i]["pos"] in usable
        assert [by_row[i]["neg"], *by_row[i]["hard_negatives"]] == expected
        assert (by_row[i]["miner"] == "given") == (by_row[i]["neg_rank"] == -1)


@settings(max_examples=60)
@given(
    rows=st.lists(ROW, max_size=10),
    docs=st.lists(DOCUMENT, max_size=5),
    seed=st.integers(0, 9),
    lexical=st.booleans(),
    others=st.sampled_from([{}, {"encoders": ("other",)}]),
)
def test_a_negative_is_never_the_query_or_any_positive_of_that_query(rows, docs, seed, lexical, others):
    rule = MiningRule(num_negatives=5, sampling_strategy="random", lexical=lexical, **others)
    got, _ = run(rows, docs, rule, seed=seed, others={"other": embed})
    positives = {}
    for row in rows:
        positives.setdefault(row["query"], set()).update(row["positives"])
    for row in got:
        query = rows[row["row"]]["query"]
        for negative in [row["neg"], *row["hard_negatives"]]:
            assert negative != query
            assert negative not in positives[query]


def test_positives_of_the_same_query_in_another_row_are_excluded():
    rows = [
        {"query": "what is tea", "positives": ["tea is a drink"]},
        {"query": "what is tea", "positives": ["tea is a plant"]},
        {"query": "what is a fox", "positives": ["a fox is an animal"]},
    ]
    got, _ = run(rows)
    assert [row["neg"] for row in got[:2]] == ["a fox is an animal"] * 2


def test_rows_of_one_query_keep_what_is_theirs():
    rows = [
        {"query": "what is tea", "positives": ["tea is a drink"], "negatives": ["teak"]},
        {"query": "what is tea", "positives": ["tea is a plant"], "negatives": ["a tee", "a team"]},
        {"query": "what is tea", "positives": ["tea is a leaf"]},
        {"query": "what is a fox", "positives": ["a fox is an animal"]},
    ]
    got, _ = run(rows, rule=MiningRule(num_negatives=2))
    assert [(row["pos"], [row["neg"], *row["hard_negatives"]]) for row in got[:3]] == [
        ("tea is a drink", ["teak", "a fox is an animal"]),
        ("tea is a plant", ["a tee", "a team"]),
        ("tea is a leaf", ["a fox is an animal"]),
    ]


def test_supplied_negatives_come_first_and_keep_their_place():
    rows = [
        {"query": "what is tea", "positives": ["tea is a drink"], "negatives": ["what is tea made of", "teak"]},
        {"query": "what is a fox", "positives": ["a fox is an animal"]},
    ]
    got, _ = run(rows, rule=MiningRule(num_negatives=3))
    assert got[0]["neg"] == "what is tea made of"
    assert got[0]["hard_negatives"] == ["teak", "a fox is an animal"]
    assert got[0]["hard_negative_ranks"] == [-1, 0]
    assert (got[0]["neg_id"], got[0]["miner"]) == (text_id(got[0]["neg"]), "given")
    assert got[0]["neg_score"] == pytest.approx(
        reference.cosine(*embed(["what is tea", "what is tea made of"]).vectors)
    )


def test_a_supplied_negative_that_is_a_positive_is_rejected_and_counted():
    rows = [
        {"query": "what is tea", "positives": ["tea is a drink"], "negatives": ["tea is a plant", "what is tea"]},
        {"query": "what is tea", "positives": ["tea is a plant"]},
        {"query": "what is a fox", "positives": ["a fox is an animal"]},
    ]
    got, ledger = run(rows)
    assert got[0]["neg"] == "a fox is an animal"
    assert ledger.notes["rejected_given_is_positive_or_query"] == 2


def test_no_random_filler_where_nothing_is_left():
    rows = [{"query": "what is tea", "positives": ["tea is a drink"]}]
    got, ledger = run(rows)
    assert got == []
    assert dict(ledger.dropped["mine"]) == {"no_negative": 1}


def test_other_passages_of_the_gold_page_are_excluded():
    docs = [("page-1/0", "tea is a hot drink", ["1"]), ("page-2/0", "tea towel", ["2"])]
    rows = [{"query": "what is tea", "positives": ["tea is a drink"], "groups": ["1"]}]
    got, _ = run(rows, docs)
    assert (got[0]["neg"], got[0]["neg_id"]) == ("tea towel", "page-2/0")


def test_same_answer_bars_only_where_asked():
    rows = [
        {"query": "who wrote it", "positives": ["Ada wrote the first part"], "answers": ["Ada"]},
        {"query": "who wrote that", "positives": ["Ada wrote the second part"], "answers": ["Ada"]},
        {"query": "who sang it", "positives": ["it was sung by Bo"], "answers": ["Bo"]},
    ]
    assert run(rows)[0][0]["neg"] == "Ada wrote the second part"
    assert run(rows, rule=MiningRule(same_answer=True))[0][0]["neg"] == "it was sung by Bo"


def test_symmetric_sets_offer_queries_but_never_a_fellow_member():
    rows = [
        {"query": "how to boil eggs", "positives": ["how do I boil eggs"]},
        {"query": "how do I boil eggs", "positives": ["boiling eggs, how"]},
        {"query": "how to boil water", "positives": ["boiling water"]},
    ]
    got, _ = run(rows, symmetric=True)
    assert got[0]["neg"] == "how to boil water"
    assert run(rows, symmetric=False)[0][0]["neg"] != "how to boil water"


def test_the_positive_is_drawn_by_id_and_seed_not_by_place():
    rows = [{"query": f"query {i}", "positives": [f"{c} {i}" for c in "abc"]} for i in range(60)]
    first, _ = run(rows)
    again, _ = run(rows)
    other, _ = run(rows, seed=2)
    assert first == again
    assert [r["pos"] for r in first] != [r["pos"] for r in other]
    assert {r["pos"][0] for r in first} == set("abc")
    reordered = [dict(row, id=f"toy/{i}") for i, row in enumerate(rows)][::-1]
    assert {r["pos"] for r in run(reordered)[0]} == {r["pos"] for r in first}


def test_positive_equal_to_the_query_is_not_used():
    rows = [
        {"query": "tea", "positives": ["tea"]},
        {"query": "fox", "positives": ["fox", "red fox"]},
        {"query": "sea"},
    ]
    got, ledger = run(rows, [("d", "another text", [])])
    assert [(row["row"], row["pos"], row["pos_id"]) for row in got] == [(1, "red fox", text_id("red fox"))]
    assert dict(ledger.dropped["mine"]) == {"no_positive": 1, "positive_equals_query": 1}


def test_instructions_go_to_the_encoder_only():
    rows = [{"query": "what is tea", "positives": ["tea is a drink"]}, {"query": "fox", "positives": ["an animal"]}]
    seen = []

    def spy(texts, instruction=None, side=None):
        seen.append((instruction, list(texts)))
        return embed(texts, instruction)

    table = mined_table(
        examples(rows),
        None,
        kind="pairs",
        rule=MiningRule(),
        embed=spy,
        instructions=("Q: ", "D: "),
        seed=0,
        ledger=Ledger("toy"),
    )
    assert seen == [("Q: ", ["what is tea", "fox"]), ("D: ", ["tea is a drink", "an animal"])]
    assert table["neg"].to_pylist() == ["an animal", "tea is a drink"]


def test_unusable_vectors_and_margins_are_refused():
    rows = [{"query": "tea", "positives": ["a drink"]}, {"query": "fox", "positives": ["an animal"]}]

    def broken(texts, instruction=None, side=None):
        return Embedded(np.full((len(texts), 4), np.nan, dtype=np.float16), 0)

    with pytest.raises(MiningError, match=r"the encoder gave NaN or infinity for 'tea' \(and 1 more nearby\)"):
        mined_table(examples(rows), None, kind="pairs", rule=MiningRule(), embed=broken, seed=0, ledger=Ledger("t"))

    def wide(texts, instruction=None, side=None):
        return Embedded(embed(texts).vectors.astype(np.float32), 0)

    with pytest.raises(MiningError, match=r"float32 vectors .* one float16 vector per text"):
        mined_table(examples(rows), None, kind="pairs", rule=MiningRule(), embed=wide, seed=0, ledger=Ledger("t"))
    with pytest.raises(ValueError, match="less than 1"):
        MiningRule(relative_margin=1.5)


def test_truncated_texts_are_counted(ledger):
    rows = [{"query": "tea", "positives": ["a drink"]}, {"query": "fox", "positives": ["an animal"]}]

    def short(texts, instruction=None, side=None):
        return Embedded(embed(texts).vectors, len(texts), 1)

    mined_table(examples(rows), None, kind="pairs", rule=MiningRule(), embed=short, seed=0, ledger=ledger)
    assert (ledger.notes["truncated_texts"], ledger.notes["unaligned_instructions"]) == (4, 2)

"""Each filter against its definition, on arrays and through the whole of mining."""

import os
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.embedding import Embedded
from medi_build.errors import EncoderError, MiningError
from medi_build.ledger import Ledger
from medi_build.mine import false_negatives, filters, likeness
from medi_build.mine.select import Candidates, pick, repeated
from tests.conftest import ROOT
from tests.mine.conftest import documents, embed, examples, mined_table, text_id
from tests.mine.test_cross_encoder import save_cross_encoder
from tests.search.test_dense import unit


def run(rows, rule, docs=(), **options):
    ledger = Ledger("toy", read=len(rows), adapted=len(rows))
    table = mined_table(
        examples(rows),
        documents(list(docs)),
        kind="pairs",
        rule=rule,
        embed=options.pop("embed", embed),
        seed=3,
        ledger=ledger,
        **options,
    )
    ledger.written = table.num_rows
    ledger.check()
    return table.to_pylist(), ledger


def angles(degrees):
    """An encoder that puts each text ``name@degrees`` at that angle, so that cosines are known."""

    def at(texts, instruction=None, side=None):
        turn = np.radians([float(text.split("@")[1]) for text in texts])
        return Embedded(np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float16), 0)

    return at


def names(row):
    return [text.split("@")[0] for text in [row["neg"], *row["hard_negatives"]]]


CIRCLE = [(f"d{i}", f"n{i}@{angle}", []) for i, angle in enumerate((5, 15, 25, 35, 60, 85))]
QUERY = {"query": "q@0", "positives": ["p@20"]}


@pytest.mark.parametrize(
    ("knobs", "left", "reason", "count"),
    [
        ({}, ["n0", "n1", "n2", "n3", "n4", "n5"], None, 0),
        ({"relative_margin": 0.0}, ["n2", "n3", "n4", "n5"], "margin", 2),
        ({"relative_margin": 0.05}, ["n3", "n4", "n5"], "margin", 3),
        ({"absolute_margin": 0.3}, ["n4", "n5"], "margin", 4),
        ({"max_score": 0.9}, ["n3", "n4", "n5"], "max_score", 3),
        ({"max_score_quantile": 1.0}, ["n2", "n3", "n4", "n5"], "max_score", 2),
        ({"min_score": 0.5}, ["n0", "n1", "n2", "n3", "n4"], "min_score", 1),
        ({"min_score": 0.5, "max_score": 0.9}, ["n3", "n4"], "min_score", 1),
        ({"near_duplicate": 0.99}, ["n0", "n3", "n4", "n5"], "near_duplicate", 2),
        ({"range_min": 2}, ["n2", "n3", "n4", "n5"], None, 0),
        ({"range_min": 2, "range_max": 12, "relative_margin": 0.05}, ["n3", "n4", "n5"], "margin", 1),
        ({"range_max": 10, "num_negatives": 2}, ["n0", "n1"], None, 0),
    ],
)
def test_knobs_on_a_circle(knobs, left, reason, count):
    rule = MiningRule(**{"num_negatives": 10, **knobs})
    got, ledger = run([QUERY], rule, CIRCLE, embed=angles(0))
    assert names(got[0]) == left
    if reason:
        assert ledger.notes[f"rejected_{reason}"] == count


def test_range_min_is_applied_before_the_filters():
    """Skipping after filtering would throw away n3, the hardest that the margin leaves."""
    rule = MiningRule(num_negatives=1, range_min=1, relative_margin=0.05)
    got, _ = run([QUERY], rule, CIRCLE, embed=angles(0))
    assert names(got[0]) == ["n3"]


def test_the_margin_is_measured_from_the_lowest_positive_of_the_query():
    rows = [{"query": "q@0", "positives": ["p@20", "far@50"]}, {"query": "q@0", "positives": ["p@20"]}]
    got, _ = run(rows, MiningRule(num_negatives=10, relative_margin=0.05), CIRCLE, embed=angles(0))
    assert [names(row) for row in got] == [["n4", "n5"], ["n4", "n5"]]


def test_margin_of_a_negative_positive_score():
    scores = np.array([[-0.5, -0.52, -0.54]], dtype=np.float32)
    bad = filters.above_margin(scores, np.array([-0.5], dtype=np.float32), 0.05, None)
    assert bad.tolist() == [[True, True, False]]


def test_given_negatives_pass_the_margin_too():
    rows = [{**QUERY, "negatives": ["given-near@10", "given-far@70"]}]
    got, ledger = run(rows, MiningRule(num_negatives=2, relative_margin=0.05), CIRCLE, embed=angles(0))
    assert names(got[0]) == ["given-far", "n3"]
    assert ledger.notes["rejected_margin"] == 4


def test_verified_negatives_pass_every_filter_and_come_first():
    rows = [{**QUERY, "negatives": ["given-near@10", "given-far@89"]}]
    rule = MiningRule(num_negatives=3, relative_margin=0.05, near_duplicate=0.9, max_score=0.9, max_length_ratio=2.5)
    got, ledger = run(rows, rule, CIRCLE, embed=angles(0), verified_negatives=True)
    assert names(got[0]) == ["given-near", "given-far", "n4"]
    _, mined_alone = run([QUERY], rule, CIRCLE, embed=angles(0))
    rejected = [{k: v for k, v in book.notes.items() if "rejected" in k} for book in (ledger, mined_alone)]
    assert rejected[0] == rejected[1] != {}


def test_no_verification_saves_a_negative_that_is_a_positive():
    rows = [{**QUERY, "negatives": ["p@20"]}]
    got, ledger = run(rows, MiningRule(), CIRCLE, embed=angles(0), verified_negatives=True)
    assert names(got[0]) == ["n0"]
    assert ledger.notes["rejected_given_is_positive_or_query"] == 1


def test_too_few_left_is_counted_and_none_left_is_dropped():
    rows = [QUERY, {"query": "other@0", "positives": ["low@84"]}]
    got, ledger = run(rows, MiningRule(num_negatives=4, relative_margin=0.05), CIRCLE, embed=angles(0))
    assert [row["row"] for row in got] == [0, 1]
    assert ledger.notes["fewer_negatives_than_asked"] == 1
    got, ledger = run([QUERY], MiningRule(max_score=0.01), CIRCLE, embed=angles(0))
    assert got == []
    assert ledger.dropped["mine"]["no_negative"] == 1


def test_the_lowest_score_is_calibrated_on_random_pairs():
    docs = [(f"d{i}", f"n{i}@{angle}", []) for i, angle in enumerate([30, *range(80, 100, 1)])]
    got, ledger = run([QUERY], MiningRule(num_negatives=30, min_score_quantile=0.9), docs, embed=angles(0))
    assert 1 <= len(names(got[0])) <= 5
    assert ledger.notes["rejected_min_score"] >= 15


def test_of_the_two_lowest_scores_the_higher_holds():
    """Random pairs score cos 40 and cos 70 degrees: 0.77 and 0.34."""
    docs = [(f"d{i}", f"n{i}@{angle}", []) for i, angle in enumerate((40, 70))]
    row = {"query": "q@0", "positives": ["p@70"]}
    for knobs, left in (
        ({"min_score": 0.3}, ["n0", "n1"]),
        ({"min_score_quantile": 0.9}, ["n0"]),
        ({"min_score": 0.3, "min_score_quantile": 0.9}, ["n0"]),
        ({"min_score": 0.7, "min_score_quantile": 0.0}, ["n0"]),
        ({"min_score": 0.8, "min_score_quantile": 0.0}, []),
    ):
        got, _ = run([row], MiningRule(num_negatives=2, **knobs), docs, embed=angles(0))
        assert [name for found in got for name in names(found)] == left, knobs


def test_a_lowest_score_above_the_highest_is_an_error():
    with pytest.raises(ValueError, match=r"min_score 0\.8 is above max_score 0\.2"):
        MiningRule(min_score=0.8, max_score=0.2)


def test_a_fully_excluded_set_has_no_calibration_and_says_so():
    rows = [QUERY, {**QUERY, "positives": ["other@70"]}]
    got, ledger = run(rows, MiningRule(min_score_quantile=0.9), embed=angles(0))
    assert got == []
    assert ledger.notes["min_score_not_calibrated"] == 1
    assert ledger.dropped["mine"]["no_negative"] == 2


def test_length_ratio():
    docs = [("a", "a passage that is about as long as it should be", []), ("b", "short", []), ("c", "long " * 90, [])]
    rows = [{"query": "a short query", "positives": ["a passage that is as long as a passage is"]}]
    got, ledger = run(rows, MiningRule(num_negatives=3, max_length_ratio=3.0), docs)
    assert got[0]["neg_id"] == "a"
    assert ledger.notes["rejected_length"] == 2


def test_answer_strings_are_found_as_whole_words():
    docs = [
        ("in", "The tower was built by GUSTAVE  Eiffel, they say", []),
        ("part", "The tower was built by Eiffelson", []),
        ("none", "The tower was built", []),
    ]
    rows = [
        {"query": "who built the tower", "positives": ["its builder"], "answers": ["Ada", "gustave eiffel", "Eiffel"]}
    ]
    got, ledger = run(rows, MiningRule(num_negatives=3, reject_answer=True), docs)
    assert {got[0]["neg_id"], "part" if got[0]["neg_id"] == "none" else "none"} == {"part", "none"}
    assert len(got[0]["hard_negatives"]) == 1
    assert ledger.notes["rejected_answer_in_passage"] == 1


@settings(max_examples=100)
@given(st.text("aB ,.-é1", max_size=12), st.text("aB ,é1", max_size=4))
def test_answer_in_passage_equals_the_plain_version(passage, answer):
    def words(text):
        return re.findall(r"\w+", text.lower())

    has, wanted = words(passage), words(answer)
    expected = bool(wanted) and any(has[i : i + len(wanted)] == wanted for i in range(len(has)))
    got = filters.with_answer(filters.normalized(pl.Series([passage])), filters.normalized(pl.Series([answer])))
    assert got.tolist() == [expected]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cells", [0, likeness.MOST_CELLS])
def test_nearest_positive_equals_the_plain_version(monkeypatch, cells, weighted):
    monkeypatch.setattr(likeness, "MOST_CELLS", cells)
    monkeypatch.setattr(likeness, "ROWS_AT_ONCE", 4)
    rng = np.random.default_rng(1)
    corpus = unit(rng, 20)
    ids = np.where(rng.random((6, 5)) < 0.2, -1, rng.integers(0, 20, (6, 5)))
    positives = np.where(rng.random((6, 3)) < 0.4, -1, rng.integers(0, 20, (6, 3)))
    weights = rng.random((6, 3), dtype=np.float32) if weighted else None
    exact = corpus.astype(np.float64) @ corpus.astype(np.float64).T
    got = likeness.nearest_positive(corpus, ids, positives, weights)
    known = likeness.Likeness(corpus, np.unique(positives[positives >= 0]))
    np.testing.assert_array_equal(known.nearest(ids, positives, weights), got)
    for row, column in np.ndindex(ids.shape):
        related = [
            exact[ids[row, column], p] * (weights[row, place] if weighted else 1)
            for place, p in enumerate(positives[row])
            if p >= 0 and ids[row, column] >= 0
        ]
        assert got[row, column] == np.float32(max(related, default=-np.inf))


def test_the_guide_can_veto_and_has_to_be_there():
    def guide(texts, instruction=None, side=None):
        turn = np.radians([0.0 if text.startswith(("q", "n0", "n3")) else 90.0 for text in texts])
        return Embedded(np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float16), 0)

    rule = MiningRule(num_negatives=10, guide="some/guide", max_guide_score=0.9)
    got, ledger = run([QUERY], rule, CIRCLE, embed=angles(0), others={"some/guide": guide})
    assert names(got[0]) == ["n1", "n2", "n4", "n5"]
    assert ledger.notes["rejected_guide"] == 2
    with pytest.raises(MiningError, match="some/guide"):
        run([QUERY], rule, CIRCLE, embed=angles(0))


def test_consistency_drops_rows_whose_positive_ranks_low_among_random_texts():
    rows = [
        {"query": "near@0", "positives": ["its-own@1"]},
        {"query": "lost@0", "positives": ["far-away@170"]},
    ]
    docs = [(f"d{i}", f"n{i}@{angle}", []) for i, angle in enumerate(range(20, 90, 5))]
    got, ledger = run(rows, MiningRule(consistency_top=3, consistency_pool=10), docs, embed=angles(0))
    assert [row["row"] for row in got] == [0]
    assert dict(ledger.dropped["mine"]) == {"inconsistent_positive": 1}


def test_round_trip_drops_rows_whose_query_is_not_found_from_the_positive():
    rows = [{"query": f"q{i}@{i * 5}", "positives": [f"p{i}@{i * 5}"]} for i in range(12)]
    rows.append({"query": "stray@180", "positives": ["astray@30"]})
    got, ledger = run(rows, MiningRule(round_trip_top=4, consistency_pool=1000), embed=angles(0))
    assert [row["row"] for row in got] == list(range(12))
    assert dict(ledger.dropped["mine"]) == {"positive_fails_round_trip": 1}


def test_possible_false_negatives_are_other_rows_positives_at_least_as_near_as_ones_own():
    rows = [
        {"query": "a@0", "positives": ["b@40", "far@60"]},
        {"query": "c@90", "positives": ["d@10"]},
        {"query": "e@180", "positives": ["f@170"]},
    ]
    docs = [("near", "no one's positive@5", [])]
    got, ledger = run(rows, MiningRule(range_max=5, near_duplicate=1.0), docs, embed=angles(0))
    # 60 degrees is the lowest positive of a; 80 that of c, for which b, far and f are nearer, the nearest first.
    assert [row["possible_false_negative_ids"] for row in got] == [
        [text_id("d@10")],
        [text_id("far@60"), text_id("b@40"), text_id("f@170")],
        [],
    ]
    assert ledger.notes["possible_in_batch_false_negatives"] == 2


def test_one_text_has_one_id():
    rows = [{"query": "a@0", "positives": ["p@20"]}, {"query": "b@90", "positives": ["p@20"]}]
    got, _ = run(rows, MiningRule(), [*CIRCLE, ("own", "q@50", [])], embed=angles(0))
    assert [row["pos_id"] for row in got] == [text_id("p@20")] * 2


def test_random_picks_stay_in_the_window_and_hardest_first():
    docs = [(f"d{i}", f"n{i}@{i}", []) for i in range(1, 80)]
    rule = MiningRule(num_negatives=5, sampling_strategy="random", range_min=10, range_max=30)
    got, _ = run([QUERY], rule, docs, embed=angles(0))
    ranks = [got[0]["neg_rank"], *got[0]["hard_negative_ranks"]]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 5
    assert min(ranks) >= 10
    assert max(ranks) < 30


def drawn(seed):
    """Digest of what mining finds where every choice that can be drawn is drawn."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    asked = [[*rng.choice(words, 4)] for _ in range(200)]
    rows = [
        {
            "query": " ".join(own),
            "positives": [" ".join([*own[1:], *rng.choice(words, 2)]) for _ in range(2)],
            "groups": [own[0]],
        }
        for own in asked
    ]
    knobs = {
        "min_score_quantile": 0.97,
        "max_false_negative_probability": 0.6,
        "consistency_top": 1,
        "round_trip_top": 1,
        "consistency_pool": 60,
    }
    rule = MiningRule(num_negatives=3, sampling_strategy="random", range_max=20, **knobs)
    ledger = Ledger("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(false_negatives, "PROBES", 120)  # fewer than there are queries, so that they are drawn
        table = mined_table(examples(rows), None, kind="pairs", rule=rule, embed=embed, seed=seed, ledger=ledger)
    labelled = [{"query": row["query"], "labels": row["groups"]} for row in rows]
    by_label = mined_table(
        examples(labelled), None, kind="classification", rule=MiningRule(sampling_strategy="random"), embed=embed,
        seed=seed, ledger=ledger,
    )  # fmt: skip
    return xxhash.xxh3_64_hexdigest(f"{table.to_pylist()} {by_label.to_pylist()} {ledger.to_dict()}".encode())


@pytest.mark.slow
def test_every_draw_is_seeded_and_no_order_comes_from_a_set():
    """The same in another process, whose sets have another order; another seed gives something else."""
    code = "from tests.mine.test_filters import drawn; print(drawn(3))"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    assert other.stdout.split() == [drawn(3)]
    assert drawn(4) != drawn(3)


@settings(max_examples=100)
@given(seed=st.integers(0, 999), count=st.integers(1, 5), how=st.sampled_from(["top", "random"]))
def test_pick_takes_allowed_ones_only_and_each_once(seed, count, how):
    rng = np.random.default_rng(seed)
    ids = rng.integers(-1, 8, (6, 7))
    scores = -np.sort(-rng.random((6, 7)), axis=1).astype(np.float32)
    ranks = np.broadcast_to(np.arange(7, dtype=np.int32), (6, 7))
    allowed = (ids >= 0) & ~repeated(ids) & (rng.random((6, 7)) < 0.7)
    rule = MiningRule(num_negatives=count, sampling_strategy=how)
    text_keys = rng.integers(0, 2**63, 8, dtype=np.uint64) if how == "random" else None
    chosen = pick(Candidates(ids, scores, ranks), allowed, rule, np.arange(6, dtype=np.uint64), text_keys)
    assert chosen.ids.shape == (6, count)
    for row in range(6):
        taken = [i for i in chosen.ids[row] if i >= 0]
        available = ids[row][allowed[row]].tolist()
        assert len(taken) == len(set(taken)) == min(count, len(available))
        assert set(taken) <= set(available)
        if how == "top":
            assert taken == available[:count]


@pytest.mark.slow
def test_a_real_cross_encoder_rejects_and_labels(tmp_path):
    from sentence_transformers import CrossEncoder

    save_cross_encoder(tmp_path)
    docs = [("d0", "the tower", []), ("d1", "a tower", []), ("d2", "a red fox", []), ("d3", "the fox ran", [])]
    row = {"query": "who built the tower", "positives": ["built the tower"]}
    model = CrossEncoder(str(tmp_path))
    truth = {text: float(model.predict([(row["query"], text)])[0]) for _, text, _ in docs}
    own = float(model.predict([(row["query"], row["positives"][0])])[0])
    limit = sum(sorted(truth.values())[1:3]) / 2
    rule = MiningRule(
        num_negatives=4, cross_encoder=str(tmp_path), max_cross_encoder_score=limit, cross_encoder_scores=True
    )
    got, ledger = run([row], rule, docs)
    texts = [got[0]["neg"], *got[0]["hard_negatives"]]
    kept = dict(zip(texts, [got[0]["neg_score"], *got[0]["hard_negative_scores"]], strict=True))
    assert kept == pytest.approx({text: score for text, score in truth.items() if score <= limit}, abs=1e-5)
    assert got[0]["pos_score"] == pytest.approx(own, abs=1e-5)
    assert ledger.notes["rejected_cross_encoder"] == 2


def test_a_cross_encoder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(EncoderError, match="cannot be loaded"):
        run(
            [QUERY],
            MiningRule(cross_encoder=str(tmp_path / "none"), max_cross_encoder_score=0),
            CIRCLE,
            embed=angles(0),
        )


@pytest.mark.parametrize(
    "knobs", [{"cross_encoder": "a"}, {"max_cross_encoder_score": 0}, {"cross_encoder_scores": True}]
)
def test_a_cross_encoder_and_what_it_is_for_go_together(knobs):
    with pytest.raises(ValueError, match="a cross_encoder rejects by max_cross_encoder_score or publishes"):
        MiningRule(**knobs)


def test_lexical_candidates_are_fused_with_dense_ones():
    docs = [(f"d{i}", f"n{i}@{i + 2}", []) for i in range(20)] + [("far", "shared words here@170", [])]
    row = {"query": "shared words@0", "positives": ["p@1"]}
    dense, _ = run([row], MiningRule(num_negatives=2), docs, embed=angles(0))
    both, _ = run([row], MiningRule(num_negatives=2, lexical=True), docs, embed=angles(0))
    assert names(dense[0]) == ["n0", "n1"]
    assert set(names(both[0])) == {"n0", "shared words here"}
    assert both[0]["miner"] == "dense+bm25"
    scores = dict(zip(names(both[0]), [both[0]["neg_score"], *both[0]["hard_negative_scores"]], strict=True))
    assert scores["shared words here"] == pytest.approx(np.cos(np.radians(170)), abs=1e-3)


def test_an_answer_without_blanks_is_found_among_letters_without_blanks():
    passages = pl.Series(["天安门在北京市中心。", "京城在北方", "ferry in Tokyo 東京へ", "redbox"])
    answers = pl.Series(["北京", "北京", "東京", "red"])
    assert filters.with_answer(filters.normalized(passages), filters.normalized(answers)).tolist() == [
        True,
        False,
        True,
        False,
    ]

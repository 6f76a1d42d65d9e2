"""Mining of pairs against the plain version, over all knobs together, on small collections in which filters bite."""

import zlib
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.embedding import Embedded
from medi_build.ledger import Ledger
from medi_build.mine import negatives, ranker
from medi_build.search import parts
from medi_build.search.ranking import Ranking
from medi_build.share import Split
from tests.mine import reference
from tests.mine.conftest import documents, examples, mined_table, text_id

NOISE = {"": 0.35, "b": 0.5, "c": 0.7}


@lru_cache(100_000)
def vector(name, text, instruction):
    """Texts of one cluster, which their first word names, are near each other; an instruction moves each a little."""
    centre = np.random.default_rng(zlib.crc32(text.split()[0].encode())).standard_normal(6)
    own = np.random.default_rng(zlib.crc32(f"{name} {instruction} {text}".encode())).standard_normal(6)
    moved = centre / np.linalg.norm(centre) + NOISE[name] * own / np.linalg.norm(own)
    return (moved / np.linalg.norm(moved)).astype(np.float16)


def clustered(name):
    def at(texts, instruction=None, side=None):
        told = f"saved for {side}" if instruction is None else instruction
        return Embedded(np.stack([vector(name, text, told) for text in texts]), 0)

    return at


ENCODERS = {name: clustered(name) for name in NOISE}


def judged(pairs):
    return np.float32([zlib.crc32(" / ".join(pair).encode()) % 1000 / 1000 for pair in pairs])


def collection(seed, size, beside):
    """Rows and documents: texts of four clusters, some long, some in several places."""
    rng = np.random.default_rng(seed)

    def text(cluster=None):
        words = f"{rng.choice(list('abcd')) if cluster is None else cluster} w{rng.integers(12)}"
        return words + " and more" * rng.choice([0, 1, 4], p=[0.6, 0.3, 0.1])

    def some(values, most):
        return list(rng.choice(values, rng.integers(0, most + 1), replace=False))

    rows = []
    for number in range(size):
        query = text()
        inside = [text(query[0]) for _ in range(rng.choice([0, 1, 2, 3], p=[0.05, 0.6, 0.25, 0.1]))]
        rows.append(
            {
                "id": f"toy/{number}",
                "query": query,
                "positives": [query] if rng.random() < 0.05 else inside,
                "negatives": [text() for _ in range(rng.choice([0, 0, 1, 3]))],
                "answers": some(["w1", "W2 and", "w3", "w44"], 2),
                "groups": some(["p", "q", "r", "s", "t", "u"], 1) if rng.random() < 0.3 else [],
            }
        )
    docs = [(f"d{n}", text(), some(["p", "q", "r"], 1) if rng.random() < 0.3 else []) for n in range(beside)]
    return rows, docs


SHARE = st.floats(0, 1)
KNOBS = {
    "candidates": st.just("positives"),
    "range_min": st.integers(1, 3),
    "sampling_strategy": st.just("random"),
    "relative_margin": st.sampled_from([0.0, 0.05, 0.3]),
    "absolute_margin": st.sampled_from([0.0, 0.1, 0.4]),
    "max_score": st.floats(0.5, 1),
    "max_score_quantile": st.sampled_from([0.1, 0.5, 1.0]),
    "min_score": st.floats(-1, 0.5),
    "min_score_quantile": SHARE.map(lambda value: 0.9 * value),
    "max_false_negative_probability": st.sampled_from([0.05, 0.3, 0.6, 0.9]),
    "relax": st.just(True),
    "near_duplicate": st.floats(0.6, 1),
    "same_answer": st.just(True),
    "reject_answer": st.just(True),
    "consistency_top": st.integers(1, 4),
    "round_trip_top": st.integers(1, 4),
    "consistency_pool": st.integers(2, 30),
    "encoders": st.sampled_from([("b",), ("c", "b")]),
    "lexical": st.just(True),
    "max_cross_encoder_score": SHARE,
    "cross_encoder_scores": st.just(True),
    "cross_encoder_candidates": st.integers(1, 4),
    "guide": st.sampled_from(["b", "c"]),
    "max_guide_score": SHARE,
    "max_length_ratio": st.sampled_from([1.5, 3.0]),
}
NEEDS = {"consistency_pool": {"consistency_top": 2}}
JUDGED = {"max_cross_encoder_score", "cross_encoder_scores"}


@st.composite
def knobs(draw):
    """A few of the knobs, and what they do not go without."""
    names = draw(st.lists(st.sampled_from(list(KNOBS)), unique=True, max_size=7))
    chosen = {"num_negatives": draw(st.integers(1, 4)), "range_max": draw(st.sampled_from([7, 10, 40]))}
    for name in names:
        chosen = {**NEEDS.get(name, {}), **chosen, name: draw(KNOBS[name])}
    return {**chosen, "cross_encoder": "judge"} if JUDGED & chosen.keys() else chosen


def both(rows, docs, rule, instructions, symmetric, verified, seed, part):
    """What mining finds, by parts of so many candidates, and what the plain version finds: rows, drops and notes."""
    ledger, seen = Ledger("toy", read=len(rows), adapted=len(rows)), []
    options = {"instructions": instructions, "symmetric": symmetric, "verified_negatives": verified, "seed": seed}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "ROWS_AT_ONCE", 5)
        patch.setattr(parts, "QUERIES_AT_ONCE", 7)
        patch.setattr(negatives, "load_cross_encoder", lambda *_: judged)
        patch.setattr(negatives, "build_ranker", lambda context: seen.append(ranker.build_ranker(context)) or seen[0])
        table = mined_table(
            examples(rows),
            documents(docs),
            kind="pairs",
            rule=rule,
            embed=ENCODERS[""],
            others=ENCODERS,
            ledger=ledger,
            split=Split(map, part),
            **options,
        ).to_pylist()
    ledger.written = len(table)
    ledger.check()

    def probability(query, ranked, candidates, score):
        """That of the fitted model, asked for one query at a time."""
        model = seen[0].model
        if model is None:
            return None
        pairs = seen[0].context.pairs
        number = {text: i for i, text in enumerate(pairs.unique_texts.text(np.arange(len(pairs.unique_texts))))}
        of_query = np.flatnonzero(pairs.query_texts == number[query])
        ids = np.array([[number[text] for text in candidates]], dtype=np.int64).reshape(1, -1)
        empty = rule.range_max - len(ranked)
        ranking = Ranking(
            np.array([[number[text] for text in ranked] + [-1] * empty]),
            np.float32([[plain.score(query, text) for text in ranked] + [-np.inf] * empty]),
        )
        likely = model.probability(of_query, ids, np.float32([[score[text] for text in candidates]]), ranking)
        return dict(zip(candidates, likely[0], strict=True))

    plain = reference.Pairs(rows, docs, rule, ENCODERS, instructions, symmetric, verified, seed, judged, probability)
    return (table, ledger), (plain.mined(), plain)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    chosen=knobs(),
    seed=st.integers(0, 9999),
    size=st.sampled_from([0, 3, 8, 12, 16]),
    beside=st.integers(0, 15),
    instructions=st.sampled_from([(None, None), ("Q: ", "D: "), ("Q: ", None)]),
    symmetric=st.booleans(),
    verified=st.booleans(),
    part=st.sampled_from([1, 3, 8, 1000]),
)
def test_all_knobs_together_equal_the_plain_version(
    chosen, seed, size, beside, instructions, symmetric, verified, part
):
    try:
        rule = MiningRule(**chosen)
    except ValueError:
        assume(False)
    rows, docs = collection(seed, size, beside)
    (table, ledger), (wanted, plain) = both(rows, docs, rule, instructions, symmetric, verified, seed % 7, part)
    found = [
        (
            row["row"],
            row["pos"],
            row["pos_score"],
            list(
                zip(
                    [row["neg"], *row["hard_negatives"]],
                    [row["neg_score"], *row["hard_negative_scores"]],
                    [row["neg_rank"], *row["hard_negative_ranks"]],
                    strict=True,
                )
            ),
            row["possible_false_negative_ids"],
        )
        for row in table
    ]
    assert found == wanted
    ids = {text: name for name, text, _ in reversed(docs)}
    for row in table:
        assert (row["pos_id"], row["neg_id"]) == tuple(ids.get(t, text_id(t)) for t in (row["pos"], row["neg"]))
        first = "dense" + "+dense" * len(rule.encoders) + "+bm25" * rule.lexical
        assert row["miner"] == {-1: "given", -2: "random"}.get(row["neg_rank"], first)
    assert dict(ledger.dropped.get("mine", {})) == +plain.dropped
    told = {name: count for name, count in ledger.notes.items() if name in plain.notes or name.startswith("rejected")}
    assert told == +plain.notes

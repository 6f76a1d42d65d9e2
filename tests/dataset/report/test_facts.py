"""Figures of a dataset against a slow and obvious count, and what is told of them."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.report.facts import LENGTH_BINS, SCORE_BINS, DatasetFacts, facts, slim
from medi_build.dataset.report.flow import flow
from medi_build.dataset.report.warnings import KINDS, warnings
from medi_build.errors import DatasetError
from medi_build.ledger import Ledger
from tests.dataset.built import dataset_entry, toy_manifest, write_built

SCORES = st.one_of(st.just(math.nan), st.floats(-1, 1, width=32))
TEXTS = st.text(min_size=1, max_size=30)
ROWS = st.lists(
    st.tuples(TEXTS, TEXTS, TEXTS, SCORES, SCORES, st.integers(0, 3), st.sampled_from("ab")), min_size=1, max_size=30
)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_figures_are_those_of_a_plain_count(rows: list[tuple], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("facts") / "built"
    write_built(
        folder,
        [
            {
                **{side: ["", text] for side, text in zip(("query", "pos", "neg"), row[:3], strict=True)},
                "pos_score": row[3],
                "neg_score": row[4],
                "possible_false_negative_ids": [str(number) for number in range(row[5])],
                "miner": row[6],
                "task_id": 1,
            }
            for row in rows
        ],
    )
    built = open_dataset(folder)
    alike = np.arange(len(rows)) % 3 == 1
    found = facts(slim(built, built.manifest.datasets[0]), alike)
    both = [(np.float64(row[3]), np.float64(row[4])) for row in rows if not (math.isnan(row[3]) or math.isnan(row[4]))]
    assert (found.rows, found.scored) == (len(rows), len(both))
    assert found.negative_above == sum(negative >= positive for positive, negative in both)
    assert found.near_copies == sum(row[3] > 0.95 for row in rows)
    assert found.possible_false_negatives == sum(row[5] > 0 for row in rows)
    assert found.repeated_queries == len(rows) - len({row[0] for row in rows})
    assert (found.looked, found.alike) == (len(rows), (len(rows) + 1) // 3)
    assert found.miners == dict(Counter(row[6] for row in rows))
    if both:
        assert found.mean_margin == pytest.approx(
            np.mean([positive - negative for positive, negative in both]), abs=1e-9
        )
    for counts, column in ((found.positive_scores, 3), (found.negative_scores, 4)):
        places = Counter(
            min(int((row[column] + 1) / 2 * SCORE_BINS), SCORE_BINS - 1) for row in rows if not math.isnan(row[column])
        )
        assert int(counts.sum()) == places.total()
        assert sum(abs(int(count) - places[place]) for place, count in enumerate(counts)) <= 2  # a score on an edge
    for side, column in (("query", 0), ("positive", 1), ("negative", 2)):
        middle = np.median([len(row[column]) for row in rows])
        assert found.median_lengths[side] == int(middle)
        expected = Counter(min(int(2 * math.log2(len(row[column]))), LENGTH_BINS - 1) for row in rows)
        assert {place: int(count) for place, count in enumerate(found.lengths[side]) if count} == dict(expected)


def some(rows: int = 100, **changes: int) -> DatasetFacts:
    nothing = np.zeros(SCORE_BINS, dtype=np.int64)
    names = ("negative_above", "near_copies", "possible_false_negatives", "repeated_queries", "looked", "alike")
    counts = {**dict.fromkeys(names, 0), **changes}
    return DatasetFacts(rows, rows, nothing, nothing, nothing, 0.0, {}, {}, miners={}, **counts)


def ledger(read: int, written: int, **dropped: dict[str, int]) -> dict:
    book = Ledger("toy", read=read, adapted=read - sum(dropped.get("adapt", {}).values()), written=written)
    for stage, reasons in dropped.items():
        for reason, count in reasons.items():
            book.drop(stage, reason, count)
    book.check()
    return book.to_dict()


def told(entry: dict, fact: DatasetFacts, **manifest: object) -> dict[str, str]:
    one = dataset_entry("toy/1", 1, fact.rows, **entry)
    other = dataset_entry("toy/2", 2, 900)
    found = warnings(toy_manifest([one, other], **manifest), [fact, some(900)])
    return {one.kind: one.told for kind in found for one in kind.found if one.dataset == "toy/1"}


@pytest.mark.parametrize(
    ("entry", "fact", "expected"),
    [
        ({}, some(), {}),
        ({}, some(negative_above=25), {}),
        ({}, some(negative_above=26), {"margin": "26 %"}),
        ({"kind": "classification"}, some(negative_above=26), {"near": "26 %"}),
        ({}, some(near_copies=26), {"copies": "26 %"}),
        ({}, some(repeated_queries=51), {"repeated": "51 %"}),
        ({}, some(looked=8, alike=2), {}),
        ({}, some(looked=8, alike=3), {"alike": "38 %"}),
        ({}, some(31), {"small": "31"}),
        ({}, some(301), {"share": "25 %"}),
        ({"ledger": ledger(5, 0, adapt={"page_missing": 4, "wrong_type": 1})}, some(0), {"empty": "page_missing 4"}),
        ({"ledger": ledger(1000, 100, sample={"over_cap": 900})}, some(), {}),
        ({"ledger": ledger(1000, 100, sample={"over_cap": 700}, mine={"no_negative": 200})}, some(), {"lost": "67 %"}),
        ({"commercial_use": "not-allowed"}, some(), {"licence": "CC0-1.0, not allowed"}),
    ],
)
def test_what_is_worth_a_look(entry: dict, fact: DatasetFacts, expected: dict[str, str]) -> None:
    assert told(entry, fact) == expected


def test_pairs_in_common_are_told_unless_they_were_dropped() -> None:
    shared = [{"name": "toy/1", "shared_queries": 9, "repeated_pairs": 7, "shares_with": {"toy/2": 9}}]
    assert told({}, some(), overlaps=shared) == {"overlap": "7"}
    pipeline = toy_manifest([]).pipeline
    assert told({}, some(), overlaps=shared, pipeline=pipeline | {"dedup": True}) == {}


def test_the_gravest_kind_and_the_worst_dataset_come_first() -> None:
    entries = [dataset_entry(f"toy/{number}", number, 100) for number in range(3)]
    figures = [some(negative_above=30, repeated_queries=60), some(negative_above=90), some(0)]
    found = warnings(toy_manifest(entries), figures)
    assert [one.kind for one in found] == [kind for kind in KINDS if kind in {"empty", "margin", "share", "repeated"}]
    assert [one.dataset for one in next(one for one in found if one.kind == "margin").found] == ["toy/1", "toy/0"]


def test_every_row_that_was_read_is_in_the_flow() -> None:
    books = [
        ledger(100, 40, adapt={"wrong_type": 10}, sample={"over_cap": 30}, mine={"no_negative": 20}),
        ledger(50, 45, adapt={"wrong_type": 4, "empty_text": 1}),
    ]
    steps = flow([dataset_entry(f"toy/{number}", number, 1, ledger=book) for number, book in enumerate(books)])
    assert [(step.stage, step.before, step.lost) for step in steps] == [
        ("adapt", 150, 15),
        ("sample", 135, 30),
        ("mine", 105, 20),
    ]
    assert steps[0].reasons == [("wrong_type", 14), ("empty_text", 1)]
    assert steps[-1].before - steps[-1].lost == 85


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    built = open_dataset(write_built(tmp_path / "built", [{"task_id": 1}]))
    built.shards[0].write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match="toy/1: a shard cannot be read"):
        slim(built, built.manifest.datasets[0])

"""Properties of the batch planner, against a brute-force reading of what a false negative is."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.errors import TrainError
from medi_build.train.batches import (
    BatchPlan,
    BatchSettings,
    PlannedSampler,
    PlanReport,
    own_negative_tasks,
    plan_batches,
    rows_per_pass,
    shuffled,
)
from medi_build.train.keys import Ragged, RowKeys


def ragged(lists: list[list[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return Ragged(offsets, np.array([value for values in lists for value in values], np.uint64))


Row = tuple[int, int, int, int, list[int], list[int], list[int], list[int]]
"""Task, query, positive, negative, labels, groups, further negatives, possible false negatives.

A positive's id is the positive.
"""


def make_keys(rows: list[Row]) -> RowKeys:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    return RowKeys(
        np.array(columns[0], np.int64),
        *(np.array(column, np.uint64) for column in columns[1:4]),
        hard_negatives=ragged(list(columns[6])),
        labels=ragged(list(columns[4])),
        groups=ragged(list(columns[5])),
        pos_ids=ragged([[value] for value in columns[2]]),
        possible_false_negative_ids=ragged(list(columns[7])),
    )


def false_negatives(a: Row, b: Row, *, same_class: bool) -> bool:
    """The obvious definition, for two different rows of a task."""
    shown_a, shown_b = {a[1], a[2]}, {b[1], b[2]}
    rejected_a, rejected_b = {a[3], *a[6]}, {b[3], *b[6]}
    same = bool(shown_a & shown_b or rejected_a & shown_b or rejected_b & shown_a or set(a[5]) & set(b[5]))
    same = same or a[2] in b[7] or b[2] in a[7]
    return same or (same_class and bool(set(a[4]) & set(b[4])))


@st.composite
def data(draw: st.DrawFn, most: int = 60) -> list[Row]:
    vocabulary = draw(st.sampled_from([6, 30, 10_000]))
    text = st.integers(1, vocabulary)
    some = st.lists(st.integers(1, draw(st.sampled_from([2, 40]))), max_size=2, unique=True)
    more = st.lists(text, max_size=3)
    row = st.tuples(st.integers(1, draw(st.integers(1, 4))), text, text, text, some, some, more, more)
    return draw(st.lists(row, min_size=1, max_size=most))


def batches_of(plan: BatchPlan) -> list[list[int]]:
    return [plan.batch(index).tolist() for index in range(len(plan))]


@settings(max_examples=150)
@given(rows=data(), batch_size=st.integers(1, 16), seed=st.integers(0, 5), classes=st.sampled_from(["apart", "mixed"]))
def test_every_row_once_one_task_no_false_negative(rows: list[Row], batch_size: int, seed: int, classes: str) -> None:
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=batch_size, seed=seed, classes=classes))
    assert Counter(plan.rows.tolist()) == Counter(range(len(rows)))
    for batch in batches_of(plan):
        assert 1 <= len(batch) <= batch_size
        assert len({rows[row][0] for row in batch}) == 1
        for i, first in enumerate(batch):
            for second in batch[i + 1 :]:
                assert not false_negatives(rows[first], rows[second], same_class=classes == "apart")


@settings(max_examples=100)
@given(rows=data(), per_process=st.integers(1, 5), processes=st.integers(1, 4), epochs=st.sampled_from([1.0, 2.5]))
def test_processes_get_equal_slices_that_make_the_batch(
    rows: list[Row], per_process: int, processes: int, epochs: float
) -> None:
    keys = make_keys(rows)
    setting = BatchSettings(batch_size=per_process * processes, processes=processes, classes="mixed", epochs=epochs)
    if max(Counter(row[0] for row in rows).values()) < processes:
        return
    try:
        plan = plan_batches(keys, setting)
    except TrainError as error:
        assert "processes" in str(error)  # all rows of every task conflict
        return
    slices = [list(PlannedSampler(plan, rank, processes)) for rank in range(processes)]
    for index, parts in enumerate(zip(*slices, strict=True)):
        assert len({len(part) for part in parts}) == 1
        whole = [row for part in parts for row in part]
        assert whole == plan.batch(index).tolist()
        assert len(set(whole)) == len(whole)
        for i, first in enumerate(whole):
            assert not any(false_negatives(rows[first], rows[x], same_class=False) for x in whole[i + 1 :])
    seen = Counter(plan.rows.tolist())
    if epochs == 1.0:
        assert len(rows) - len(seen) <= plan.report.left_out
        assert sum(seen.values()) == len(rows) + plan.report.repeated - plan.report.left_out


def test_every_row_is_reached_under_a_cap() -> None:
    rows: list[Row] = [(1, 3 * i, 3 * i + 1, 3 * i + 2, [], [], [], []) for i in range(100)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=8, task_cap=30, epochs=10))
    seen = Counter(plan.rows.tolist())
    assert len(plan.rows) == 300
    assert set(seen.values()) == {3}


def test_the_plan_is_a_function_of_data_and_seed() -> None:
    rows: list[Row] = [(i % 3, i, i + 1000, i + 2000, [], [i % 7], [], []) for i in range(200)]
    plans = [plan_batches(make_keys(rows), BatchSettings(batch_size=16, seed=seed)) for seed in (1, 1, 2)]
    assert batches_of(plans[0]) == batches_of(plans[1])
    assert batches_of(plans[0]) != batches_of(plans[2])


def test_passes_differ_but_hold_the_same_rows() -> None:
    rows: list[Row] = [(1, i, i + 1000, i + 2000, [], [], [], []) for i in range(64)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=16, epochs=2))
    first, second = plan.rows[:64], plan.rows[64:]
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


def test_batches_of_a_task_are_level() -> None:
    rows: list[Row] = [(1, i, i + 1000, i + 2000, [], [], [], []) for i in range(130)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=64))
    assert sorted(np.diff(plan.offsets)) == [43, 43, 44]


def test_a_query_that_repeats_fills_many_batches_without_slowing_down() -> None:
    count = 20_000
    rows: list[Row] = [(1, 7 if i % 2 else i + 10, i + 100_000, i + 200_000, [], [], [], []) for i in range(count)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=64))
    assert sorted(plan.rows.tolist()) == list(range(count))
    assert len(plan) == count // 2
    assert set(np.diff(plan.offsets)) == {2}


def test_classes_are_kept_apart_with_those_of_the_negatives() -> None:
    # Row 0 is of class 1; row 1 of class 2, and its negative is the text of row 2, which is of class 1.
    rows: list[Row] = [
        (1, 10, 11, 12, [1], [], [], []),
        (1, 20, 21, 30, [2], [], [], []),
        (1, 30, 31, 32, [1], [], [], []),
    ]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=4, classes="apart"))
    assert all(len(batch) == 1 for batch in batches_of(plan))
    mixed = plan_batches(make_keys(rows), BatchSettings(batch_size=4, classes="mixed"))
    assert sorted(map(sorted, batches_of(mixed))) in ([[0, 1], [2]], [[0, 2], [1]])


def test_further_negatives_are_kept_from_rows_that_show_them() -> None:
    rows: list[Row] = [(1, 10, 11, 12, [], [], [21], []), (1, 20, 21, 22, [], [], [], [])]
    apart = plan_batches(make_keys(rows), BatchSettings(batch_size=4))
    assert sorted(batches_of(apart)) == [[0], [1]]
    # Row 0's further negative is the text of row 2, whose class row 1 has as well.
    rows = [(1, 10, 11, 12, [1], [], [30], []), (1, 20, 21, 22, [2], [], [], []), (1, 30, 31, 32, [2], [], [], [])]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=4, classes="apart"))
    assert all(len(batch) == 1 for batch in batches_of(plan))


def test_tasks_with_classes_can_leave_out_in_batch_negatives() -> None:
    rows: list[Row] = [(5, 1, 2, 3, [9], [], [], [])] * 6 + [(4, i, i + 50, i + 90, [], [], [], []) for i in range(6)]
    keys = make_keys(rows)
    assert own_negative_tasks(keys, BatchSettings()).tolist() == [5]
    assert own_negative_tasks(keys, BatchSettings(classes="apart")).tolist() == []
    plan = plan_batches(keys, BatchSettings(batch_size=6))
    assert sorted(map(len, batches_of(plan))) == [6, 6]


@settings(max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=20),
    cap=st.one_of(st.none(), st.integers(1, 5_000)),
    temperature=st.floats(0.5, 10),
)
def test_draws_follow_cap_and_temperature(sizes: list[int], cap: int | None, temperature: float) -> None:
    capped = [min(size, cap or size) for size in sizes]
    draws = rows_per_pass(np.array(sizes), cap, temperature)
    assert draws.min() >= 1
    assert 0 <= draws.sum() - sum(capped) <= (draws == 1).sum()  # more only for tasks that would have none
    order = np.argsort(capped, kind="stable")
    assert (np.diff(draws[order]) >= -1).all()
    assert rows_per_pass(np.array(sizes), cap, 1.0).tolist() == capped


@pytest.mark.parametrize(("temperature", "shares"), [(1.0, [100, 400]), (2.0, [167, 333]), (0.5, [29, 471])])
def test_shares_are_powers_of_the_sizes(temperature: float, shares: list[int]) -> None:
    """By the power of one half, 10 to 20; by that of two, 1 to 16; of 500 rows."""
    assert rows_per_pass(np.array([100, 700]), 400, temperature).tolist() == shares


def test_steps_count_batches() -> None:
    rows: list[Row] = [(1, i, i + 1000, i + 2000, [], [], [], []) for i in range(40)]
    assert len(plan_batches(make_keys(rows), BatchSettings(batch_size=8, steps=13))) == 13
    assert len(plan_batches(make_keys(rows), BatchSettings(batch_size=8, epochs=0.4))) == 2


def test_shuffles_are_pinned() -> None:
    """A golden value: changing the hash would silently change every trained model."""
    assert shuffled(8, 42, 7, 0).tolist() == [4, 5, 2, 6, 7, 3, 1, 0]
    counts = np.zeros((4, 4))
    for seed in range(2000):
        counts[np.arange(4), shuffled(4, seed)] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 0.04


def test_plans_are_pinned() -> None:
    """Another order of batches would silently change every trained model, too."""
    rows: list[Row] = [(1 + i % 3, 10 * i, 10 * i + 1, 10 * i + 2, [], [i // 6], [], []) for i in range(12)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=3, epochs=2))
    first, second = batches_of(plan)[:8], batches_of(plan)[8:]
    assert first == [[5], [9, 3], [11, 2], [10, 1], [8], [4], [7], [6, 0]]
    assert second == [[7, 4], [5], [11], [8, 2], [3, 6], [10, 1], [0, 9]]


def test_a_report_tells_what_there_is_to_tell() -> None:
    assert PlanReport().lines() == ["0 rows of 0 tasks in 0 batches (mean 0.0 rows)"]
    report = PlanReport(rows=5, batches=1, tasks={1: (5, 5)}, contested=Counter(query=2, page=0, class_=3), moved=4)
    assert report.lines() == [
        "5 rows of 1 tasks in 1 batches (mean 5.0 rows)",
        "rows that share something with another row of their task: 3 class_, 2 query; moved 4",
    ]
    for repeated, left_out in ((1, 0), (0, 2), (1, 2)):
        report = PlanReport(rows=6, batches=4, repeated=repeated, left_out=left_out)
        told = f"for the number of processes: {repeated} rows repeated, {left_out} left out"
        assert report.lines() == ["6 rows of 0 tasks in 4 batches (mean 1.5 rows)", told]


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 0},
        {"steps": 0},
        {"epochs": 0.0},
        {"epochs": float("inf")},
        {"task_temperature": float("inf")},
        {"task_cap": 0},
        {"task_temperature": 0.0},
        {"batch_size": 10, "processes": 4},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(TrainError, match=r"must be|multiple"):
        BatchSettings(**bad)


def test_no_rows() -> None:
    with pytest.raises(TrainError, match="no rows"):
        plan_batches(make_keys([]), BatchSettings())


def test_possible_false_negatives_are_kept_apart() -> None:
    rows: list[Row] = [
        (1, 10, 11, 12, [], [], [], [21]),
        (1, 20, 21, 22, [], [], [], []),
        (1, 30, 31, 32, [], [], [], []),
    ]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=4))
    assert not any({0, 1} <= set(batch) for batch in batches_of(plan))
    assert plan.report.contested["possible false negative"] == 1

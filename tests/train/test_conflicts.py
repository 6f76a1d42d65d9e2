"""Where the planner puts rows that must not meet, over uses made up at random, and the order in which batches come."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.train.batches import BatchSettings, _free_places, plan_batches
from medi_build.train.conflicts import TaskConflicts, _classes_of_negatives
from tests.train.test_planned_batches import Row, batches_of, data, false_negatives, make_keys

Uses = dict[int, tuple[list[int], list[int]]]
KEYS = st.lists(st.integers(0, 7), max_size=3, unique=True)


@st.composite
def uses(draw: st.DrawFn) -> tuple[Uses, list[int]]:
    """What some of up to 30 rows show and reject, and the rows in some order."""
    rows = draw(st.integers(1, 30))
    contested = draw(st.lists(st.integers(0, rows - 1), unique=True))
    kinds = {row: (draw(KEYS), draw(KEYS)) for row in contested}
    return kinds, draw(st.permutations(range(rows)))


def meet(uses: Uses, first: int, second: int) -> bool:
    """Whether two rows conflict: both show a key, or one shows what the other rejects."""
    (shows, rejects), (other_shows, other_rejects) = uses.get(first, ([], [])), uses.get(second, ([], []))
    return bool(set(shows) & {*other_shows, *other_rejects} or set(rejects) & set(other_shows))


@settings(max_examples=300)
@given(uses(), st.integers(1, 6))
def test_rows_that_conflict_are_placed_apart(drawn: tuple[Uses, list[int]], batch_size: int) -> None:
    kinds, order = drawn
    placed, batches, moved = TaskConflicts(kinds).place(np.array(order), batch_size)
    at = dict(zip(order, placed.tolist(), strict=True))
    assert {row for row in at if at[row] >= 0} == set(kinds)
    assert batches >= max(-(-len(order) // batch_size), 1 + int(placed.max()))
    assert np.bincount(placed[placed >= 0], minlength=1).max() <= batch_size
    for first in kinds:
        for second in kinds:
            assert first == second or at[first] != at[second] or not meet(kinds, first, second)
    wishes = [place * -(-len(order) // batch_size) // len(order) for place in range(len(order))]
    before = {row: order[:place] for place, row in enumerate(order)}
    put_off = [
        any(other in kinds and at[other] >= wish and meet(kinds, row, other) for other in before[row])
        for row, wish in zip(order, wishes, strict=True)
        if row in kinds
    ]
    assert moved == sum(put_off)


@settings(max_examples=300)
@given(uses(), st.integers(0, 6), st.integers(0, 8))
def test_what_fills_a_batch_conflicts_with_nothing_in_it(
    drawn: tuple[Uses, list[int]], inside: int, wanted: int
) -> None:
    kinds, order = drawn
    batch = order[:inside]
    found = TaskConflicts(kinds).compatible(np.array(batch, np.int64), np.array(order), wanted).tolist()
    expected: list[int] = []
    for row in order:
        free = row not in batch and not any(meet(kinds, row, other) for other in [*batch, *expected])
        if free and len(expected) < wanted:
            expected.append(row)
    assert found == expected


def test_a_row_that_shows_a_key_comes_after_every_batch_that_rejects_it() -> None:
    """Rows 1 and 3 reject key 0; row 1, put off to a later batch than row 3, counts."""
    kinds: Uses = {0: ([1], []), 1: ([1], [0]), 2: ([1], [0]), 3: ([], [0]), 4: ([0], [])}
    placed, _, _ = TaskConflicts(kinds).place(np.arange(5), 5)
    assert placed.tolist() == [0, 1, 2, 0, 3]


def test_new_batches_are_opened_behind_new_ones_that_are_full() -> None:
    """Rows 1 and 2 are pushed to the end; rows 3 to 5 reject what row 2 shows: two of them fill a batch behind it."""
    kinds: Uses = {0: ([1], []), 1: ([1, 2], []), 2: ([2, 3], []), 3: ([], [3]), 4: ([], [3]), 5: ([], [3])}
    placed, batches, _ = TaskConflicts(kinds).place(np.arange(6), 2)
    assert placed.tolist() == [0, 1, 2, 3, 3, 4]
    assert batches == 5


def test_a_full_batch_passes_rows_on_to_the_next_with_room() -> None:
    """Row 1, put off to the second batch, takes the place of row 3 there, which takes that of row 5."""
    kinds: Uses = {0: ([1], []), 1: ([1], []), 2: ([2], []), 3: ([3], []), 4: ([4], []), 5: ([5], [])}
    placed, batches, moved = TaskConflicts(kinds).place(np.arange(6), 2)
    assert placed.tolist() == [0, 1, 1, 2, 2, 3]
    assert (batches, moved) == (4, 1)


@settings(max_examples=300)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 3), st.floats(0, 1))
def test_free_places_go_to_the_smallest_batch_unit_by_unit(
    counts: list[int], quantum: int, per_batch: int, share: float
) -> None:
    batch_size = quantum * per_batch
    counts = [min(count, batch_size) for count in counts]
    rows = sum(counts) + int(share * (len(counts) * batch_size - sum(counts)))
    units = [-(-count // quantum) for count in counts]
    for _ in range(-(-rows // quantum) - sum(units)):
        units[units.index(min(units))] += 1
    wanted = [unit * quantum - count for unit, count in zip(units, counts, strict=True)]
    assert _free_places(np.array(counts), rows, batch_size, quantum).tolist() == wanted


def test_classes_of_negatives_are_kept_apart_under_every_seed() -> None:
    # Row 1's negative is the text of row 2, which is of class 1, as row 0 is; nothing else keeps rows 0 and 1 apart.
    rows: list[Row] = [
        (1, 10, 11, 12, [1], [], [], []),
        (1, 20, 21, 30, [2], [], [], []),
        (1, 30, 31, 32, [1], [], [], []),
    ]
    for seed in range(20):
        plan = plan_batches(make_keys(rows), BatchSettings(batch_size=4, classes="apart", seed=seed))
        assert all(len(batch) == 1 for batch in batches_of(plan))
        assert plan.report.contested["class"] == 3


@pytest.mark.parametrize(("label", "page", "identity"), [(7, 7, 7), (8, 7, 6), (6, 7, 8), (5, 4, 3)])
def test_texts_classes_pages_and_ids_of_one_number_are_not_the_same(label: int, page: int, identity: int) -> None:
    rows: list[Row] = [
        (1, 7, 11, 12, [], [], [], []),
        (1, 20, 21, 22, [label], [], [], []),
        (1, 30, 31, 32, [], [page], [], []),
        (1, 40, 41, 42, [], [], [], [identity]),
    ]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=4, classes="apart"))
    assert sorted(map(sorted, batches_of(plan))) == [[0, 1, 2, 3]]
    assert not plan.report.contested


def test_a_task_of_which_nothing_is_drawn_is_told_as_such() -> None:
    rows: list[Row] = [(i // 8, i, i + 1000, i + 2000, [], [], [], []) for i in range(16)]
    tasks = plan_batches(make_keys(rows), BatchSettings(batch_size=8, steps=1)).report.tasks
    assert sorted(tasks.values()) == [(8, 0), (8, 8)]


def test_batches_of_all_tasks_come_mixed_and_in_another_order_in_every_pass() -> None:
    rows: list[Row] = [(i // 32, i, i + 1000, i + 2000, [], [], [], []) for i in range(256)]
    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=8, epochs=3))
    tasks = [rows[batch[0]][0] for batch in batches_of(plan)]
    passes = [tasks[start : start + 32] for start in (0, 32, 64)]
    for one in passes:
        assert sorted(one) == sorted(passes[0])
        assert sum(left == right for left, right in pairwise(one)) < 16  # 28 where they come in turn
        assert len(set(one[:16])) > 4
    assert len({tuple(one) for one in passes}) == 3
    other = plan_batches(make_keys(rows), BatchSettings(batch_size=8, seed=7))
    assert [rows[batch[0]][0] for batch in batches_of(other)] != passes[0]


@settings(max_examples=150)
@given(rows=data(25), batch_size=st.integers(2, 8), seed=st.integers(0, 5))
def test_classes_of_every_row_with_a_negatives_text_count(rows: list[Row], batch_size: int, seed: int) -> None:
    def classes(row: Row) -> set[int]:
        """Those of the row's negatives, by the rows of the task that have such a text as their query."""
        texts = {row[3], *row[6]}
        return {label for other in rows if other[0] == row[0] and other[1] in texts for label in other[4]}

    plan = plan_batches(make_keys(rows), BatchSettings(batch_size=batch_size, seed=seed, classes="apart"))
    for batch in batches_of(plan):
        for first in batch:
            for second in batch:
                if first != second:
                    assert not false_negatives(rows[first], rows[second], same_class=True)
                    assert not classes(rows[first]) & set(rows[second][4])


@settings(max_examples=100)
@given(
    queries=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    negatives=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8)), max_size=8),
    labels=st.lists(st.tuples(st.integers(0, 7), st.integers(10, 14)), max_size=10, unique=True),
)
def test_the_classes_of_a_negative_are_no_others(
    queries: list[int], negatives: list[tuple[int, int]], labels: list[tuple[int, int]]
) -> None:
    labels = [(owner % len(queries), label) for owner, label in labels]
    columns = [list(column) for column in (zip(*negatives, strict=True) if negatives else ((), ()))]
    owned = [list(column) for column in (zip(*labels, strict=True) if labels else ((), ()))]
    found = _classes_of_negatives(
        (np.array(columns[0], np.int64), np.array(columns[1], np.uint64)),
        np.array(queries, np.uint64),
        (np.array(owned[0], np.int64), np.array(owned[1], np.uint64)),
    )
    wanted = {(holder, label) for holder, text in negatives for owner, label in labels if queries[owner] == text}
    assert set(zip(*(column.tolist() for column in found), strict=True)) == wanted

"""Examples of a prompt: never over the budget, the most similar last; vote-k as its definition says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.complete import estimate
from medi_build.evaluate.prompt_retrieval.select import choose, measure, vote_k, within
from medi_build.evaluate.prompt_retrieval.tasks import FORMS, Example, Task, read_task
from tests.evaluate.prompt_files import sst5_rows, write_task

COUNTS = {
    "bytes": estimate,
    "words": lambda texts: [len(text.split()) for text in texts],
    "more together": lambda texts: [int(len(text) ** 1.2) for text in texts],
}


def unit(rng: np.random.Generator, count: int, dimension: int = 8) -> Any:
    rows = rng.normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def made_task(sizes: list[int], asked: list[int]) -> Task:
    def example(number: int, size: int, name: str) -> Example:
        text = f"{name}{number} " + "ab " * size
        return Example(str(number), text, f"{text}\n", "neutral", "neutral")

    pool = [example(i, size, "p") for i, size in enumerate(sizes)]
    questions = [example(i, size, "q") for i, size in enumerate(asked)]
    return Task("sst5", FORMS["sst5"], "header\n", pool, questions)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=25),
    asked=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    budget=st.integers(10, 2000),
    kind=st.sampled_from(sorted(COUNTS)),
    seed=st.integers(0, 10_000),
)
def test_a_budget_is_never_exceeded_and_the_most_similar_come_last(
    sizes: list[int], asked: list[int], budget: int, kind: str, seed: int
) -> None:
    task, count, rng = made_task(sizes, asked), COUNTS[kind], np.random.default_rng(seed)
    pool, questions = unit(rng, len(sizes)), unit(rng, len(asked))
    try:
        lengths = measure(task, count, budget)
    except EvaluationError:
        return
    kept = np.sort(rng.choice(len(sizes), size=rng.integers(1, len(sizes) + 1), replace=False))
    chosen = choose(task, lengths, pool, questions, kept, count)
    cosines = questions.astype(np.float64) @ pool.astype(np.float64).T
    for row, own in enumerate(chosen):
        assert count([task.prompt(task.questions[row], [task.pool[i] for i in own])])[0] <= budget
        assert set(own) <= set(kept.tolist()) and len(set(own)) == len(own)
        assert all(np.diff(cosines[row, own]) >= 0)
        # Of those that may stand in a prompt, none is more similar than one that does.
        allowed = [i for i in kept if lengths.blocks[i] <= budget // 4 and i not in own]
        if own and allowed:
            assert cosines[row, allowed].max() <= cosines[row, own].min()


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [(100, 100, [3, 2, 0, 1]), (50, 100, [0, 1]), (50, 30, [2, 0]), (19, 100, []), (100, 9, []), (90, 100, [2, 0, 1])],
)
def test_examples_are_taken_from_the_nearest_on_while_they_fit(room: int, most: int, expected: list[int]) -> None:
    blocks = np.array([10, 40, 15, 30])
    assert within([1, 0, 2, 3, -1], blocks, room, most) == expected


def test_an_example_with_the_questions_own_text_is_not_shown_to_it(tmp_path: Path) -> None:
    write_task(tmp_path, "sst5", sst5_rows(12), sst5_rows(3))
    task = read_task(tmp_path, "sst5")
    vectors = unit(np.random.default_rng(1), 12)
    chosen = choose(task, measure(task, estimate, 1000), vectors, vectors[:3], np.arange(12), estimate)
    for row, own in enumerate(chosen):
        assert row not in own and len(own) == 11


def test_budgets_that_fit_nothing_are_told_before_the_encoding() -> None:
    task = made_task([50, 40], [10])
    with pytest.raises(EvaluationError, match=r"--budget 9: question 0 of sst5 alone takes \d+ tokens"):
        measure(task, estimate, 9)
    with pytest.raises(
        EvaluationError, match=r"--budget 60: no example of sst5 fits: .* allow at least (\d+)"
    ) as caught:
        measure(task, estimate, 60)
    enough = int(str(caught.value).rpartition(" ")[2])
    assert measure(task, estimate, enough).budget == enough
    with pytest.raises(EvaluationError):
        measure(task, estimate, enough - 1)


def slow_vote_k(vectors: Any, size: int, votes: int) -> list[int]:
    """The definition one example after the other, in whole numbers: floating point would end at so many tenths."""
    count = len(vectors)
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    voters: dict[int, list[int]] = {i: [] for i in range(count)}
    for voter in range(count):
        others = sorted((i for i in range(count) if i != voter), key=lambda i: (-cosines[voter, i], i))
        for other in others[:votes]:
            voters[other].append(voter)
    taken: list[int] = []
    times = dict.fromkeys(range(count), 0)
    while len(taken) < size:
        scores = {
            i: sum(10 ** (18 - len(str(count))) // 10 ** times[voter] for voter in voters[i] if voter not in taken)
            for i in range(count)
            if i not in taken
        }
        best = max(scores, key=lambda i: (scores[i], len(voters[i]), -i))
        taken.append(best)
        for voter in voters[best]:
            times[voter] += 1
    return taken


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000), st.booleans())
def test_vote_k_is_its_definition(count: int, size: int, votes: int, seed: int, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng, count)
    if clustered:  # many of one text: ties everywhere
        vectors = vectors[rng.integers(0, max(1, count // 4), count)]
    if size >= count:
        assert vote_k(vectors, size, votes).tolist() == list(range(count))
        return
    assert vote_k(vectors, size, votes).tolist() == slow_vote_k(vectors, size, min(votes, count - 1))


def test_vote_k_is_its_definition_where_there_are_many_votes() -> None:
    vectors = unit(np.random.default_rng(5), 300)
    assert vote_k(vectors, 40, 50).tolist() == slow_vote_k(vectors, 40, 50)


def test_vote_k_takes_the_middle_of_each_cluster_first() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(8)[:3]
    rows = np.concatenate([centre + 0.05 * rng.normal(size=(20, 8)) for centre in centres])
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    assert sorted(int(i) // 20 for i in vote_k(vectors, 3, votes=10)) == [0, 1, 2]


def test_one_example_is_a_pool() -> None:
    assert vote_k(unit(np.random.default_rng(0), 1), 5).tolist() == [0]

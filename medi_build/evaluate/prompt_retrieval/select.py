"""Which examples stand in a prompt: a pool chosen by vote-k, or all; of it the nearest, as many as a budget allows."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from medi_build.arrays import Ints, Vectors
from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.tasks import Task
from medi_build.search.dense import topk
from medi_build.search.exclusions import Exclusions, incidence

Count = Callable[[Sequence[str]], list[int]]
"""Tokens of texts, or an estimate that is rather too high."""
VOTES = 150
"""Neighbours that an example of the pool votes for, as in the paper's experiments."""
LARGEST_PART = 4
"""An example that takes more than this part of a budget is passed over, as in the public script (250 of 1,000)."""
AT_ONCE = 256
"""Questions whose whole rankings are held at a time."""


class Lengths(NamedTuple):
    """Tokens of what prompts are made of.

    Attributes:
        blocks: int64 [pool], of each example.
        questions: int64 [questions], of each prompt without examples.
        budget: of a prompt at most.
    """

    blocks: Ints
    questions: Ints
    budget: int


def measure(task: Task, count: Count, budget: int) -> Lengths:
    """Tokens of a task's examples and questions.

    Raises:
        EvaluationError: a question alone is over the budget, or no example fits beside any of them.
    """
    questions = np.array(count([task.prompt(question, []) for question in task.questions]), np.int64)
    blocks = np.array(count([task.block(example) for example in task.pool]), np.int64)
    longest = int(questions.argmax())
    if questions[longest] > budget:
        raise EvaluationError(
            f"--budget {budget}: question {task.questions[longest].id} of {task.name} alone takes {questions[longest]} "
            f"tokens, without any example; allow at least {questions[longest] + blocks.min()}"
        )
    shortest, room = int(blocks.min()), budget - int(questions.min())
    if shortest > min(room, budget // LARGEST_PART):
        raise EvaluationError(
            f"--budget {budget}: no example of {task.name} fits: the shortest takes {shortest} tokens, and one may "
            f"take 1/{LARGEST_PART} of the budget and what questions leave of it, {room} at most; allow at least "
            f"{max(LARGEST_PART * shortest, int(questions.min()) + shortest)}"
        )
    return Lengths(blocks, questions, budget)


def vote_k(vectors: Vectors, size: int, votes: int = VOTES) -> Ints:
    """A pool that is worth its labels: central and diverse examples, by vote-k.

    Of H. Su et al., "Selective Annotation Makes Language Models Better Few-Shot Learners" (2022, arXiv 2209.01975),
    the form without a language model's confidence ("fast vote-k"): each example votes for its ``votes`` nearest. Again
    and again the example with the most votes is taken; a vote counts 1/10 for each example taken that the voter also
    voted for, and not at all once the voter itself is taken. Ties go to who had more votes at first, then to the first.

    Args:
        vectors: unit vectors [n, d].
        size: examples to take; all are taken where there are no more.
        votes: of each example; fewer where there are fewer others.

    Returns:
        int64 [size], in the order in which they were taken.
    """
    count = len(vectors)
    votes = min(votes, count - 1)
    if size >= count or votes == 0:
        return np.arange(count, dtype=np.int64)[:size]
    every = np.arange(count)
    voted = topk(vectors, vectors, votes, Exclusions(incidence(every, every, (count, count)))).ids
    at_first = np.bincount(voted.reshape(-1), minlength=count)
    # Whole numbers, so that sums are exact and ties are ties; a vote is worth nothing after so many tenths.
    weight = np.full(count, 10 ** (18 - len(str(count))), np.int64)
    scores = at_first * weight[0]
    taken: list[int] = []
    for _ in range(size):
        open_rows = np.setdiff1d(every, taken)
        best = open_rows[np.lexsort((open_rows, -at_first[open_rows], -scores[open_rows]))[0]]
        taken.append(int(best))
        voters = np.flatnonzero((voted == best).any(axis=1))
        after = weight.copy()
        after[voters] //= 10
        after[best] = 0
        changed = np.flatnonzero(after != weight)
        np.subtract.at(scores, voted[changed].reshape(-1), np.repeat((weight - after)[changed], votes))
        weight = after
    return np.array(taken, np.int64)


def within(order: Sequence[int], blocks: Ints, room: int, most: int) -> list[int]:
    """Examples in order of similarity as long as they fit, the most similar last.

    Args:
        order: numbers of examples, the most similar first; -1 ends them.
        blocks: tokens of each example.
        room: tokens of all of them at most.
        most: an example of more tokens is passed over; the first other one that does not fit ends the list.
    """
    chosen: list[int] = []
    for number in order:
        if number < 0:
            break
        if blocks[number] > most:
            continue
        room -= int(blocks[number])
        if room < 0:
            break
        chosen.append(int(number))
    return chosen[::-1]


def choose(
    task: Task, lengths: Lengths, pool: Vectors, questions: Vectors, kept: Ints, count: Count
) -> list[list[int]]:
    """The examples of each question's prompt, by number in the pool, the most similar last.

    A prompt never has more tokens than the budget, counted as a whole. An example with the question's own text would
    give its answer away and is never chosen.

    Args:
        task: the task.
        lengths: of its texts.
        pool: vectors of its pool.
        questions: vectors of its questions.
        kept: the examples of the pool that may be taken.
        count: counts tokens.
    """
    chosen = []
    most = lengths.budget // LARGEST_PART
    for row, order in enumerate(_rankings(task, pool, questions, kept)):
        chosen.append(within(order, lengths.blocks, lengths.budget - int(lengths.questions[row]), most))
    over = list(range(len(chosen)))
    while over:  # parts put together may have another number of tokens than the parts
        prompts = [task.prompt(task.questions[row], [task.pool[i] for i in chosen[row]]) for row in over]
        over = [
            row for row, length in zip(over, count(prompts), strict=True) if length > lengths.budget and chosen[row]
        ]
        for row in over:
            del chosen[row][0]
    return chosen


def same_texts(task: Task) -> tuple[Ints, Ints]:
    """Questions and examples of the pool with one text: their numbers, pair by pair."""
    where: dict[str, list[int]] = {}
    for number, example in enumerate(task.pool):
        where.setdefault(example.text, []).append(number)
    pairs = [(row, number) for row, question in enumerate(task.questions) for number in where.get(question.text, ())]
    rows, numbers = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, numbers


def _rankings(task: Task, pool: Vectors, questions: Vectors, kept: Ints) -> Iterator[list[int]]:
    """For each question the kept examples, the most similar first, without those of its own text; then -1."""
    rows, numbers = same_texts(task)
    own = incidence(rows, numbers, (len(questions), len(pool)))[:, kept]
    vectors = pool[kept]
    for start in range(0, len(questions), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        ids = topk(questions[part], vectors, len(kept), Exclusions(own[part])).ids
        yield from np.where(ids < 0, -1, kept[ids]).tolist()

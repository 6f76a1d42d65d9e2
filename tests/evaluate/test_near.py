"""Texts that are nearly the same as another: against a comparison of every text with every other one."""

import random
from itertools import pairwise

import numpy as np
import pytest

from medi_build.evaluate.contamination.near import near_copies

WORDS = [f"word{number}" for number in range(60)]


def words(text: str) -> list[str]:
    return "".join(one if one.isalnum() else " " for one in text.lower()).split()


def jaccard(left: list, right: list) -> float:
    return len({*left} & {*right}) / len({*left} | {*right})


def alike(left: str, right: str) -> bool:
    ours, theirs = words(left), words(right)
    if left == right or not ours or not theirs:
        return False
    if ours == theirs:
        return True
    pairs = [list(pairwise(one)) for one in (ours, theirs)]
    return min(len(ours), len(theirs)) >= 8 and jaccard(ours, theirs) >= 0.9 and jaccard(*pairs) >= 0.7


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_a_comparison_of_all_with_all_finds(seed: int) -> None:
    draw = random.Random(seed)
    texts = []
    for number in range(60):
        own = draw.choices(WORDS, k=draw.choice([3, 9, 30, 60]))
        texts.append(" ".join(own))
        if number % 3 == 0:
            own[draw.randrange(len(own))] = "other"
            texts.append(" ".join(own))
        if number % 5 == 0:
            texts += [texts[-1].upper() + "!", texts[-1]]
    draw.shuffle(texts)
    expected = [any(alike(text, other) for other in texts) for text in texts]
    found = near_copies(texts)
    assert found[~np.array(expected)].sum() == 0
    assert found.sum() >= 0.95 * sum(expected), "MinHash may miss one in fifty"
    assert 0 < sum(expected) < len(texts)


def test_what_is_the_same_letter_by_letter_is_one_text() -> None:
    assert near_copies(["the same"] * 5).tolist() == [False] * 5
    assert near_copies(["the same", "the same", "The same."]).tolist() == [True] * 3


def test_a_short_text_with_another_word_and_texts_without_words_are_no_copies() -> None:
    assert near_copies(["not good", "not bad", "...", "!!!", ""]).tolist() == [False] * 5
    assert near_copies([]).tolist() == [] and near_copies(["alone"]).tolist() == [False]


def test_each_of_many_copies_of_a_pattern_is_found() -> None:
    pattern = " ".join(WORDS[:30]) + " number {}"
    texts = [pattern.format(number) for number in range(300)] + [f"another text about {word}" for word in WORDS[30:]]
    assert near_copies(texts).tolist() == [True] * 300 + [False] * 30

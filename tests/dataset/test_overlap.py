"""Numbers of hashes, and which pairs repeat, beside Python's own dictionaries."""

import random
from pathlib import Path

import numpy as np

from medi_build.dataset.overlap import TextHashes, digest, number, overlaps_of, pair_digests, repeats
from medi_build.dataset.reader import open_dataset
from tests.dataset.built import write_built
from tests.dataset.release_files import LAMPS, rows_of_2023


def test_equal_texts_have_equal_numbers_and_others_have_others() -> None:
    chosen = random.Random(3)
    texts = [f"text {chosen.randrange(400)}" for _ in range(1000)]
    hashes = TextHashes()
    hashes.add(0, [digest(text) for text in texts])
    numbers = number(hashes.hashes)
    assert len(dict(zip(texts, numbers, strict=True))) == len(set(texts)) == numbers.max() + 1
    assert len(set(zip(texts, numbers.tolist(), strict=True))) == len(set(texts))
    assert not len(number(TextHashes().hashes))


def test_hashes_that_differ_in_one_half_differ() -> None:
    hashes = np.array([[1, 1], [1, 2], [2, 1], [1, 1]], np.uint64)
    assert number(hashes).tolist() == [0, 1, 2, 0]


def test_white_space_around_a_text_and_halves_of_a_surrogate_are_no_obstacle() -> None:
    assert digest(" lamp\n") == digest("lamp") != digest("la mp")
    assert digest("\ud800")
    assert pair_digests([digest("a")], [digest("b")]) != pair_digests([digest("b")], [digest("a")])


def test_a_pair_repeats_one_of_an_earlier_group_only() -> None:
    chosen = random.Random(4)
    groups = sorted(chosen.randrange(12) for _ in range(800))
    texts = [f"{chosen.randrange(300)}" for _ in groups]
    pairs = TextHashes()
    for group, text in zip(groups, texts, strict=True):
        pairs.add(group, [digest(text)])
    first: dict[str, int] = {}
    expected = [group > first.setdefault(text, group) for group, text in zip(groups, texts, strict=True)]
    assert repeats(pairs).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_a_query_counts_once_in_each_dataset(tmp_path: Path) -> None:
    """Dataset 1 asks it twice, with two answers; dataset 2 once, with one of them."""
    rows = [("Which lamp?", "red", "n"), ("Which lamp?", "blue", "n"), ("Which boat?", "old", "n")]
    records = rows_of_2023(LAMPS, rows, task_id=1)
    records += rows_of_2023(LAMPS, [("Which lamp? ", "blue", "n"), ("Which cup?", "old", "n")], task_id=2)
    records += rows_of_2023(LAMPS, [("Which road?", "long", "n")], task_id=3)
    built = open_dataset(write_built(tmp_path / "out", records))
    datasets = [(one.name, built.shards_of(one)) for one in built.manifest.datasets]
    told = [(o.name, o.shared_queries, o.repeated_pairs, o.shares_with) for o in overlaps_of(datasets)]
    assert told == [("toy/1", 1, 0, {"toy/2": 1}), ("toy/2", 1, 1, {"toy/1": 1})]
    assert not overlaps_of(datasets[2:])

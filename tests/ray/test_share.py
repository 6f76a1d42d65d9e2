"""Pieces of a dataset as tasks of a cluster."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from medi_build.errors import InputError
from medi_build.pipeline.executor.cluster import connected
from medi_build.pipeline.executor.ray_share import LARGE_BYTES, ray_share
from tests.ray.clusters import STORE_BYTES, add_node, started

pytestmark = pytest.mark.slow


class Piece(NamedTuple):
    numbers: np.ndarray  # type: ignore[type-arg]
    start: int


def total(piece: Piece) -> tuple[int, float]:
    assert isinstance(piece, Piece)
    if piece.start == 7:
        raise InputError("seven is a bad row")
    return piece.start, float(piece.numbers[piece.start :].sum())


class Size(NamedTuple):
    sent: np.ndarray | None  # type: ignore[type-arg]
    bytes: int


def sized(size: Size) -> np.ndarray:  # type: ignore[type-arg]
    return np.ones(size.bytes, np.int8)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with started() as cluster:
        add_node(cluster, tmp_path_factory.mktemp("cache"))
        with connected(cluster.address):
            yield


def test_results_come_in_the_order_of_the_items_whatever_is_sent(cluster: None) -> None:
    """Forty times an array of 9 MB in a store of 80 MB."""
    large, small = np.ones(LARGE_BYTES + 100, np.int64), np.arange(10)
    pieces = [Piece(small if number % 2 else large, number + 100 * (number == 7)) for number in range(40)]
    assert list(ray_share(total, iter(pieces))) == [total(piece) for piece in pieces]


def test_items_are_taken_as_there_is_room(cluster: None) -> None:
    taken = []

    def pieces() -> Iterator[Piece]:
        for number in range(100):
            taken.append(number)
            yield Piece(np.arange(10), number % 5)

    results = ray_share(total, pieces())
    next(results)
    assert len(taken) <= 8
    results.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_in_its_place(cluster: None) -> None:
    results = ray_share(total, (Piece(np.arange(10), number) for number in range(20)))
    assert [next(results)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(InputError, match="seven is a bad row"):
        next(results)


def test_what_is_larger_than_the_store_is_spilled(cluster: None) -> None:
    larger = STORE_BYTES * 9 // 8
    large = np.ones(larger, np.int8)
    assert [len(one) for one in ray_share(sized, [Size(large, larger), Size(large, 3)])] == [larger, 3]

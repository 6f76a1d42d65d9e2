"""Shares that do work in this process, as its tests need them."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def pickled(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """A map in which everything is pickled on its way there and back."""
    for item in items:
        there, sent = pickle.loads(pickle.dumps((function, item)))
        yield pickle.loads(pickle.dumps(there(sent)))

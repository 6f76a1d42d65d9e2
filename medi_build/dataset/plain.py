"""Differences between two pieces of plain data, such as the bases of two builds."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

MOST_SHOWN = 100
"""Characters of a value that are told."""
SHA256_LENGTH = 64


def differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """What is another one, as ``(dotted path, old, new)`` in the order of ``new``; None where there is nothing.

    An empty mapping or list is nothing. Lists are values, but for lists of mappings, whose places count as keys, and
    those of ``[file name, sha256]``, which count as mappings where no name repeats.
    """
    then, now = dict(_leaves(old)), dict(_leaves(new))
    return [
        (path, then.get(path), now.get(path))
        for path in dict.fromkeys((*now, *then))
        if then.get(path) != now.get(path)
    ]


def told(old: Any, new: Any) -> list[str]:
    """`differences`, each as ``where: old -> new``, long values shortened."""
    return [f"{path}: {_shown(before)} -> {_shown(after)}" for path, before, after in differences(old, new)]


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, list) and data and all(map(_is_digest, data)):
        named = dict(data)
        data = named if len(named) == len(data) else data
    if isinstance(data, list) and any(isinstance(one, Mapping) for one in data):
        data = {str(place): one for place, one in enumerate(data)}
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}".removeprefix("."))
    elif data not in ((), []):
        yield path, list(data) if isinstance(data, tuple) else data


def _is_digest(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], str) and len(value[1]) == SHA256_LENGTH


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"{text[:16]}..." if len(text) == SHA256_LENGTH and " " not in text else text[:MOST_SHOWN]

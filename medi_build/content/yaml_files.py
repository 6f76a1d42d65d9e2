"""YAML that a person wrote, or somebody who means harm: plain values alone, in bounded time and memory."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 22
MOST_DEPTH = 50
"""Lists and mappings inside each other."""
MOST_VALUES = 100_000
"""With aliases counted as what they stand for."""


class UnreadableYamlError(ValueError):
    """Text that is no YAML of ours; says why, and not in which file."""


def read_yaml(path: Path) -> Any:
    """The value that a YAML file holds: only dicts, lists, strings, numbers, booleans, dates, bytes and None.

    Raises:
        UnreadableYamlError: it is not valid YAML or not UTF-8, has a key twice or a tag that asks for an object, or is
            larger or deeper than content is.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UnreadableYamlError(f"larger than {MOST_BYTES:,} bytes, the most that is read; is it the right file?")
    try:
        text = content.decode("utf-8")
        _check(text)
        return yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: UTF-8, a date or a number that is none
        if isinstance(error, UnreadableYamlError):
            raise
        why = " ".join(str(error).replace(' in "<unicode string>",', " at").split())
        raise UnreadableYamlError(f"not valid YAML: {why}") from error


def _check(text: str) -> None:
    """Raise `UnreadableYamlError` where a file's values would be too deep or too many, before any is made."""
    open_counts: list[int] = [0]
    open_anchors: list[str | None] = [None]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_counts.append(1)
            open_anchors.append(event.anchor)
            if len(open_counts) > MOST_DEPTH + 1:
                raise UnreadableYamlError(f"deeper than {MOST_DEPTH} lists and mappings{event.start_mark}")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            count, anchor = open_counts.pop(), open_anchors.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_anchors:
                raise UnreadableYamlError(f"*{event.anchor} stands inside what it stands for{event.start_mark}")
            count, anchor = sizes.get(event.anchor or "", 1), None
        elif isinstance(event, yaml.ScalarEvent):
            count, anchor = 1, event.anchor
        else:
            continue
        if anchor is not None:
            sizes[anchor] = count
        open_counts[-1] += count
        if open_counts[-1] > MOST_VALUES:
            raise UnreadableYamlError(f"more than {MOST_VALUES:,} values, aliases counted as what they stand for")


class _UniqueKeys(yaml.CSafeLoader):
    """A safe loader for which a repeated key is an error, not a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # else the loader says so itself
                if key in seen:
                    raise yaml.YAMLError(f"key {key!r} stands twice in the mapping{node.start_mark}")
                seen.add(key)
        return super().construct_mapping(node, deep)

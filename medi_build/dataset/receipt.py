"""The receipt of a finished dataset."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from medi_build.content.cards import Licence
from medi_build.dataset.schema import Kind
from medi_build.files import FileEntry, plain_digest

MOST_SHOWN = 100
"""Characters of a value that changed."""
SHA256_LENGTH = 64


class Basis(BaseModel):
    """Everything that decides the files of a dataset: versions, settings and digests of inputs, as plain data.

    Attributes:
        build: what all datasets of a build have in common.
        dataset: what this one has of its own, its card without ``download`` among it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: dict[str, Any]
    dataset: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of it all."""
        return plain_digest({**self.build, **self.dataset})


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two pieces of plain data, each as ``where: old -> new``, in the order of ``new``."""
    then, now = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{where}: {_shown(then.get(where))} -> {_shown(now.get(where))}"
        for where in dict.fromkeys((*now, *then))
        if then.get(where) != now.get(where)
    ]


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """``(dotted path, value)`` of everything below; a list of ``[file name, sha256]`` counts as a mapping."""
    if isinstance(data, list) and data and all(isinstance(one, list) and len(one) == 2 for one in data):
        names = [str(name) for name, _ in data]
        if len(set(names)) == len(names):
            data = dict(zip(names, (value for _, value in data), strict=True))
    if isinstance(data, list) and any(isinstance(one, dict) for one in data):
        data = {str(number): one for number, one in enumerate(data)}
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, f"{path} {key}" if "." in key else f"{path}.{key}".removeprefix("."))
    else:
        yield path, list(data) if isinstance(data, tuple) else data


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"{text[:16]}..." if len(text) == SHA256_LENGTH and " " not in text else text[:MOST_SHOWN]


class Receipt(BaseModel):
    """One finished dataset; its file is the dataset's commit point.

    Attributes:
        basis: everything the result depends on.
        dataset: name.
        task_id: its id.
        kind: pair rule used.
        licence: of the rows: what the data states, else what the card does.
        instructions: every phrasing as ``[query side, document side]``.
        shards: Parquet files.
        fragment: its part of ``medi-data.json``; the digest is one over the rows, whatever the Parquet library.
        ledger: `medi_build.ledger.Ledger.to_dict`.
        after: where pairs were dropped that earlier datasets have, digest over what those were built from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    basis: Basis
    dataset: str
    task_id: int
    kind: Kind
    licence: Licence
    instructions: list[tuple[str, str]]
    shards: list[FileEntry]
    fragment: FileEntry
    ledger: dict[str, Any]
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of its basis."""
        return self.basis.fingerprint

    @property
    def rows(self) -> int:
        """Records written."""
        return self.fragment.rows

"""The receipt of a finished dataset."""

from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from medi_build.content.cards import Licence
from medi_build.dataset.schema import Kind
from medi_build.files import FileEntry, plain_digest


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
        explanations: of what was looked at for each record; none where that was not asked for.
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
    explanations: list[FileEntry] = []
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of its basis."""
        return self.basis.fingerprint

    @property
    def files(self) -> list[FileEntry]:
        """All of its files."""
        return [*self.shards, self.fragment, *self.explanations]

    @property
    def rows(self) -> int:
        """Records written."""
        return self.fragment.rows

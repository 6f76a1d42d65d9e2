"""Digests of what a result depends on: inputs, settings, versions. Never of source text."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medi_build.content.pipelines import Pipeline
from medi_build.dataset.manifest import WRITER_LIBRARIES
from medi_build.dataset.marks import Mark, marks_digest
from medi_build.errors import InputError, OutputError
from medi_build.files import file_digest, write_bytes
from medi_build.ingest.adapters.base import Inputs
from medi_build.pipeline.plan import Unit

STAGE_VERSIONS = {"adapt": 4, "sample": 1, "mine": 6, "write": 2}
"""Bumped by hand when a stage gives other rows for the same input."""


def basis_of_build(
    pipeline: Pipeline, encoders: Sequence[dict[str, Any]], batch_multiple: int, excluded: Sequence[str] = ()
) -> dict[str, Any]:
    """What decides all datasets of a build alike.

    Args:
        pipeline: with all overrides applied.
        encoders: what each encoder is (`medi_build.encode.encoder.Encoder.about`), the one that mines first.
        batch_multiple: the records of each dataset are cut to a multiple of this.
        excluded: identity of evaluation texts that stay out.
    """
    return {
        "stages": STAGE_VERSIONS,
        "split": pipeline.split,
        "encoders": list(encoders),
        "mining": pipeline.mining.model_dump(mode="json"),
        "mine_with_instructions": pipeline.mine_with_instructions,
        "instructions": pipeline.instructions.model_dump(mode="json"),
        "licence_policy": pipeline.licence_policy,
        "seed": pipeline.seed,
        "rows_per_shard": pipeline.rows_per_shard,
        "batch_multiple": batch_multiple,
        "excluded": list(excluded),
        "writers": {name: version(name) for name in WRITER_LIBRARIES},
    }


def basis_of_dataset(unit: Unit, inputs: Inputs, marks: Sequence[Mark] = ()) -> dict[str, Any]:
    """What decides one dataset beside that. Raises `InputError` if one of its files cannot be read."""
    marked = {"marks": marks_digest(marks)} if marks else {}
    return {
        # Where files came from decides nothing: what they hold is digested below.
        "card": unit.card.model_dump(mode="json", exclude={"download"}),
        "task_id": unit.task_id,
        "template": unit.template.model_dump(mode="json"),
        "cap": unit.cap,
        "rows": file_digests(inputs.rows, inputs.cache),
        "extra": {role: file_digests(paths, inputs.cache) for role, paths in sorted(inputs.extra.items())},
        **marked,
    }


def file_digests(paths: Iterable[Path], cache: Path) -> list[list[str]]:
    """``[file name, sha256]`` for each file. Raises `InputError` if one cannot be read.

    A digest is remembered in ``cache`` under the file's path, size and times of change, so that a 35 GB knowledge
    source is read once and not in every build. One of the times nobody can set: a file that was changed and got its old
    date is read again. A memory that is damaged is not believed.
    """
    return [[path.name, _file_digest(path, cache)] for path in paths]


def _file_digest(path: Path, cache: Path) -> str:
    try:
        return _remembered_digest(path, cache)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _remembered_digest(path: Path, cache: Path) -> str:
    stat = path.stat()
    key = hashlib.sha256(
        f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n{stat.st_ctime_ns}".encode()
    ).hexdigest()
    memo = cache / "digests" / key
    if memo.is_file():
        content = memo.read_bytes()
        digest = content.decode(errors="replace").partition(" ")[0]
        if content == _memory(key, digest):
            return digest
    digest = file_digest(path)
    with suppress(OutputError):  # a cache that cannot be written costs time, no more
        write_bytes(memo, _memory(key, digest), memo.parent)
    return digest


def _memory(key: str, digest: str) -> bytes:
    """What is remembered: a digest, and a check of it."""
    return f"{digest} {hashlib.sha256(f'{key} {digest}'.encode()).hexdigest()}".encode()

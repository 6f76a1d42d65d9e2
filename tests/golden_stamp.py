"""What the golden records were made of and with: digests that tell a change that was announced from one that was not.

A stage's version stands in the fingerprint of every dataset, so that a build does not take over what an older stage
has made. Records that change while their inputs and all versions stay the same would be taken over.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medi_build.files import plain_digest

RAISE = "raise the version of the stage that makes them in medi_build/pipeline/fingerprint.py"
REWRITE = "run `python -m tests.test_golden` and read the difference"


class Stamp(NamedTuple):
    """What golden records were made with.

    Attributes:
        stages: version of each stage.
        inputs: case -> digest of everything that decides its records but the code.
        records: case -> digest of its records.
    """

    stages: Mapping[str, int]
    inputs: Mapping[str, str]
    records: Mapping[str, str]


def stamped(stages: Mapping[str, int], inputs: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> Stamp:
    """The stamp of some records, each of which names its case as ``task_name``."""
    own: dict[str, list[Mapping[str, Any]]] = {name: [] for name in inputs}
    for row in records:
        own[row["task_name"]].append(row)
    return Stamp(dict(stages), dict(inputs), {name: plain_digest({"records": rows}) for name, rows in own.items()})


def unannounced(old: Stamp, new: Stamp) -> list[str]:
    """The cases whose records have changed, though neither their inputs nor a stage's version has."""
    versions = [(old.stages.get(stage, 0), version) for stage, version in new.stages.items()]
    if all(now >= then for then, now in versions) and any(now > then for then, now in versions):
        return []
    return [
        name
        for name, digest in new.records.items()
        if old.inputs.get(name) == new.inputs[name] and old.records[name] != digest
    ]

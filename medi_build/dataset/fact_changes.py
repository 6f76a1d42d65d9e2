"""What two manifests say differently: settings of the build; licence, instructions, card and inputs of a dataset."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from medi_build.dataset.reader import DatasetEntry, Manifest

FactKind = Literal["licence", "instructions", "card", "input", "mining", "settings"]
_MINING = {"mining", "encoder", "encoder_identity", "other_encoders", "prompts", "mine_with_instructions"}
"""Settings that decide which negatives are found."""


class FactChange(NamedTuple):
    """One fact that is another one.

    Attributes:
        kind: what it belongs to.
        key: its name, as it stands in a pipeline or card, with dots between the levels.
        old: None where there was none.
        new: None where there is none any more.
    """

    kind: FactKind
    key: str
    old: Any
    new: Any


def setting_changes(old: Manifest, new: Manifest) -> list[FactChange]:
    """Settings of the whole build, by their keys: those of the pipeline as it was run, encoders, versions."""
    before, after = _settings(old), _settings(new)
    return [
        FactChange("mining" if key.split(".")[0] in _MINING or key == "stages.mine" else "settings", key, *values)
        for key, values in _differences(before, after)
    ]


def dataset_changes(old: DatasetEntry, new: DatasetEntry) -> list[FactChange]:
    """Licence, instructions, card and raw files of one dataset; where a file was fetched from belongs to the card."""
    return [FactChange(_kind(key), key, *values) for key, values in _differences(_facts(old), _facts(new))]


def _settings(manifest: Manifest) -> dict[str, Any]:
    basis, pipeline = manifest.basis, manifest.pipeline
    own = {key: value for key, value in basis.items() if key not in pipeline and key != "encoders"}
    prompts = {name: sides.model_dump() for name, sides in manifest.prompts.items()}
    encoders = {"encoder_identity": manifest.encoder, "other_encoders": basis.get("encoders", [])[1:]}
    versions = {"medi_version": manifest.medi_version, "writers": manifest.writers}
    return dict(_flat({**own, **pipeline, **encoders, **versions, "prompts": prompts}))


def _facts(entry: DatasetEntry) -> dict[str, Any]:
    own = {name: getattr(entry, name) for name in ("task_id", "kind", "licence", "commercial_use")}
    instructions = [list(pair) for pair in entry.instructions]
    basis = {key: value for key, value in entry.basis.items() if key not in ("rows", "extra", "task_id")}
    files = {"rows": dict(entry.basis.get("rows", []))}
    extra = {role: dict(digests) for role, digests in entry.basis.get("extra", {}).items()}
    return dict(_flat({**own, **basis, "instructions": instructions, "card": entry.card, "input": files | extra}))


def _kind(key: str) -> FactKind:
    head = key.split(".", maxsplit=1)[0]
    if head in ("licence", "commercial_use"):
        return "licence"
    if head == "instructions":
        return "instructions"
    return "input" if head == "input" else "card"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their dotted keys; lists are values."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Keys in the order of the new side, then those that are gone."""
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):
            yield key, (old.get(key), new.get(key))

"""What two manifests say differently: settings of the build; licence, instructions, card and inputs of a dataset."""

from typing import Any, Literal, NamedTuple

from medi_build.dataset.plain import differences
from medi_build.dataset.reader import DatasetEntry, Manifest

FactKind = Literal["licence", "instructions", "card", "input", "mining", "settings"]
_MINING = {"mining", "encoder", "encoders", "prompts", "mine_with_instructions"}
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
    return [
        FactChange("mining" if key.split(".")[0] in _MINING or key == "stages.mine" else "settings", key, then, now)
        for key, then, now in differences(_settings(old), _settings(new))
    ]


def dataset_changes(old: DatasetEntry, new: DatasetEntry) -> list[FactChange]:
    """Licence, instructions, card and raw files of one dataset; where a file was fetched from belongs to the card."""
    return [FactChange(_kind(key), key, then, now) for key, then, now in differences(_facts(old), _facts(new))]


def _settings(manifest: Manifest) -> dict[str, Any]:
    basis, pipeline = manifest.basis, manifest.pipeline
    own = {key: value for key, value in basis.items() if key not in pipeline}
    prompts = {name: sides.model_dump() for name, sides in manifest.prompts.items()}
    versions = {name: getattr(manifest, name) for name in ("medi_version", "writers", "environment")}
    return {**own, **pipeline, **versions, "prompts": prompts}


def _facts(entry: DatasetEntry) -> dict[str, Any]:
    own = {name: getattr(entry, name) for name in ("task_id", "kind", "licence", "commercial_use")}
    instructions = [list(pair) for pair in entry.instructions]
    basis = {key: value for key, value in entry.basis.items() if key not in ("rows", "extra", "task_id")}
    files = {"rows": entry.basis.get("rows", []), **entry.basis.get("extra", {})}
    return {**own, **basis, "instructions": instructions, "card": entry.card, "input": files}


def _kind(key: str) -> FactKind:
    head = key.split(".", maxsplit=1)[0]
    if head in ("licence", "commercial_use"):
        return "licence"
    if head == "instructions":
        return "instructions"
    return "input" if head == "input" else "card"

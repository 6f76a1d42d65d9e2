"""The README.md of a built dataset: front matter for the hub's loaders, and what a reader wants to know."""

from collections.abc import Sequence
from typing import Any

import yaml

from medi_build.dataset.reader import DatasetEntry, ExcludedSet, Manifest, Overlap
from medi_build.dataset.sources import source_of
from medi_build.dataset.subsets import WHOLE, subset_names

SIZE_LIMITS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def dataset_card(manifest: Manifest) -> str:
    """Return the text of README.md, which follows from the manifest (its ``files`` apart)."""
    rows, datasets, pipeline = manifest.rows, manifest.datasets, manifest.pipeline
    front = {
        "configs": _configs(datasets),
        "tags": ["sentence-transformers", "text-embeddings", "medi"],
        "task_categories": ["sentence-similarity", "feature-extraction"],
        "size_categories": [SIZE_NAMES[sum(rows >= limit for limit in SIZE_LIMITS)]],
        "license": "other",
    }
    mining = pipeline["mining"]
    negatives = f"{mining['num_negatives']} hard negative(s)"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {pipeline['name']}: {rows:,} records of {len(datasets)} datasets",
        "",
        pipeline["description"].strip(),
        "",
        f"Mined with `{pipeline['encoder']['model']}`, preset `{mining['preset']}`, {negatives} per record, "
        f"seed {pipeline['seed']}. `manifest.json` holds every setting, file digest and count; `tasks.csv` tells "
        "which `task_id` is which dataset.",
        "",
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        'records = load_dataset("path/to/this/folder", split="train")',
        *(f'one = load_dataset("path/to/this/folder", "{name}", split="train")' for name in _subsets(datasets)[:1]),
        "```",
        "",
        "`query`, `pos` and `neg` are `[instruction, text]`. `medi-data.json` holds the same rows as one JSON array "
        "of `query, pos, neg, task_id`, the form that the public INSTRUCTOR trainer reads.",
        "",
        "## Datasets",
        "",
        _phrasing(pipeline["instructions"]["phrasing"], datasets),
        "",
        "| id | dataset | kind | records | licence | commercial use | query instruction | document instruction |",
        "|---:|---|---|---:|---|---|---|---|",
    ]
    for one in datasets:
        query, document = (text.replace("|", "\\|") for text in one.instructions[0])
        lines.append(
            f"| {one.task_id} | {one.name} | {one.kind} | {one.rows:,} | {one.licence} | {one.commercial_use} "
            f"| {query} | {document} |"
        )
    lines += ["", "## Shortcuts", "", *_shortcuts(datasets), ""]
    lines += ["## In common", "", *_in_common(pipeline["dedup"], manifest.overlaps), ""]
    lines += ["## Evaluation texts", "", *_kept_out(manifest.excluded), "", "## Sources", ""]
    lines += ["| dataset | source | revision | licence | citation |", "|---|---|---|---|---|"]
    lines += [_source(one) for one in datasets]
    return "\n".join(lines) + "\n"


def _subsets(datasets: Sequence[DatasetEntry]) -> list[str]:
    """Configurations of single datasets, of those that have records."""
    return [name for name, one in zip(subset_names(datasets), datasets, strict=True) if one.shards]


def _configs(datasets: Sequence[DatasetEntry]) -> list[dict[str, Any]]:
    """All datasets together, and each of them: what ``load_dataset`` takes as its second argument."""
    shards = [[shard.path for shard in one.shards] for one in datasets if one.shards]
    places: list[tuple[str, str | list[str]]] = [(WHOLE, "data/*.parquet")]
    places += zip(_subsets(datasets), shards, strict=True)
    return [{"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in places]


def _source(one: DatasetEntry) -> str:
    source = source_of(one)
    cells = [
        one.name,
        "<br>".join(source.places) or "own files",
        f"`{source.revision[:12]}`" if source.revision else "",
        one.licence,
        " ".join(one.card["citation"].split()),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _phrasing(chosen: str, datasets: Sequence[DatasetEntry]) -> str:
    """Which phrasing of the instructions the records have."""
    if chosen == "seeded":
        return "Instructions: phrasing `seeded`, one of the family's for each record by the seed; the first is shown."
    if chosen == "first":
        return "Instructions: phrasing `first`, the published form of each family."
    without = sum("no_definition" in one.ledger["notes"] for one in datasets)
    return (
        f"Instructions: phrasing `definition`, the first sentence of a task's own definition; {without} of "
        f"{len(datasets)} datasets have none and the phrasing `first`."
    )


def _shortcuts(datasets: Sequence[DatasetEntry]) -> list[str]:
    """The datasets in which a model could learn the length of a text in place of its meaning."""
    flagged = [one for one in datasets if one.ledger["notes"].get("length_shortcut")]
    if not flagged:
        return ["In no dataset does length alone tell positive from negative (AUC above 0.65)."]
    lines = ["Length alone tells positive from negative in these datasets (AUC above 0.65; 0.5 is none):", ""]
    return lines + [f"- **{one.name}**: {one.ledger['measures']['length_auc']:.2f}" for one in flagged]


def _kept_out(excluded: Sequence[ExcludedSet]) -> list[str]:
    """Which evaluations the texts were compared with."""
    if not excluded:
        return [
            "The texts were compared with no evaluation set; `medi contamination` does that, `--exclude-eval` drops."
        ]
    return [
        "Before mining, every query, positive and candidate was compared with these evaluation sets by `medi build "
        "--exclude-eval`: equal texts, near copies, shared runs of 13 words. Examples with one are dropped.",
        "",
        "| evaluation set | texts | examples dropped | SHA-256 of its texts |",
        "|---|---:|---:|---|",
        *(f"| {one.name} | {one.texts:,} | {one.dropped:,} | `{one.sha256[:16]}` |" for one in excluded),
    ]


def _in_common(dropped: bool, overlaps: Sequence[Overlap]) -> list[str]:
    """Which datasets share queries, and pairs."""
    if not overlaps:
        return ["No query stands in two datasets."]
    dedup = "none is left: they were dropped as `repeated_pair`" if dropped else "`--dedup` drops them"
    lines = [
        "Different queries that stand in another dataset, too, and records whose query and positive an earlier dataset "
        f"has ({dedup}). `shares with` names the datasets that share most queries.",
        "",
        "| dataset | queries | repeated pairs | shares with |",
        "|---|---:|---:|---|",
    ]
    for one in overlaps:
        others = ", ".join(f"{name} ({count:,})" for name, count in one.shares_with.items())
        lines.append(f"| {one.name} | {one.shared_queries:,} | {one.repeated_pairs:,} | {others} |")
    return lines

"""The README.md of a built dataset: front matter for the hub's loaders, and what a reader wants to know."""

from collections.abc import Mapping, Sequence

import yaml

from medi_build.content.cards import Card
from medi_build.content.pipelines import Pipeline
from medi_build.dataset.reader import ExcludedSet, Overlap
from medi_build.dataset.receipt import Receipt

SIZE_LIMITS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def dataset_card(
    pipeline: Pipeline,
    receipts: Sequence[Receipt],
    cards: Mapping[str, Card],
    overlaps: Sequence[Overlap],
    excluded: Sequence[ExcludedSet] = (),
) -> str:
    """Return the text of README.md; the same build gives the same text."""
    rows = sum(r.rows for r in receipts)
    front = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
        "tags": ["sentence-transformers", "text-embeddings", "medi"],
        "task_categories": ["sentence-similarity", "feature-extraction"],
        "size_categories": [SIZE_NAMES[sum(rows >= limit for limit in SIZE_LIMITS)]],
        "license": "other",
    }
    negatives = f"{pipeline.mining.num_negatives} hard negative(s)"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {pipeline.name}: {rows:,} records of {len(receipts)} datasets",
        "",
        pipeline.description.strip(),
        "",
        f"Mined with `{pipeline.encoder.model}`, preset `{pipeline.mining.preset}`, {negatives} per record, "
        f"seed {pipeline.seed}. `manifest.json` holds every setting, file digest and count; `tasks.csv` tells "
        "which `task_id` is which dataset.",
        "",
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        'records = load_dataset("path/to/this/folder", split="train")',
        "```",
        "",
        "`query`, `pos` and `neg` are `[instruction, text]`. `medi-data.json` holds the same rows as one JSON array "
        "of `query, pos, neg, task_id`, the form that the public INSTRUCTOR trainer reads.",
        "",
        "## Datasets",
        "",
        _phrasing(pipeline, receipts),
        "",
        "| id | dataset | records | licence | commercial use | query instruction | document instruction |",
        "|---:|---|---:|---|---|---|---|",
    ]
    for r in receipts:
        licence = r.licence
        query, document = (text.replace("|", "\\|") for text in r.instructions[0])
        lines.append(
            f"| {r.task_id} | {r.dataset} | {r.rows:,} | {licence.spdx} | {licence.commercial_use} "
            f"| {query} | {document} |"
        )
    lines += ["", "## Shortcuts", "", *_shortcuts(receipts), ""]
    lines += ["## In common", "", *_in_common(pipeline, overlaps), ""]
    lines += ["## Evaluation texts", "", *_kept_out(excluded), "", "## Sources", ""]
    lines += [f"- **{r.dataset}**: {cards[r.dataset].citation}" for r in receipts]
    return "\n".join(lines) + "\n"


def _phrasing(pipeline: Pipeline, receipts: Sequence[Receipt]) -> str:
    """Which phrasing of the instructions the records have."""
    chosen = pipeline.instructions.phrasing
    if chosen == "seeded":
        return "Instructions: phrasing `seeded`, one of the family's for each record by the seed; the first is shown."
    if chosen == "first":
        return "Instructions: phrasing `first`, the published form of each family."
    without = sum("no_definition" in r.ledger["notes"] for r in receipts)
    return (
        f"Instructions: phrasing `definition`, the first sentence of a task's own definition; {without} of "
        f"{len(receipts)} datasets have none and the phrasing `first`."
    )


def _shortcuts(receipts: Sequence[Receipt]) -> list[str]:
    """The datasets in which a model could learn the length of a text in place of its meaning."""
    flagged = [r for r in receipts if r.ledger["notes"].get("length_shortcut")]
    if not flagged:
        return ["In no dataset does length alone tell positive from negative (AUC above 0.65)."]
    lines = ["Length alone tells positive from negative in these datasets (AUC above 0.65; 0.5 is none):", ""]
    return lines + [f"- **{r.dataset}**: {r.ledger['measures']['length_auc']:.2f}" for r in flagged]


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


def _in_common(pipeline: Pipeline, overlaps: Sequence[Overlap]) -> list[str]:
    """Which datasets share queries, and pairs."""
    if not overlaps:
        return ["No query stands in two datasets."]
    dedup = "none is left: they were dropped as `repeated_pair`" if pipeline.dedup else "`--dedup` drops them"
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

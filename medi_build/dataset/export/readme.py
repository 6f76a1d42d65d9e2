"""The README.md of an export: front matter for ``load_dataset``, how its tool loads it, what is in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from medi_build.dataset.export.writers import ExportFormat, Notes, Subset
from medi_build.dataset.reader import DatasetEntry, Manifest
from medi_build.dataset.schema import RECORDS
from medi_build.dataset.subsets import WHOLE

LOAD: dict[ExportFormat, str] = {
    "medi-json": """
import json

rows = json.load(open("medi-data.json"))  # query, pos, neg: [instruction, text]; task_id
""",
    "jsonl": """
from datasets import load_dataset

every = load_dataset("path/to/this/folder", split="train")
one = load_dataset("path/to/this/folder", "{first}", split="train")
""",
    "sentence-transformers": """
import json
from datasets import load_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

prompts = json.load(open("path/to/this/folder/prompts.json"))
train = {{name: load_dataset("path/to/this/folder", name, split="train") for name in prompts}}
arguments = SentenceTransformerTrainingArguments("out", prompts=prompts)
trainer = SentenceTransformerTrainer(model, arguments, train_dataset=train, loss=loss)
""",
    "flagembedding": """
# in the arguments of FlagEmbedding.finetune.embedder; the first takes batches of one file, so of one dataset.
# An instruction has to be given for the `prompt` of each row to be read; none is used in its place.
--train_data path/to/this/folder/data --same_dataset_within_batch True --query_instruction_for_retrieval ""
""",
    "tevatron": """
# in the arguments of tevatron.driver.train; `:{first}` is one dataset, without it all are read.
# A name of exactly three parts between slashes would be taken for OWNER/NAME/SPLIT.
--dataset_name ./path/to/this/folder:{first}
""",
}
"""How each tool reads what was written for it."""


def export_card(
    manifest: Manifest,
    form: ExportFormat,
    subsets: Sequence[Subset],
    notes: Mapping[str, Notes],
    left_out: Sequence[DatasetEntry],
) -> str:
    """Return the text of README.md; the same export gives the same text."""
    rows = sum(subset.entry.rows for subset in subsets)
    language = "bash" if LOAD[form].lstrip().startswith("#") else "python"
    front = yaml.safe_dump(_front(form, subsets), sort_keys=False, width=1000).rstrip()
    lines = ["---", front, "---", ""] if form != "medi-json" else []
    lines += [
        f"# {manifest.pipeline['name']} for {form}: {rows:,} records of {len(subsets)} datasets",
        "",
        f"Made by `medi export --format {form}` from a build of {manifest.rows:,} records, digest "
        f"`{manifest.digest[:16]}`.",
        "",
        f"```{language}",
        LOAD[form].format(first=subsets[0].name).strip(),
        "```",
        "",
        *_told(form, notes),
        "## Datasets",
        "",
        "| subset | dataset | records | licence | commercial use | query instruction | document instruction |",
        "|---|---|---:|---|---|---|---|",
    ]
    for subset in subsets:
        one = subset.entry
        query, document = (text.replace("|", "\\|") for text in one.instructions[0])
        more = f" (and {len(one.instructions) - 1} other phrasings)" if len(one.instructions) > 1 else ""
        lines.append(
            f"| {subset.name} | {one.name} | {one.rows:,} | {one.licence} | {one.commercial_use} "
            f"| {query}{more} | {document}{more} |"
        )
    if left_out:
        lines += ["", "## Left out", "", "Their licence is not known to allow commercial use.", ""]
        lines += ["| dataset | licence | commercial use | records |", "|---|---|---|---:|"]
        lines += [f"| {one.name} | {one.licence} | {one.commercial_use} | {one.rows:,} |" for one in left_out]
    return "\n".join(lines) + "\n"


def _front(form: ExportFormat, subsets: Sequence[Subset]) -> dict[str, Any]:
    """For ``load_dataset``; the types of jsonl too, for nothing tells those of a list that is empty in all rows."""
    configs = _configs(form, subsets)
    if form != "jsonl":
        return {"configs": configs}
    features = [_feature(field) for field in RECORDS]
    return {
        "configs": configs,
        "dataset_info": [{"config_name": one["config_name"], "features": features} for one in configs],
    }


def _feature(field: pa.Field) -> dict[str, Any]:
    """A column as the hub's front matter has it."""
    if pa.types.is_list(field.type):
        return {"name": field.name, "list": str(field.type.value_type)}
    return {"name": field.name, "dtype": str(field.type)}


def _configs(form: ExportFormat, subsets: Sequence[Subset]) -> list[dict[str, Any]]:
    """One for each subset; and all together where they have the same columns."""
    path = "{}/train.parquet" if form == "sentence-transformers" else "data/{}.jsonl"
    every = [] if form == "sentence-transformers" else [(WHOLE, "data/*.jsonl")]
    places = [*every, *((subset.name, path.format(subset.name)) for subset in subsets)]
    return [{"config_name": name, "data_files": [{"split": "train", "path": place}]} for name, place in places]


def _told(form: ExportFormat, notes: Mapping[str, Notes]) -> list[str]:
    """What was done to instructions and negatives, a paragraph each."""
    lines = []
    joined = {name: one.in_text for name, one in notes.items() if one.in_text != "nothing"}
    if joined:
        every = "all subsets" if len(joined) == len(notes) else ", ".join(joined)
        sides = "Instructions" if "all" in joined.values() else "Instructions of documents"
        why = {
            "flagembedding": "FlagEmbedding takes an instruction for each row's query (`prompt`), none for documents",
            "tevatron": "Tevatron takes no instructions",
            "sentence-transformers": "records of one dataset have several phrasings, a prompt is one for all",
        }[form]
        lines += [f"{sides} stand in front of the texts, without a blank between, in {every}: {why}.", ""]
    filled = {name: one for name, one in notes.items() if one.filled}
    if filled:
        lines += ["Rows with fewer negatives than the others of their subset repeat theirs in turn:", ""]
        lines += [f"- **{name}**: {one.filled:,} rows, to {one.negatives} negatives" for name, one in filled.items()]
        lines += [""]
    return lines

"""What mteb's leaderboard wants to know of a model, as the Python that goes into a pull request to mteb."""

from pathlib import Path
from typing import Any, get_args

from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.mteb_model import known_facts, meta_of
from medi_build.evaluate.results import result_path
from medi_build.files import atomic_file

UNKNOWN = {
    "release_date": '"2026-01-31"',
    "languages": '["eng-Latn"]',
    "memory_usage_mb": "of the weights",
    "license": '"apache-2.0"',
    "open_weights": "whether anyone may download it",
    "public_training_code": "a URL",
    "public_training_data": "a URL",
    "training_datasets": "names of mteb's tasks whose data it was trained on, or an empty set",
}
"""Fields that no file of a model tells, and what goes there."""
HEAD = '''"""{name} for mteb: put this into mteb/models/model_implementations/ and fill in what is None.

The results of this run are in mteb's own format in {cache}/results/{folder}/{revision}.
mteb files results under the commit of the model, so name that folder after `revision` before you hand it in.
"""

from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

model = ModelMeta(
'''


def write_snippet(model: EvaluatedModel, out: Path, cache: str) -> Path:
    """Write ``mteb_model_meta.py`` beside a model's results.

    Args:
        model: the model.
        out: folder of results.
        cache: folder in it with mteb's.

    Raises:
        OutputError: it cannot be written.
    """
    path = result_path(out, "mteb", "_", model.about, model.instructions.source).parent.parent / "mteb_model_meta.py"
    with atomic_file(path) as file:
        file.write(snippet(model, cache).encode())
    return path


def snippet(model: EvaluatedModel, cache: str) -> str:
    """The text of the file."""
    meta, prompts = meta_of(model), _prompts(model)
    commit = model.about.get("revision")
    facts = known_facts(model)
    head = HEAD.format(name=meta.name, cache=cache, folder=meta.model_name_as_path(), revision=meta.revision)
    fields: list[tuple[str, Any, str]] = [
        ("loader", "SentenceTransformerEncoderWrapper", ""),
        *([("loader_kwargs", _nested({"model_prompts": prompts}), "")] if prompts else []),
        ("name", repr(meta.name), "" if commit else "its id on the hub"),
        ("revision", repr(commit), "" if commit else "the commit there"),
        *((name, repr(value), "" if value is not None else "could not be read") for name, value in facts.items()),
        *((name, "None", hint) for name, hint in UNKNOWN.items()),
        ("framework", '["Sentence Transformers", "PyTorch"]', ""),
        ("reference", repr(f"https://huggingface.co/{meta.name}" if commit else None), "" if commit else "a URL"),
        ("similarity_fn_name", "ScoringFunction.COSINE", ""),
        ("use_instructions", repr(bool(prompts)) if model.instructions.table else "None", ""),
    ]
    lines = [f"    {name}={value}," + (f"  # {hint}" if hint else "") for name, value, hint in fields]
    return head + "\n".join(lines) + "\n)\n"


def _prompts(model: EvaluatedModel) -> dict[str, str]:
    """The instructions as mteb's wrapper takes them; empty where the model's saved ones or none are used."""
    from mteb.abstasks.task_metadata import TaskType

    table, kinds = model.instructions.table, get_args(TaskType)
    if table is None:
        return {}
    prompts: dict[str, str] = {}
    for name, sides in [*((k, s) for k, s in table.task_types.items() if k in kinds), *table.tasks.items()]:
        if sides.document is None:
            prompts[name] = sides.query
        else:
            prompts |= {f"{name}-query": sides.query, f"{name}-document": sides.document}
    return {name: text for name, text in prompts.items() if text}


def _nested(value: dict[str, dict[str, str]]) -> str:
    lines = [f"            {name!r}: {text!r}," for name, text in value["model_prompts"].items()]
    return "dict(\n        model_prompts={\n" + "\n".join(lines) + "\n        },\n    )"

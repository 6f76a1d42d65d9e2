"""Saving an encoder so that sentence-transformers, or the public InstructorEmbedding 1.0.1, loads it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medi_build.encode.window import table_of_positions
from medi_build.errors import TrainError
from medi_build.files import move_into, remove_left_behind, replacing
from medi_build.train.settings import Form

_PUBLIC_CLASSES = {
    "Transformer": "InstructorEmbedding.instructor.INSTRUCTOR_Transformer",
    "Pooling": "InstructorEmbedding.instructor.INSTRUCTOR_Pooling",
}
_NEW_TOKENIZER_KEYS = {"backend", "is_local", "local_files_only"}
_OLD_TOKENIZERS = {
    "t5": "T5Tokenizer",
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    **dict.fromkeys(("albert", "electra", "mpnet", "roberta", "xlm-roberta"), "PreTrainedTokenizerFast"),
}
"""Networks that InstructorEmbedding 1.0.1 on transformers 4.28 was tried with, and the tokenizer class it is told."""
_WHOLE = "model"
"""In the name of the folder in which a model is saved before its files are moved to where they belong."""
_LAST = ("modules.json", "config.json")
"""Without these nobody takes a folder for a model; with the first alone loading fails, with the second alone it does
not, and the pooling is lost."""
_OLD_WINDOW = 512
_CLS = "pooling_mode_cls_token"
"""Never true: the old package takes the first token of the instruction, not of the text."""
_OLD_MODES = {
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


def save_model(model: Any, folder: Path, form: Form = "sentence-transformers") -> None:
    """Save a model.

    Args:
        model: a SentenceTransformer: transformer, pooling, and optionally Dense and Normalize.
        folder: gets the files; what lies there besides stays. Until the last is in its place no reader finds a model
            there, neither half of this one nor half of one that was there before.
        form: "sentence-transformers" (its pooling config says ``include_prompt``), or "instructor": configs and
            weights as sentence-transformers 2.2 wrote them, which InstructorEmbedding 1.0.1 reads. It raises on
            ``include_prompt`` and knows only two keys of the transformer's config. The first two modules are named
            by that package's classes, so that sentence-transformers refuses the folder: it would load it with the
            instruction in the pooling, without a word. The folder is made anew, whole or not at all.

    Raises:
        TrainError: the old package knows no such model; nothing is written.
        OSError: the disk is full or the folder is not writable.
    """
    if form == "sentence-transformers":
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder, _WHOLE)
        part = folder / f".{_WHOLE}.{os.getpid()}.tmp"
        try:
            model.save_pretrained(str(part), create_model_card=False)
            move_into(part, folder, last=_LAST)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return
    if faults := not_for_instructor(model):
        raise TrainError("; ".join(faults))
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(folder.parent, folder.name)
    with replacing(folder) as part:
        part.mkdir()
        _save_for_instructor(model, part)
        if folder.is_dir():
            shutil.rmtree(folder)


def not_for_instructor(model: Any) -> list[str]:
    """Why InstructorEmbedding 1.0.1 cannot load a model, or would give other vectors; nothing if it can."""
    names = [type(module).__name__ for module in model]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= {"Dense", "Normalize"}:
        return [f"InstructorEmbedding loads Transformer, Pooling, Dense and Normalize, but this is {', '.join(names)}"]
    transformer, pooling = model[0], model[1]
    faults = []
    kind = transformer.auto_model.config.model_type
    if kind not in _OLD_TOKENIZERS:
        faults.append(f"InstructorEmbedding loads no {kind} network; it loads {', '.join(sorted(_OLD_TOKENIZERS))}")
    if not getattr(transformer.tokenizer, "is_fast", False):
        faults.append("InstructorEmbedding needs a tokenizer.json, which this model's tokenizer has not")
    if unknown := sorted(set(_modes(pooling)) - set(_OLD_MODES)):
        faults.append(
            f"InstructorEmbedding cannot leave the instruction out of pooling {', '.join(unknown)}; it can with "
            f"{', '.join(_OLD_MODES)}"
        )
    if model.truncate_dim is not None:
        faults.append(
            f"the vectors are cut to truncate_dim {model.truncate_dim}, which InstructorEmbedding cannot; take "
            "truncate_dim out of the model's config_sentence_transformers.json"
        )
    positions = table_of_positions(transformer.auto_model)
    if positions is not None and positions < _OLD_WINDOW:
        faults.append(
            f"InstructorEmbedding always takes {_OLD_WINDOW} tokens, but the model has {positions} positions, so that "
            "longer texts are errors there"
        )
    return faults


def _modes(pooling: Any) -> list[str]:
    return [pooling.pooling_mode] if isinstance(pooling.pooling_mode, str) else list(pooling.pooling_mode)


def _save_for_instructor(model: Any, folder: Path) -> None:
    listed = []
    for index, module in enumerate(model):
        name = type(module).__name__
        path = folder / f"{index}_{name}" if index else folder
        path.mkdir(exist_ok=True)
        _SAVERS[name](module, path)
        kind = _PUBLIC_CLASSES.get(name, f"sentence_transformers.models.{name}")
        listed.append({"idx": index, "name": str(index), "path": path.name if index else "", "type": kind})
    _write_json(folder / "modules.json", listed)
    _write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.2.2"}})


def _save_transformer(module: Any, folder: Path) -> None:
    config = module.auto_model.config.to_dict()
    config["torch_dtype"] = "float32"
    for name in ("dtype", "transformers_version", "_name_or_path"):
        config.pop(name, None)
    _write_json(folder / "config.json", config)
    torch.save(_own_weights(module.auto_model), folder / "pytorch_model.bin")
    module.tokenizer.save_pretrained(str(folder))
    _older_tokenizer(folder, str(config["model_type"]))
    lower = bool(getattr(module, "do_lower_case", False))
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": module.max_seq_length, "do_lower_case": lower})


def _older_tokenizer(folder: Path, model_type: str) -> None:
    """Say what transformers 4 and tokenizers 0.13 understand: class names, older forms of Metaspace and merges."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in config.items() if isinstance(value, str | int | float)}
    kept["tokenizer_class"] = _OLD_TOKENIZERS[model_type]
    _write_json(path, {name: value for name, value in kept.items() if name not in _NEW_TOKENIZER_KEYS})
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"), object_hook=_older_part)
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _older_part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "BPE":
        return {**part, "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in part["merges"]]}
    if part.get("type") != "Metaspace":
        return part
    prefix = part.get("prepend_scheme", "always") != "never"
    return {"type": "Metaspace", "replacement": part["replacement"], "add_prefix_space": prefix}


def _save_pooling(module: Any, folder: Path) -> None:
    flags = {_CLS: False, **{old: mode in _modes(module) for mode, old in _OLD_MODES.items()}}
    _write_json(folder / "config.json", {"word_embedding_dimension": module.embedding_dimension, **flags})


def _save_dense(module: Any, folder: Path) -> None:
    activation = type(module.activation_function)
    config = {
        "in_features": module.in_features,
        "out_features": module.out_features,
        "bias": module.bias,
        "activation_function": f"{activation.__module__}.{activation.__name__}",
    }
    _write_json(folder / "config.json", config)
    torch.save(_own_weights(module), folder / "pytorch_model.bin")


def _own_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().float().contiguous() for name, value in module.state_dict().items()}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


_SAVERS: dict[str, Callable[[Any, Path], None]] = {
    "Transformer": _save_transformer,
    "Pooling": _save_pooling,
    "Dense": _save_dense,
    "Normalize": lambda module, folder: None,
}

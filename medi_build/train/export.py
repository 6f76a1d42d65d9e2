"""Saving an encoder so that sentence-transformers, or the public InstructorEmbedding 1.0.1, loads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medi_build.errors import TrainError
from medi_build.train.settings import Form

_PUBLIC_CLASSES = {
    "Transformer": "InstructorEmbedding.instructor.INSTRUCTOR_Transformer",
    "Pooling": "InstructorEmbedding.instructor.INSTRUCTOR_Pooling",
}
_NEW_TOKENIZER_KEYS = {"backend", "is_local", "local_files_only"}
_OLD_MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


def save_model(model: Any, folder: Path, form: Form = "sentence-transformers") -> None:
    """Save a model.

    Args:
        model: a SentenceTransformer: transformer, pooling, and optionally Dense and Normalize.
        folder: gets the files.
        form: "sentence-transformers" (its pooling config says ``include_prompt``), or "instructor": configs and
            weights as sentence-transformers 2.2 wrote them, which InstructorEmbedding 1.0.1 reads. It raises on
            ``include_prompt`` and knows only two keys of the transformer's config. The first two modules are named
            by that package's classes, so that sentence-transformers refuses the folder: it would load it with the
            instruction in the pooling, without a word.

    Raises:
        TrainError: the old package knows no such model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if form == "sentence-transformers":
        model.save_pretrained(str(folder), create_model_card=False)
        return
    names = [type(module).__name__ for module in model]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= {"Dense", "Normalize"}:
        raise TrainError(
            f"InstructorEmbedding loads Transformer, Pooling, Dense and Normalize, but this is {', '.join(names)}"
        )
    listed = []
    for index, (module, name) in enumerate(zip(model, names, strict=True)):
        path = folder / f"{index}_{name}" if index else folder
        path.mkdir(exist_ok=True)
        _SAVERS[name](module, path)
        kind = _PUBLIC_CLASSES.get(name, f"sentence_transformers.models.{name}")
        listed.append({"idx": index, "name": str(index), "path": path.name if index else "", "type": kind})
    _write_json(folder / "modules.json", listed)
    _write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.2.2"}})


def merge_adapters(model: torch.nn.Module) -> None:
    """Add low-rank adapters to the weights they sit on, and take them away: what is left is an ordinary model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.integrations import PeftAdapterMixin

    parent: Any
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    for parent in model.modules():
        if isinstance(parent, PeftAdapterMixin) and (adapters := getattr(parent, "peft_config", None)):
            parent.delete_adapter(list(adapters))
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _save_transformer(module: Any, folder: Path) -> None:
    config = module.auto_model.config.to_dict()
    config["torch_dtype"] = "float32"
    for name in ("dtype", "transformers_version", "_name_or_path"):
        config.pop(name, None)
    _write_json(folder / "config.json", config)
    torch.save(_own_weights(module.auto_model), folder / "pytorch_model.bin")
    module.tokenizer.save_pretrained(str(folder))
    _older_tokenizer(folder, str(config["model_type"]))
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": module.max_seq_length, "do_lower_case": False})


def _older_tokenizer(folder: Path, model_type: str) -> None:
    """Say what transformers 4 and tokenizers 0.13 understand: class names of models, Metaspace's older field."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in config.items() if isinstance(value, str | int | float)}
    kept["tokenizer_class"] = {"t5": "T5Tokenizer", "bert": "BertTokenizer"}.get(model_type, config["tokenizer_class"])
    _write_json(path, {name: value for name, value in kept.items() if name not in _NEW_TOKENIZER_KEYS})
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"), object_hook=_older_metaspace)
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _older_metaspace(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "Metaspace":
        return part
    prefix = part.get("prepend_scheme", "always") != "never"
    return {"type": "Metaspace", "replacement": part["replacement"], "add_prefix_space": prefix}


def _save_pooling(module: Any, folder: Path) -> None:
    modes = [module.pooling_mode] if isinstance(module.pooling_mode, str) else list(module.pooling_mode)
    if unknown := sorted(set(modes) - set(_OLD_MODES)):
        raise TrainError(f"InstructorEmbedding knows no pooling {', '.join(unknown)}; it knows {', '.join(_OLD_MODES)}")
    flags = {old: mode in modes for mode, old in _OLD_MODES.items()}
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

"""Low-rank adapters (LoRA) for training: which layers get one, and what is trained then."""

from pathlib import Path
from typing import Any

from torch import nn

from medi_build.errors import TrainError, did_you_mean

ALL = "all-linear"


def lora_layers(network: nn.Module, asked: str | None = None) -> list[str]:
    """The linear layers that get an adapter, by their full names.

    If none are asked for: those that PEFT has for the architecture, mostly the attention's query and value as in the
    LoRA paper; for one that PEFT has nothing for, all. Poolers are left out, since no vector passes through them.

    Args:
        network: the transformer.
        asked: last parts of names, separated by commas, as in "query,value"; or `ALL`.

    Raises:
        TrainError: a name is that of no linear layer; lists those there are.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    layers = _linear_layers(network)
    if asked is None:
        known = KNOWN.get(str(getattr(network.config, "model_type", "")))
        return (_named(layers, known) if isinstance(known, list) else []) or layers
    if asked == ALL:
        return layers
    names = [name.strip() for name in asked.split(",")]
    if missing := [name for name in names if not _named(layers, [name])]:
        there = sorted({layer.rpartition(".")[2] for layer in layers})
        raise TrainError(
            f"lora_targets: {', '.join(map(repr, missing))} is the name of no linear layer of this model; there are "
            f"{', '.join(there)}, or {ALL}{did_you_mean(missing[0], there)}"
        )
    return _named(layers, names)


def add_lora(model: Any, base: Path, rank: int, layers: list[str]) -> str:
    """Put new adapters on the layers of a model's transformer; nothing but them is trained from here on.

    Args:
        model: a SentenceTransformer.
        base: folder of the transformer as it is now, which checkpoints are going to name.
        rank: of the adapters.
        layers: as `lora_layers` gives them.

    Returns:
        A line that says what is trained.
    """
    from peft import LoraConfig, TaskType

    network = model[0].auto_model
    network.name_or_path = str(base.absolute())
    model.add_adapter(
        LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=rank, lora_alpha=2 * rank, target_modules=layers)
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    whole = sum(one.numel() for one in model.parameters()) - trained
    names = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers}))
    return f"LoRA of rank {rank} on {len(layers)} layers ({names}): {trained:,} weights are trained, {whole:,} are not"


def _linear_layers(network: nn.Module) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and "pooler" not in name.split(".")
    ]


def _named(layers: list[str], names: list[str]) -> list[str]:
    """The layers that end in one of the names, as PEFT understands them."""
    return [layer for layer in layers if any(layer == name or layer.endswith(f".{name}") for name in names)]

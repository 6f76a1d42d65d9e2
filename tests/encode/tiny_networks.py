"""A tiny random encoder of each architecture, saved as sentence-transformers saves it, and adapters for it."""

from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import PreTrainedTokenizerFast

from tests.encode.tiny_models import SMALL, letters_tokenizer, save_encoder

COMMON = {
    **SMALL,
    "max_position_embeddings": 514,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "Bert": COMMON,
    "Roberta": COMMON,
    "MPNet": COMMON,
    "ModernBert": COMMON,
    "Electra": {**COMMON, "embedding_size": 16},
    "Albert": {**COMMON, "embedding_size": 16},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 514,
                   "pad_token_id": 1},
    "T5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 1},
}  # fmt: skip


def network_of(kind: str, seed: int) -> tuple[Any, PreTrainedTokenizerFast]:
    """A network of an architecture, and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = letters_tokenizer()
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **CONFIGS[kind])
    network = getattr(transformers, "T5EncoderModel" if kind == "T5" else f"{kind}Model")(config)
    for parameter in network.parameters():  # as large as trained ones, so that an adapter is seen in the vectors
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network, tokenizer


def save_backbone(folder: Path, kind: str, seed: int = 0) -> Path:
    """The transformer alone, as transformers saves it."""
    for part in network_of(kind, seed):
        part.save_pretrained(folder)
    return folder


def save_network(folder: Path, kind: str, pooling: str = "mean", seed: int = 0, **options: Any) -> Path:
    """A whole encoder; further options are the pooling's."""
    return save_encoder(folder, *network_of(kind, seed), 64, Pooling(32, pooling, **options))


def lora(model: Any, seed: int = 5, **options: Any) -> Any:
    """A LoRA adapter with random weights on a SentenceTransformer, in place."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    config = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "init_lora_weights": False, **options}
    model.add_adapter(LoraConfig(task_type="FEATURE_EXTRACTION", **config))
    return model.eval()


def save_adapter(base: Path, folder: Path, **options: Any) -> Path:
    """The base's encoder with an adapter, as sentence-transformers saves it."""
    lora(SentenceTransformer(str(base), device="cpu"), **options).save(str(folder))
    return folder


def save_bare_adapter(base: Path, folder: Path, seed: int = 5, **options: Any) -> Path:
    """An adapter alone, as PEFT saves it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    network = SentenceTransformer(str(base), device="cpu")[0].auto_model
    config = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "init_lora_weights": False, **options}
    get_peft_model(network, LoraConfig(task_type="FEATURE_EXTRACTION", **config)).save_pretrained(str(folder))
    return folder

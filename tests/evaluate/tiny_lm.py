"""Small causal language models with random weights, saved to disk the way real ones are."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.encode.tiny_models import unigram_tokenizer

TEXT = "How do you feel about the following sentence? very negative neutral positive answer: True False SELECT FROM"


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Like GPT-2's: nothing is put at either end, and there is no token to pad with."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def save_gpt2(folder: Path, window: int = 1024, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = byte_level_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=window, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5
    )
    return save(folder, GPT2LMHeadModel(config), tokenizer)


def save_llama(folder: Path, seed: int = 0) -> Path:
    """With a tokenizer that closes every text with an end of its own."""
    torch.manual_seed(seed)
    tokenizer = unigram_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.5, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return save(folder, LlamaForCausalLM(config), tokenizer)


def save(folder: Path, network: Any, tokenizer: Any) -> Path:
    network.generation_config.eos_token_id = None  # or a random model soon has said everything
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""Small encoders with random weights, saved to disk the way real ones are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

TEXTS = [
    "The heron waits in the reeds until the water is still.",
    "Copper pans need lemon and salt.",
    "",
    "A",
    "Two ferries cross the strait every hour, three in summer, none in a storm.",
    "   leading and trailing blanks   ",
    "Who repaired the harbour clock?",
    " ".join(["The orchard keeper counts the crates before the frost."] * 9),
    "naïve café Ω 漢字",
    " ".join(["long"] * 400),
    "Copper pans need lemon and salt!",
    "One pan.",
]
INSTRUCTION = "Represent the sentence for retrieval;"
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
"""The size of a network, under the names that most configurations have for it."""


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """A T5-like tokenizer (metaspace, closing </s>) over letters and a few pieces."""
    pieces = ["▁the", "▁for", "er", "en", "▁Repr", "sent", ";T", "ing", "ou", "▁sen", "tence"]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:!? ▁"))
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    vocabulary += [(piece, -2.0) for piece in pieces] + [(letter, -4.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def word_piece_tokenizer(words: list[str], **special: str) -> PreTrainedTokenizerFast:
    """A BERT-like tokenizer; ``special`` names the tokens for unk, cls, sep and pad, all of them among the words."""
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token=special["unk_token"]))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    closing, opening = ((special[name], words.index(special[name])) for name in ("sep_token", "cls_token"))
    core.post_processor = processors.BertProcessing(closing, opening)
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def letters_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each letter and digit, with RoBERTa's special tokens."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,;:!?"]
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters, *("##" + c for c in letters)]
    return word_piece_tokenizer(words, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>")


def save_encoder(folder: Path, network: Any, tokenizer: Any, window: int | None, *after: Any) -> Path:
    """A network and the modules after it, as sentence-transformers saves them."""
    backbone = folder.with_name(folder.name + "-backbone")
    network.save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    modules = [Transformer(str(backbone), max_seq_length=window), *after]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def save_t5(folder: Path, tokenizer: Any, seed: int = 0, window: int = 64) -> Path:
    """A T5 encoder of two layers with mean pooling, Dense and Normalize, the instruction left out of the pooling."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    network = T5EncoderModel(config)
    pooling = Pooling(32, "mean", include_prompt=False)
    dense = Dense(32, 24, bias=False, activation_function=torch.nn.Identity())
    return save_encoder(folder, network, tokenizer, window, pooling, dense, Normalize())


def save_bert(folder: Path, pooling: str, seed: int = 0, window: int = 48) -> Path:
    """A BERT of two layers with the given pooling."""
    torch.manual_seed(seed)
    letters = [*"abcdefghijklmnopqrstuvwxyz.,;:!?"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "copper", "##er", "##ing"]
    words += [*letters, *("##" + c for c in letters)]
    tokenizer = word_piece_tokenizer(words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    tokenizer.model_max_length = window
    network = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=window, **SMALL))
    return save_encoder(folder, network, tokenizer, window, Pooling(32, pooling))


def save_byte_level(folder: Path, include_prompt: bool = True) -> Path:
    """A RoBERTa with a byte-level BPE tokenizer, in which every blank, tab and line break is part of a token."""
    torch.manual_seed(7)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*TEXTS, INSTRUCTION, "query: text", "passage: text"], trainer)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", cls_token="<s>",
        eos_token="</s>", sep_token="</s>",
    )  # fmt: skip
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **SMALL)
    pooling = Pooling(32, "mean", include_prompt=include_prompt)
    return save_encoder(folder, RobertaModel(config), tokenizer, 64, pooling)


def save_roberta(folder: Path, kind: str, positions: int, window: int | None) -> Path:
    """A network of "RoBERTa", "XLM-RoBERTa" or "MPNet" with mean pooling; ``window`` is the saved max_seq_length."""
    torch.manual_seed(3)
    tokenizer = letters_tokenizer()
    network, config = {
        "RoBERTa": (RobertaModel, RobertaConfig),
        "XLM-RoBERTa": (XLMRobertaModel, XLMRobertaConfig),
        "MPNet": (MPNetModel, MPNetConfig),
    }[kind]
    made = network(config(vocab_size=len(tokenizer), max_position_embeddings=positions, pad_token_id=1, **SMALL))
    return save_encoder(folder, made, tokenizer, window, Pooling(32, "mean"))


def peer_vectors(folder: Path, texts: Sequence[str], instruction: str = "", window: int | None = None) -> Any:
    """What sentence-transformers makes of the texts, normalised, float32 [n, d].

    The texts are stripped where the pooling leaves the instruction out, as InstructorEmbedding strips them.
    """
    peer = SentenceTransformer(str(folder), device="cpu")
    peer.max_seq_length = window or peer.max_seq_length
    kept = all(module.include_prompt for module in peer if isinstance(module, Pooling))
    given = list(texts) if kept else [text.strip() for text in texts]
    return peer.encode(given, prompt=instruction or None, normalize_embeddings=True, batch_size=4)


def edit_json(path: Path, **changes: Any) -> None:
    """Replace (or with None remove) keys of a JSON file."""
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

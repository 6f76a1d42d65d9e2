"""The window of a model in tokens, and how far its positions reach."""

from typing import TYPE_CHECKING, Any

from medi_build.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NO_WINDOW = 1 << 30
"""Tokenizers without a limit name one beyond this."""
_DEFAULT_WINDOW = 512


def window_of(model: "SentenceTransformer", name: str, max_tokens: int | None) -> int:
    """The window in tokens: the one asked for, else the model's own, as far as it has a table of positions.

    Raises:
        EncoderError: the model has no positions for as many tokens as are asked for.
    """
    network = model[0].auto_model
    table = table_of_positions(network)
    if max_tokens is None:
        own = model.max_seq_length or NO_WINDOW
        own = _DEFAULT_WINDOW if own >= NO_WINDOW and table is None else int(min(own, NO_WINDOW))
        return own if table is None else min(own, table)
    positions = table or getattr(network.config, "max_position_embeddings", None)
    if positions is not None and max_tokens > positions:
        raise EncoderError(
            f"{name}: max_tokens {max_tokens} is more than the {positions} positions of the model; ask for at most that"
        )
    return max_tokens


def set_window(model: "SentenceTransformer", name: str, max_tokens: int | None) -> None:
    """Make the window of `window_of` the model's own; one without any limit keeps none.

    Raises:
        EncoderError: it has no positions for so many tokens, or no transformer that they could be counted for.
    """
    from sentence_transformers.sentence_transformer.modules import Transformer

    if isinstance(model[0], Transformer) and model[0].tokenizer is not None:
        if max_tokens is not None or is_limited(model):
            model.max_seq_length = window_of(model, name, max_tokens)
    elif max_tokens is not None:
        raise EncoderError(
            f"{name}: max_tokens is {max_tokens}, but the model begins with {type(model[0]).__name__} and not with a "
            "transformer whose window could be set; leave max_tokens out"
        )


def is_limited(model: "SentenceTransformer") -> bool:
    """Whether a transformer's window is set, or follows from its positions."""
    return (model.max_seq_length or NO_WINDOW) < NO_WINDOW or table_of_positions(model[0].auto_model) is not None


def table_of_positions(network: Any) -> int | None:
    """Tokens that a table of absolute positions has room for; None for a network without one.

    Networks of RoBERTa's kind (XLM-RoBERTa, MPNet, CamemBERT, Longformer, ...) count from the place after that of
    padding.
    """
    from torch.nn import Embedding

    most = getattr(network.config, "max_position_embeddings", None)
    for name, module in network.named_modules():
        if name.rpartition(".")[2] != "position_embeddings" or not isinstance(module, Embedding):
            continue
        if module.num_embeddings == most:
            return int(most) - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None

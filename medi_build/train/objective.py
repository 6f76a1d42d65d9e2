"""The INSTRUCTOR training objective over a batch of texts, plain or with gradient caching.

All columns of a batch are encoded as one list of texts, sorted by length and cut into chunks by a budget of
tokens, so that hardly any padding is computed. The order of the rows does not change the loss.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.util.distributed import all_gather, all_gather_with_grad, get_world_size
from torch import Tensor, nn
from torch.nn import functional

from medi_build.errors import TrainError
from medi_build.train.loss import instructor_loss
from medi_build.train.minibatches import Features, minibatch, minibatch_ranges


def merge_columns(columns: Iterable[Features]) -> tuple[dict[str, Tensor], Tensor]:
    """Put all columns' texts into one batch, shortest first.

    Args:
        columns: tokenised columns, right-padded, each to its own width.

    Returns:
        The merged features, and ``order`` [n] int64: merged row ``i`` is row ``order[i]`` of the columns laid end
        to end.
    """
    columns = list(columns)
    width = max(column["input_ids"].shape[1] for column in columns)
    merged = {
        key: torch.cat(
            [
                functional.pad(column[key], (0, width - column[key].shape[1])) if column[key].ndim == 2 else column[key]
                for column in columns
            ]
        )
        for key in columns[0]
        if isinstance(columns[0][key], Tensor)
    }
    order = torch.argsort(merged["attention_mask"].sum(dim=1), stable=True)
    return {key: value[order] for key, value in merged.items()}, order


class InstructorLoss(CachedLossMixin, nn.Module):  # type: ignore[misc]
    """The objective as a sentence-transformers loss over the columns query, pos, neg, and further negatives.

    A column of further negatives has a text for each row with that many, in the order of the rows. ``labels`` [b, 2]
    says whether in-batch negatives count (0 or 1; a batch has one kind), and how many negatives each row has.
    Under several processes each holds an equal slice of the batch: the vectors are gathered with their gradients,
    so that the loss and the averaged gradients are those of one process with the whole batch.
    """

    def __init__(
        self,
        model: nn.Module,
        temperature: float = 0.01,
        tokens_per_forward: int = 16_384,
        *,
        cached: bool = False,
        negatives: int = 1,
    ) -> None:
        """Wrap ``model``.

        Args:
            model: a SentenceTransformer, or anything that maps features to ``sentence_embedding``.
            temperature: divides the cosines.
            tokens_per_forward: texts go through the model in chunks of at most so many tokens.
            cached: embed without gradients first, then chunk by chunk with them (GradCache, arXiv 2101.06983):
                memory for one chunk only, one more forward pass.
            negatives: the most that a row has, the same in every process.

        Raises:
            TrainError: for a temperature that is not positive or a budget below one token.
        """
        super().__init__()
        if not temperature > 0:
            raise TrainError(f"cl_temperature is {temperature}, but must be above 0; the paper uses 0.01")
        if tokens_per_forward < 1:
            raise TrainError(f"tokens_per_forward is {tokens_per_forward}, but must be at least 1")
        self.model = model
        self.temperature = temperature
        self.mini_batch_num_tokens = tokens_per_forward
        self.mini_batch_size = 1  # unused with a token budget, but the mixin reads it
        self.uses_gradient_cache = cached
        self.negatives = negatives
        self._order = torch.empty(0, dtype=torch.long)

    def forward(self, features: Iterable[Features], labels: Tensor) -> Tensor:
        """Return the loss of one batch; see the class for the arguments."""
        merged, self._order = merge_columns(features)
        if self.uses_gradient_cache:
            loss: Tensor = CachedLossMixin.forward_cached(self, [merged], labels)
            return loss
        ranges = minibatch_ranges(merged, self.mini_batch_num_tokens)
        return self.calculate_loss([list(_chunk_vectors(self.model, merged, ranges))], labels)

    def calculate_loss(self, reps: list[list[Tensor]], labels: Tensor, *, with_backward: bool = False) -> Tensor:
        """The loss from the chunks' vectors (one list, in merged order), backpropagated to them if asked."""
        vectors = torch.cat(reps[0])
        vectors = _lay_out(vectors[torch.argsort(self._order)], labels[:, 1], self.negatives)
        if get_world_size() > 1:
            # Flat rows: gloo scatters a permuted gradient as if it were contiguous, which is wrong without a word.
            rows = all_gather_with_grad(vectors.transpose(0, 1).flatten(1))
            vectors = rows.view(len(rows), len(vectors), -1).transpose(0, 1)
            labels = all_gather(labels)
        present = _present(labels[:, 1], self.negatives)
        with torch.autocast(vectors.device.type, enabled=False):
            query, pos, *neg = vectors
            loss = instructor_loss(
                query,
                pos,
                torch.stack(neg),
                self.temperature,
                present=None if self.negatives == 1 else present,
                in_batch_negatives=bool(labels[:, 0].all()),
            )
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """What a model card says about the loss."""
        return {
            "temperature": self.temperature,
            "tokens_per_forward": self.mini_batch_num_tokens,
            "cached": self.uses_gradient_cache,
            "negatives": self.negatives,
        }


def _present(counts: Tensor, most: int) -> Tensor:
    """Which of up to ``most`` negatives each row has, bool [most, b]."""
    return torch.arange(most, device=counts.device)[:, None] < counts


def _lay_out(vectors: Tensor, counts: Tensor, most: int) -> Tensor:
    """Columns laid end to end to [2 + most, b, d]; zeros where a row has fewer negatives than ``most``."""
    rows = len(counts)
    negatives = vectors.new_zeros(most, rows, vectors.shape[1])
    negatives[_present(counts, most)] = vectors[2 * rows :]
    return torch.cat([vectors[: 2 * rows].view(2, rows, -1), negatives])


def embed_columns(model: nn.Module, columns: Iterable[Features], tokens_per_forward: int) -> Tensor:
    """Vectors of all columns, [columns, b, d], computed in chunks of like length."""
    columns = list(columns)
    merged, order = merge_columns(columns)
    ranges = minibatch_ranges(merged, tokens_per_forward)
    vectors = torch.cat(list(_chunk_vectors(model, merged, ranges)))
    return vectors[torch.argsort(order)].view(len(columns), -1, vectors.shape[-1])


def _chunk_vectors(model: nn.Module, merged: dict[str, Tensor], ranges: list[tuple[int, int]]) -> Iterator[Tensor]:
    for begin, end in ranges:
        yield model(minibatch(merged, begin, end))["sentence_embedding"]

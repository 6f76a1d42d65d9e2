"""The objective against the public per-pair loop, and the cached gradients against the plain ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medi_build.errors import TrainError
from medi_build.train.loss import instructor_loss
from medi_build.train.objective import InstructorLoss, merge_columns


def per_pair_loss(query: Tensor, pos: Tensor, neg: Tensor, temperature: float) -> Tensor:
    """The public trainer's arithmetic, one pair at a time."""
    cosine = nn.CosineSimilarity(dim=-1)
    total = torch.zeros((), dtype=query.dtype)
    for i in range(len(query)):
        scores = [cosine(query[i], pos[i])] + [cosine(query[i], neg[j]) for j in range(len(query))]
        logits = torch.stack(scores) / temperature
        total = total + (torch.logsumexp(logits, 0) - logits[0]) / len(query)
    for i in range(len(query)):
        others = [cosine(pos[i], query[j]) for j in range(len(query)) if j != i]
        logits = torch.stack([cosine(pos[i], query[i]), *others]) / temperature
        total = total + (torch.logsumexp(logits, 0) - logits[0]) / len(query)
    return total


@settings(max_examples=25)
@given(
    rows=st.integers(1, 9),
    width=st.integers(2, 12),
    temperature=st.sampled_from([0.01, 0.05, 0.1, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_equals_the_public_loop(rows: int, width: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(3, rows, width, generator=generator, dtype=torch.float64).requires_grad_()
    loss = instructor_loss(*vectors, temperature)
    oracle = per_pair_loss(*vectors, temperature)
    assert torch.allclose(loss, oracle, rtol=1e-9, atol=1e-9)
    (ours,) = torch.autograd.grad(loss, vectors, retain_graph=True)
    (theirs,) = torch.autograd.grad(oracle, vectors)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def test_equals_the_public_loop_in_float32() -> None:
    vectors = torch.randn(3, 16, 768, generator=torch.Generator().manual_seed(3))
    assert instructor_loss(*vectors, 0.1).item() == pytest.approx(per_pair_loss(*vectors, 0.1).item(), abs=1e-6)


def test_own_negative_only_ignores_the_other_rows() -> None:
    vectors = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(4))
    together = instructor_loss(*vectors, 0.1, in_batch_negatives=False)
    alone = torch.stack([instructor_loss(*vectors[:, i : i + 1], 0.1) for i in range(5)]).mean()
    assert torch.allclose(together, alone, atol=1e-6)


def several_negatives_loss(
    query: Tensor, pos: Tensor, negatives: list[Tensor], temperature: float, *, in_batch: bool
) -> Tensor:
    """The same one pair at a time, where row i has the negatives ``negatives[i]`` [n_i, d]."""
    cosine = nn.CosineSimilarity(dim=-1)
    rows = range(len(query))
    total = torch.zeros((), dtype=query.dtype)
    for i in rows:
        others = [text for j in rows if in_batch or j == i for text in negatives[j]]
        logits = torch.stack([cosine(query[i], text) for text in [pos[i], *others]]) / temperature
        total = total + (torch.logsumexp(logits, 0) - logits[0]) / len(query)
        if in_batch:
            logits = torch.stack([cosine(pos[i], query[j]) for j in rows]) / temperature
            total = total + (torch.logsumexp(logits, 0) - logits[i]) / len(query)
    return total


@settings(max_examples=25)
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=6), in_batch=st.booleans(), seed=st.integers(0, 2**31))
def test_several_negatives_equal_the_loop(counts: list[int], in_batch: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2 + max(counts), len(counts), 5, generator=generator, dtype=torch.float64).requires_grad_()
    query, pos, *neg = vectors
    present = torch.arange(max(counts))[:, None] < torch.tensor(counts)
    loss = instructor_loss(query, pos, torch.stack(neg), 0.1, present=present, in_batch_negatives=in_batch)
    lists = [vectors[2 : 2 + count, row] for row, count in enumerate(counts)]
    oracle = several_negatives_loss(query, pos, lists, 0.1, in_batch=in_batch)
    assert torch.allclose(loss, oracle, rtol=1e-9, atol=1e-9)
    (ours,) = torch.autograd.grad(loss, vectors)
    (theirs,) = torch.autograd.grad(oracle, vectors)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-8)


class Encoder(nn.Module):
    """A small network whose vector of a text depends on its real tokens only, with dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.mix = nn.Linear(8, 8)
        self.dropout = nn.Dropout(dropout)
        self.widths: list[tuple[int, ...]] = []

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        self.widths.append(tuple(features["input_ids"].shape))
        mask = features["attention_mask"].unsqueeze(-1)
        tokens = self.dropout(torch.tanh(self.mix(self.table(features["input_ids"])))) * mask
        return {"sentence_embedding": tokens.sum(1) / mask.sum(1)}


def make_columns(sizes: tuple[int, ...] = (6, 6, 6)) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    columns = []
    for rows, longest in zip(sizes, (5, 17, 11, 8, 13), strict=False):
        lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
        lengths[0] = longest
        mask = (torch.arange(longest) < lengths[:, None]).long()
        ids = torch.randint(1, 50, (rows, longest), generator=generator) * mask
        columns.append({"input_ids": ids, "attention_mask": mask})
    return columns


def gradients(model: Encoder, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("in_batch", [0, 1])
@pytest.mark.parametrize("budget", [1, 20, 64, 100_000])
def test_chunks_and_caching_change_neither_loss_nor_gradients(budget: int, in_batch: int) -> None:
    model = Encoder()
    columns, labels = make_columns(), torch.tensor([[in_batch, 1]] * 6)
    vectors = [model(column)["sentence_embedding"] for column in columns]
    plain = instructor_loss(*vectors, 0.1, in_batch_negatives=bool(in_batch))
    wanted = gradients(model, plain)
    for cached in (False, True):
        loss = InstructorLoss(model, 0.1, budget, cached=cached)(columns, labels)
        assert loss.item() == pytest.approx(plain.item(), abs=1e-6)
        assert torch.allclose(gradients(model, loss), wanted, atol=1e-6)


@pytest.mark.parametrize("in_batch", [0, 1])
@pytest.mark.parametrize("cached", [False, True])
def test_columns_of_further_negatives_belong_to_the_rows_that_have_them(cached: bool, in_batch: int) -> None:
    model, counts = Encoder(), [1, 3, 2, 1, 3, 2]
    columns = make_columns((6, 6, 6, 4, 2))  # rows 1, 2, 4 and 5 have a second negative, 1 and 4 a third
    query, pos, neg, second, third = (model(column)["sentence_embedding"] for column in columns)
    lists = [torch.stack([neg[row]]) for row in range(6)]
    for more, rows in ((second, (1, 2, 4, 5)), (third, (1, 4))):
        for place, row in enumerate(rows):
            lists[row] = torch.cat([lists[row], more[place : place + 1]])
    oracle = several_negatives_loss(query, pos, lists, 0.1, in_batch=bool(in_batch))
    wanted = gradients(model, oracle)
    labels = torch.tensor([[in_batch, count] for count in counts])
    loss = InstructorLoss(model, 0.1, 40, cached=cached, negatives=4)(columns, labels)
    assert loss.item() == pytest.approx(oracle.item(), abs=1e-6)
    assert torch.allclose(gradients(model, loss), wanted, atol=1e-5)


def test_cached_gradients_are_right_under_dropout() -> None:
    """The second pass has to draw the first one's masks: replayed from the same seed, plain and cached agree."""
    model = Encoder(dropout=0.3).train()
    results = []
    for cached in (False, True):
        torch.manual_seed(9)
        loss = InstructorLoss(model, 0.1, 40, cached=cached)(make_columns(), torch.ones(6, 2))
        results.append((loss.item(), gradients(model, loss)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)


def test_hardly_any_padding_is_computed() -> None:
    model = Encoder()
    columns = make_columns((64, 64, 64))
    InstructorLoss(model, 0.1, 60)(columns, torch.ones(64, 2))
    computed = sum(rows * width for rows, width in model.widths)
    real = sum(int(column["attention_mask"].sum()) for column in columns)
    assert computed < 1.25 * real


def test_merging_keeps_every_text() -> None:
    columns = make_columns()
    merged, order = merge_columns(columns)
    lengths = merged["attention_mask"].sum(1)
    assert torch.equal(lengths, lengths.sort().values)
    back = merged["input_ids"][torch.argsort(order)]
    for index, column in enumerate(columns):
        assert torch.equal(back[6 * index : 6 * index + 6, : column["input_ids"].shape[1]], column["input_ids"])


@pytest.mark.parametrize(("temperature", "budget"), [(0.0, 10), (-1.0, 10), (float("nan"), 10), (0.1, 0)])
def test_impossible_settings_are_refused(temperature: float, budget: int) -> None:
    with pytest.raises(TrainError, match="must be"):
        InstructorLoss(Encoder(), temperature, budget)

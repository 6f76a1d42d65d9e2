"""One run: an encoder is trained on a domain's queries with given negatives, and judged on the others."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from teach.domains import Domain
from teach.encoders import Words
from teach.runs import Training, rows_of_steps

QUERY_WINDOW = 48
CUTOFF = 10


@dataclass(frozen=True)
class Tokens:
    """Token ids of all texts of a domain, each cut to its window."""

    queries: list[list[int]]
    documents: list[list[int]]


def tokenize(domain: Domain, tokenizer: object) -> Tokens:
    queries = tokenizer(domain.queries, truncation=True, max_length=QUERY_WINDOW)["input_ids"]
    return Tokens(queries, tokenizer(domain.documents, truncation=True, max_length=domain.window)["input_ids"])


def loss(query: Tensor, pos: Tensor, neg: Tensor, same: Tensor, how: Training) -> Tensor:
    """The objective of one batch.

    Args:
        query: float [b, d] unit vectors, as the others.
        pos: float [b, d].
        neg: float [k * b, d].
        same: bool [b, b + k * b], whether a positive or a negative is known to be right for a query.
        how: the objective and the temperature.
    """
    rows = torch.arange(len(query))
    scores = (query @ torch.cat([pos, neg]).T / how.temperature).masked_fill(same, -torch.inf)
    own = (query * pos).sum(dim=1) / how.temperature
    scores[rows, rows] = own
    if how.objective == "instructor":
        scores = torch.cat([own[:, None], scores[:, len(query) :]], dim=1)
        forward = functional.cross_entropy(scores, torch.zeros_like(rows))
    else:
        forward = functional.cross_entropy(scores, rows)
    return forward + functional.cross_entropy(pos @ query.T / how.temperature, rows)


def train(start: nn.Module, domain: Domain, tokens: Tokens, hard: np.ndarray, how: Training) -> nn.Module:
    """Train a copy of the encoder.

    Args:
        start: the encoder.
        domain: its training queries are the rows.
        tokens: its texts.
        hard: int64 [train, k] documents that are negatives.
        how: everything else.
    """
    model = copy.deepcopy(start).train()
    torch.manual_seed(how.seed)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = torch.optim.SparseAdam if isinstance(model, Words) else torch.optim.AdamW
    optimizer = kind(learned, lr=how.learning_rate)
    warm = max(1, how.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (how.steps - step) / max(1, how.steps - warm))
    )
    for rows in rows_of_steps(len(domain.train), how):
        negatives = hard[rows].T.ravel()
        asked, told = domain.train[rows], domain.known[domain.train[rows]]
        documents = np.concatenate([told, negatives])
        texts = [tokens.queries[i] for i in asked] + [tokens.documents[i] for i in documents]
        query, pos, neg = model(texts).split([len(rows), len(rows), len(negatives)])
        same = torch.from_numpy(documents[None, :] == told[:, None])
        optimizer.zero_grad()
        loss(query, pos, neg, same, how).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def encode(model: nn.Module, texts: list[list[int]]) -> np.ndarray:
    return model.eval()(texts).numpy()


def judge(model: nn.Module, domain: Domain, tokens: Tokens) -> np.ndarray:
    """nDCG@10 of each test query over the whole corpus."""
    documents = encode(model, tokens.documents)
    asked = encode(model, [tokens.queries[i] for i in domain.test])
    best = np.argsort(-(asked @ documents.T), axis=1, kind="stable")[:, :CUTOFF]
    discount = 1 / np.log2(np.arange(CUTOFF) + 2)
    found = [
        (np.isin(ranking, domain.relevant[i]) @ discount) / discount[: len(domain.relevant[i])].sum()
        for i, ranking in zip(domain.test, best, strict=True)
    ]
    return np.array(found)

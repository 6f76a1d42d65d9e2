"""Many small BERTs trained and judged at once: their weights are stacked, so that a GPU has enough to do.

Runs in a stack share their shape, batch, steps and learning rate; domain, negatives, objective, temperature and seed
are each run's own. The loss is the sum of theirs, and Adam works by element, so none of them notices the others.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from teach.prepared import Prepared, Texts
from teach.runs import Training, rows_of_steps

CUTOFF = 10
TEXTS_PER_FORWARD = 8192
"""Texts, of all runs together, that are encoded at once when judging."""

Weights = dict[str, Tensor]
"""By name: [runs, ...], float32."""


class OutOfTime(Exception):  # noqa: N818
    """The deadline passed before a stack was through."""


@dataclass(frozen=True)
class Shape:
    """The first layers of the embedded encoder on the first tokens of a text."""

    layers: int
    window: int


@dataclass(frozen=True)
class Job:
    """One run of a stack.

    Attributes:
        domain: its name.
        hard: int64 [stages, train, k] documents that are negatives: training goes through the stages one by one.
        weight: float32 [train, k], how much a negative counts against its own query (1 for others' queries).
        training: everything else.
    """

    domain: str
    hard: np.ndarray
    weight: np.ndarray
    training: Training


@dataclass(frozen=True)
class Machine:
    """Where and how it is computed, and the moment (of time.monotonic) at which it ends."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    deadline: float = float("inf")


class Stack:
    """Encoders of one shape with stacked weights; word vectors and positions are shared and stay as they are."""

    def __init__(self, prepared: Prepared, shape: Shape, machine: Machine) -> None:
        self.prepared, self.shape, self.machine = prepared, shape, machine
        embedded = {name: torch.from_numpy(value).float() for name, value in prepared.embeddings().items()}
        self.words, self.positions = (embedded[name].to(machine.device) for name in ("words", "positions"))
        self.norm = [embedded[name].to(machine.device) for name in ("norm.weight", "norm.bias")]
        self.tables = {name: self._table(domain.texts) for name, domain in prepared.domains.items()}

    def _table(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """Token ids int64 [n, window], padded with 0, and lengths [n], on the device."""
        ids, lengths = texts.padded(self.shape.window)
        return torch.from_numpy(ids).to(self.machine.device), torch.from_numpy(lengths).to(self.machine.device)

    def fresh(self, runs: int) -> Weights:
        """The embedded encoder's layers, once for each run."""
        found = {}
        for name, value in self.prepared.layers(self.shape.layers).items():
            one = torch.from_numpy(value).float().to(self.machine.device)
            found[name] = one.expand(runs, *one.shape).contiguous()
        return found

    def encode(self, weights: Weights, ids: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors float32 [runs, n, d] of token ids [runs, n, width]; lengths [runs, n]."""
        runs, texts, width = ids.shape
        dtype = self.machine.dtype
        keep = torch.arange(width, device=ids.device) < lengths[..., None]
        mask = keep.view(runs * texts, 1, 1, width)
        x = functional.layer_norm(self.words[ids] + self.positions[:width], self.words.shape[1:], *self.norm, 1e-12)
        x = x.to(dtype).view(runs, texts * width, -1)
        dim = x.shape[-1]
        heads = self.prepared.heads
        for i in range(self.shape.layers):
            own = {name: weights[f"{i}.{name}"].to(dtype) for name in LAYER}
            states = torch.baddbmm(own["qkv.bias"], x, own["qkv"])
            q, k, v = states.view(runs * texts, width, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            seen = seen.transpose(1, 2).reshape(runs, texts * width, dim)
            x = normed(x + torch.baddbmm(own["out.bias"], seen, own["out"]), own, "norm1")
            wide = functional.gelu(torch.baddbmm(own["up.bias"], x, own["up"]))
            x = normed(x + torch.baddbmm(own["down.bias"], wide, own["down"]), own, "norm2")
        summed = (x.view(runs, texts, width, dim) * keep[..., None]).sum(dim=2, dtype=torch.float32)
        return functional.normalize(summed, dim=-1)


LAYER = [f"{name}{kind}" for name in ("qkv", "out", "norm1", "up", "down", "norm2") for kind in ("", ".bias")]
"""Weights of a layer: matrices [runs, in, out] and the norms' factors and all biases [runs, 1, n]."""


def normed(x: Tensor, own: Weights, name: str) -> Tensor:
    return torch.addcmul(own[f"{name}.bias"], functional.layer_norm(x, x.shape[-1:], eps=1e-12), own[name])


@dataclass(frozen=True)
class Objectives:
    """Of each run, [runs, 1, 1]: one over its temperature, and whether its denominator has no other row's positive."""

    sharpness: Tensor
    alone: Tensor

    @classmethod
    def of(cls, how: list[Training], device: str) -> "Objectives":
        sharpness = torch.tensor([1 / one.temperature for one in how], device=device)
        alone = torch.tensor([one.objective == "instructor" for one in how], device=device)
        return cls(sharpness[:, None, None], alone[:, None, None])


def losses(query: Tensor, docs: Tensor, same: Tensor, weight: Tensor, how: Objectives) -> Tensor:
    """Each run's loss [runs], as `teach.training.loss` has it for one.

    Args:
        query: float [runs, b, d] unit vectors, as the others.
        docs: float [runs, b + k * b, d]: positives, then each row's first negative, then its second.
        same: bool [runs, b, b + k * b], whether a document is known to be right for a query.
        weight: float [runs, b, k] of the negatives, against their own queries.
        how: the objectives.
    """
    runs, b, _ = query.shape
    cosines = query @ docs.transpose(1, 2)
    eye = torch.eye(b, dtype=torch.bool, device=query.device)
    masked = same.clone()
    masked[:, :, :b] = (same[:, :, :b] | how.alone) & ~eye
    scores = (cosines * how.sharpness).masked_fill(masked, -torch.inf)
    shift = torch.zeros_like(scores)
    rows = torch.arange(b, device=query.device)
    for j in range(weight.shape[2]):
        shift[:, rows, (j + 1) * b + rows] = weight[:, :, j].clamp_min(1e-6).log()
    target = rows.repeat(runs)
    forward = functional.cross_entropy((scores + shift).flatten(0, 1), target, reduction="none")
    back = (cosines[:, :, :b] * how.sharpness).transpose(1, 2)
    backward = functional.cross_entropy(back.flatten(0, 1), target, reduction="none")
    return (forward + backward).view(runs, b).mean(dim=1)


@dataclass(frozen=True)
class Batches:
    """Of all steps, on the device: numbers of texts in the domains' joined tables, by step.

    Attributes:
        queries: int64 [steps, runs, b].
        documents: int64 [steps, runs, b + k * b].
        weight: float32 [steps, runs, b, k].
        widths: tokens that a step's queries and its documents need.
    """

    queries: Tensor
    documents: Tensor
    weight: Tensor
    widths: list[tuple[int, int]]


def batches(stack: "Stack", jobs: list[Job], tables: "Tables") -> Batches:
    queries, documents, weights = [], [], []
    for job in jobs:
        domain, steps = stack.prepared.domains[job.domain], job.training.steps
        rows = np.stack(list(rows_of_steps(len(domain.train), job.training)))
        stage = np.arange(steps) * len(job.hard) // steps
        hard = job.hard[stage[:, None], rows].transpose(0, 2, 1).reshape(steps, -1)
        asked = domain.train[rows]
        start = tables.starts[job.domain]
        queries.append(asked + start)
        documents.append(np.concatenate([domain.known[asked], hard], axis=1) + start + len(domain.relevant))
        weights.append(job.weight[rows])
    asked, told, weight = (np.stack(found, axis=1) for found in (queries, documents, weights))
    widths = [(tables.width(a), tables.width(t)) for a, t in zip(asked, told, strict=True)]
    device = stack.machine.device
    return Batches(*(torch.from_numpy(found).to(device) for found in (asked, told, weight)), widths)


class Tables:
    """The token tables of some domains as one."""

    def __init__(self, stack: Stack, names: list[str]) -> None:
        used = list(dict.fromkeys(names))
        sizes = [len(stack.tables[name][1]) for name in used]
        self.starts = dict(zip(used, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.ids, self.lengths = (torch.cat([stack.tables[name][part] for name in used]) for part in (0, 1))
        self._host = self.lengths.cpu().numpy()

    def width(self, places: np.ndarray) -> int:
        """Tokens of the longest, in eights."""
        return min(-(-int(self._host[places].max()) // 8) * 8, self.ids.shape[1])

    def texts(self, places: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Ids [runs, n, width]; lengths [runs, n]."""
        return self.ids[places, :width], self.lengths[places]


def train(stack: Stack, start: Weights, jobs: list[Job]) -> Weights:
    """Trains copies of the weights.

    Raises:
        OutOfTime: the machine's deadline passed.
    """
    machine, how = stack.machine, jobs[0].training
    weights = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=how.learning_rate, fused=machine.device != "cpu")
    tables = Tables(stack, [job.domain for job in jobs])
    every = batches(stack, jobs, tables)
    objectives = Objectives.of([job.training for job in jobs], machine.device)
    warm = max(1, how.steps // 10)
    for step, (asked, long) in enumerate(every.widths):
        if step % 20 == 0 and time.monotonic() > machine.deadline:
            raise OutOfTime
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * min((step + 1) / warm, (how.steps - step) / max(1, how.steps - warm))
        documents = every.documents[step]
        same = documents[:, None, :] == documents[:, : how.batch, None]
        query = stack.encode(weights, *tables.texts(every.queries[step], asked))
        docs = stack.encode(weights, *tables.texts(documents, long))
        optimizer.zero_grad()
        losses(query, docs, same, every.weight[step], objectives).sum().backward()
        optimizer.step()
    return {name: value.detach() for name, value in weights.items()}


@torch.inference_mode()
def vectors(stack: Stack, weights: Weights, domain: str, numbers: np.ndarray) -> Tensor:
    """Unit vectors float32 [runs, n, d] of texts of a domain's table, by every encoder of the weights."""
    ids, lengths = stack.tables[domain]
    runs = len(weights["0.qkv"])
    host = lengths.cpu().numpy()[numbers]
    order = np.argsort(host, kind="stable")
    size = max(1, TEXTS_PER_FORWARD // runs)
    parts = []
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        width = min(-(-int(host[chosen].max()) // 8) * 8, ids.shape[1])
        at = torch.from_numpy(numbers[chosen]).to(ids.device)
        own, long = ids[at, :width], lengths[at]
        parts.append(stack.encode(weights, own.expand(runs, *own.shape), long.expand(runs, *long.shape)))
    back = torch.from_numpy(np.argsort(order)).to(ids.device)
    return torch.cat(parts, dim=1)[:, back]


@torch.inference_mode()
def judge(stack: Stack, weights: Weights, domain: str) -> np.ndarray:
    """nDCG@10 [runs, test] of each test query over the whole corpus."""
    own = stack.prepared.domains[domain]
    asked = vectors(stack, weights, domain, own.test)
    documents = vectors(stack, weights, domain, np.arange(own.documents) + len(own.relevant))
    best = torch.stack([(a @ d.T).topk(CUTOFF).indices for a, d in zip(asked, documents, strict=True)]).cpu().numpy()
    discount = 1 / np.log2(np.arange(CUTOFF) + 2)
    found = np.empty(best.shape[:2])
    for place, query in enumerate(own.test):
        relevant = own.relevant[query]
        found[:, place] = np.isin(best[:, place], relevant) @ discount / discount[: len(relevant)].sum()
    return found


def chosen(weights: Weights, rows: list[int]) -> Weights:
    """Those of some runs."""
    return {name: value[rows] for name, value in weights.items()}


def joined(several: list[Weights]) -> Weights:
    return {name: torch.cat([weights[name] for weights in several]) for name in several[0]}

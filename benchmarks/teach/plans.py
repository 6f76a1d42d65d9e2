"""What is run on the GPU, in what order, and what was asked beforehand. Frozen before the first of its runs.

1. *Does hardness pay for an encoder with layers?* `SETTINGS`: fresh and converged start, both objectives, three windows
   of ranks out of which somebody who knows what is relevant draws, in four domains. Yes, if there is a line of it (one
   start, objective and window) whose 95 % interval against random negatives lies above zero in at least two domains and
   below zero in none. Of 48 intervals one or two lie above zero by chance, so the best line (the highest mean over the
   four domains) has to hold in the six others, too: its mean difference there above zero, and again two intervals.
2. *Are our negatives the ones to take?* `MINERS`: all miners at the start and objective of that best line, in all ten
   domains, of which `UNTOUCHED` were in no run of an encoder with layers when this was frozen. Yes, if positive-aware
   (by the trained model or by the embedded one) is the best miner on the average, reaches half of the oracle's gain,
   and its lower bound is above -.005 in every domain.
3. *What changes with the rest?* `VARIED`: one thing at a time from the same base, in `code` and `medmcqa`.
4. *Is it a matter of size?* `DEEP`: six layers, 64 and 128 tokens, in the same two.

Three seeds everywhere. A seed draws the batches and, where a rule draws, the negatives.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from teach.runs import Run, Training

SEEDS = (0, 1, 2)
CHOSEN_ON = ("code", "medmcqa", "quora", "flickr8k")
UNTOUCHED = ("trecqa", "banking77", "nfcorpus", "nli", "altlex")
ALL = (*CHOSEN_ON, "hotpotqa", *UNTOUCHED)
DEEP_IN = ("code", "medmcqa")
WINDOWS = ("0-10", "10-60", "60-200")
RATE = {"fresh": 1e-4, "own": 5e-5}
STEPS = 200
MINED = (
    "positive-aware own",
    "positive-aware full",
    "positives-alone own",
    "paper own",
    "flag-embedding own",
    "st-range-min-10 own",
    "st-margin own",
    "bm25 own",
)


@dataclass(frozen=True)
class Part:
    """A part of the plan: its stacks in order, each of runs that are trained at once."""

    name: str
    stacks: list[list[Run]]


def base(start: str, objective: str = "with-positives") -> Training:
    return Training(objective, 0.05, 64, STEPS, RATE[start], 0, start)


def oracle(window: str, pool: str = "documents") -> str:
    return f"oracle {window} {pool} own"


def runs(domain: str, kinds: tuple[str, ...], how: Training, *, count: int = 1, encoder: str = "3x32") -> list[Run]:
    return [Run(domain, encoder, kind, count, replace(how, seed=seed)) for kind in kinds for seed in SEEDS]


def settings() -> Part:
    kinds = ("random", *map(oracle, WINDOWS))
    return Part(
        "settings",
        [
            [run for objective in OBJECTIVES for run in runs(domain, kinds, base(start, objective))]
            for domain, start in product(CHOSEN_ON, RATE)
        ],
    )


OBJECTIVES = ("with-positives", "instructor")


def miners(start: str, objective: str, window: str) -> Part:
    """At the best line of the settings."""
    kinds = ("random", oracle(window), *MINED)
    return Part("miners", [runs(domain, kinds, base(start, objective)) for domain in ALL])


VARIED: tuple[tuple[str, dict[str, Any], int, tuple[str, ...]], ...] = (
    ("as it is", {}, 1, ("random", "oracle 10-60 documents own", "positive-aware own")),
    ("whose", {}, 1, ("oracle 10-60 positives own", "mixed 10-60 own", "curriculum own", "drawn 0-20 own")),
    ("weights", {}, 1, ("weighted 0-20 own",)),
    ("four", {}, 4, ("random", "oracle 10-60 documents own", "mixed 10-60 own", "positive-aware own")),
    ("batch", {"batch": 256}, 1, ("random", "oracle 10-60 documents own", "positive-aware own")),
    ("colder", {"temperature": 0.02}, 1, ("random", "oracle 10-60 documents own", "positive-aware own")),
    ("warmer", {"temperature": 0.1}, 1, ("random", "oracle 10-60 documents own", "positive-aware own")),
    ("longer", {"steps": 1000}, 1, ("random", "oracle 10-60 documents own")),
)
"""What is changed, how, negatives a row, and whose they are."""


def varied() -> Part:
    """From the converged start, other rows' positives in the denominator; what fits one stack is in one."""
    stacks: dict[Any, list[Run]] = {}
    for _, change, count, kinds in VARIED:
        for domain in DEEP_IN:
            how = replace(base("own"), **change)
            stacks.setdefault((domain, count, how.batch, how.steps), []).extend(runs(domain, kinds, how, count=count))
    return Part("varied", list(stacks.values()))


def deep() -> Part:
    """Six layers: from a converged start, with negatives by itself; and as it comes, which mines what it knows."""
    stacks = []
    for domain, (encoder, start, by) in product(DEEP_IN, (("6x64", "own", "own"), ("6x128", "fresh", "full"))):
        kinds = ("random", f"oracle 10-60 documents {by}", f"positive-aware {by}", f"paper {by}")
        stacks.append(runs(domain, kinds, base(start, "instructor"), encoder=encoder))
    return Part("deep", stacks)


def best(means: dict[tuple[str, str, str], list[float]]) -> tuple[str, str, str]:
    """Start, objective and window with the highest mean gain over the domains in which all were run."""
    return max(means, key=lambda line: sum(means[line]) / len(means[line]))


def gains(lines: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[float]]:
    """The oracle's gain over random negatives in each of `CHOSEN_ON` that is complete, by start, objective, window."""
    means: dict[tuple[str, str, str, str], list[float]] = {}
    for line in lines:
        how = line["training"]
        plain = Training(how["objective"], 0.05, 64, STEPS, RATE[how["start"]], how["seed"], how["start"])
        if line["encoder"] == "3x32" and line["count"] == 1 and Training(**how) == plain:
            key = (line["domain"], how["start"], how["objective"], line["negatives"])
            means.setdefault(key, []).append(line["ndcg"])
    found: dict[tuple[str, str, str], list[float]] = {}
    for start, objective, window in product(RATE, OBJECTIVES, WINDOWS):
        pairs = [
            (means.get((domain, start, objective, oracle(window))), means.get((domain, start, objective, "random")))
            for domain in CHOSEN_ON
        ]
        whole = [sum(hard) / len(hard) - sum(random) / len(random) for hard, random in pairs if hard and random]
        if whole:
            found[start, objective, window] = whole
    return found


def plan(lines: Callable[[], list[dict[str, Any]]]) -> Iterator[Part]:
    """The parts in order; the miners' setting is the best of the settings among the lines that there are by then."""
    yield settings()
    known = gains(lines())
    if known:
        yield miners(*best(known))
    yield varied()
    yield deep()


def everything() -> Iterator[Run]:
    """All runs that any outcome of the settings can lead to: what lists are mined for."""
    parts = [settings(), varied(), deep()]
    parts += [miners(start, objective, window) for start, objective, window in product(RATE, OBJECTIVES, WINDOWS)]
    for part in parts:
        for stack in part.stacks:
            yield from stack

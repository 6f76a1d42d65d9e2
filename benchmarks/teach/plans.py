"""What is run on the GPU, in what order, and what was asked beforehand. Frozen before the first of its runs.

1. *Does hardness pay for an encoder with layers?* `settings`: fresh and converged start, both objectives, three windows
   of ranks out of which somebody who knows what is relevant draws, in four domains. Yes, if there is a line (one start,
   objective and window) whose 95 % interval against random negatives lies above zero in at least two domains and below
   zero in none. Of 48 intervals one or two lie above zero by chance, so the best line (the highest mean over the four
   domains) has to hold in the five others as well: a mean above zero, and an interval above zero in two of them.
2. *Are our negatives the ones to take?* `miners`: all of them at the start and objective of that best line, in all nine
   domains. `OTHERS` were in no run of an encoder with layers when this was frozen, and nothing is chosen on them. Yes,
   if positive-aware (by the trained model, or by the embedded one) is the best miner on the average, reaches half of
   the oracle's gain, and its lower bound is above -.005 in every domain.
3. *What changes with the rest?* `varied`: one thing at a time, converged start, other rows' positives in the
   denominator, in `code` and `medmcqa`.
4. *Is it a matter of size?* `deep`: six layers of 64 tokens, converged, and of 128 tokens, as they come.

Three seeds everywhere. A seed draws the batches and, where a rule draws, the negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from teach.runs import Run, Training

SEEDS = (0, 1, 2)
CHOSEN_ON = ("code", "medmcqa", "quora", "flickr8k")
OTHERS = ("hotpotqa", "trecqa", "banking77", "nfcorpus", "nli")
ALL = (*CHOSEN_ON, *OTHERS)
DEEP_IN = ("code", "medmcqa")
WINDOWS = ("0-10", "10-60", "60-200")
RATE = {"fresh": 1e-4, "own": 5e-5}
STEPS = 150
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


def settings(longer: int = 1) -> Part:
    kinds = ("random", *map(oracle, WINDOWS))
    stacks = []
    for domain, start in product(CHOSEN_ON, RATE):
        hows = [replace(base(start, objective), steps=longer * STEPS) for objective in OBJECTIVES]
        stacks.append([run for how in hows for run in runs(domain, kinds, how)])
    return Part("settings", stacks)


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


def varied(names: tuple[str, ...]) -> Part:
    """From the converged start, other rows' positives in the denominator; what fits one stack is in one."""
    stacks: dict[Any, list[Run]] = {}
    for name, change, count, kinds in VARIED:
        for domain in DEEP_IN if name in names else ():
            how = replace(base("own"), **change)
            stacks.setdefault((domain, count, how.batch, how.steps), []).extend(runs(domain, kinds, how, count=count))
    return Part("varied", list(stacks.values()))


def deep(encoder: str, start: str, by: str) -> Part:
    """Six layers: from a converged start, with negatives by itself; or as it comes, which mines what it knows."""
    kinds = ("random", f"oracle 10-60 documents {by}", f"positive-aware {by}", f"paper {by}")
    how = replace(base(start, "instructor"), batch=32)
    return Part("deep", [runs(domain, kinds, how, encoder=encoder) for domain in DEEP_IN])


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


def plan(lines: list[dict[str, Any]]) -> list[Part]:
    """The parts in order; the miners' setting is the best of the settings among the lines, if there are any."""
    known = gains(lines)
    return [
        settings(),
        *([miners(*best(known))] if known else []),
        varied(("as it is", "whose", "weights", "colder", "warmer", "four")),
        deep("6x64", "own", "own"),
        varied(("batch", "longer")),
        deep("6x128", "fresh", "full"),
        settings(longer=4),
    ]


def everything() -> Iterator[Run]:
    """All runs that any outcome of the settings can lead to: what lists are mined for, first those wanted first."""
    first, *others = plan([])
    every = [miners(start, objective, window) for start, objective, window in product(RATE, OBJECTIVES, WINDOWS)]
    for part in (first, *every, *others):
        for stack in part.stacks:
            yield from stack


def shrink() -> None:
    """For a rehearsal: as few domains, steps and seeds as go through everything."""
    global CHOSEN_ON, ALL, STEPS, SEEDS, VARIED  # noqa: PLW0603
    CHOSEN_ON, ALL, STEPS, SEEDS = DEEP_IN, (*DEEP_IN, "nli"), 2, (0, 1)
    VARIED = tuple(
        (name, change | {"steps": 3} if "steps" in change else change, *rest) for name, change, *rest in VARIED
    )

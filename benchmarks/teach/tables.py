"""Tables of runs in Markdown: means for random negatives, differences to them for the others."""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from medi_build.evaluate.bootstrap import resample
from teach.runs import Run, unpack

SEEDS = 3


def table(wanted: Iterable[Run], runs: dict[str, dict[str, object]]) -> None:
    """In Markdown, for each setting: negatives by domains, differences to random ones, seeds together."""
    groups: dict[str, dict[str, dict[str, list[dict[str, object]]]]] = {}
    for run in wanted:
        if run.key() in runs:
            how = {name: value for name, value in asdict(run.training).items() if name != "seed"}
            setting = f"{run.encoder}, {run.count} negative(s), {how}"
            found = groups.setdefault(setting, {}).setdefault(run.negatives, {})
            found.setdefault(run.domain, []).append(runs[run.key()])
    for setting, rows in groups.items():
        domains = list(rows["random"])
        print(f"\n{setting}\n\n| negatives | {' | '.join(domains)} | mean |\n|---|{'---:|' * (len(domains) + 1)}")
        for name, found in rows.items():
            differences = [
                by_query(found[domain]) - by_query(like(rows["random"][domain], found[domain]))
                if domain in found
                else None
                for domain in domains
            ]
            if name == "random":
                means = [by_query(found[domain]).mean() for domain in domains]
                cells = [f"{mean:.4f}" for mean in means] + [f"{np.mean(means):.4f}"]
            else:
                cells = [
                    "" if difference is None else cell(found[domain], difference)
                    for domain, difference in zip(domains, differences, strict=True)
                ]
                complete = all(difference is not None for difference in differences)
                cells.append(mean_cell(differences) if complete else "")
            print(f"| {name} | {' | '.join(cells)} |")


def like(lines: list[dict[str, object]], others: list[dict[str, object]]) -> list[dict[str, object]]:
    """The lines whose seeds the others have, too."""
    seeds = {line["training"]["seed"] for line in others}
    return [line for line in lines if line["training"]["seed"] in seeds]


def by_query(lines: list[dict[str, object]]) -> np.ndarray:
    return np.mean([unpack(line["queries"]) for line in lines], axis=0)


def cell(lines: list[dict[str, object]], difference: np.ndarray) -> str:
    low, high = interval(difference)
    relevant, score = (np.mean([line[of] for line in lines]) for of in ("relevant", "score"))
    seeds = "" if len(lines) == SEEDS else f", {len(lines)} seed(s)"
    return f"{difference.mean():+.4f} [{low:+.4f}, {high:+.4f}] ({100 * relevant:.0f} %, {score:.2f}{seeds})"


def mean_cell(differences: list[np.ndarray]) -> str:
    """Of the domains, each of which counts alike."""
    low, high = interval(*differences)
    return f"{np.mean([found.mean() for found in differences]):+.4f} [{low:+.4f}, {high:+.4f}]"


def interval(*differences: np.ndarray) -> tuple[float, float]:
    """95 % of the means of as many queries, drawn with replacement within each domain; of several, of their mean."""
    drawn = [resample([pa.table({"value": found})], "mean", 4000, seed) for seed, found in enumerate(differences)]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return float(low), float(high)

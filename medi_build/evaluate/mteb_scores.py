"""From what mteb computed to metrics, and to the items that the main metric is made of."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medi_build.evaluate.mteb_tasks import Job
from medi_build.evaluate.results import Statistic, items_table

CUTS = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
"""Metrics of retrieval that are means over queries -> trec_eval's names."""
ROUNDED = 1e-5
"""mteb rounds means over queries to five digits."""


class Items(NamedTuple):
    """What a main metric is made of.

    Attributes:
        statistic: which makes the metric.
        table: as `items_table`.
        value: the metric, unrounded.
    """

    statistic: Statistic
    table: pa.Table
    value: float


def metrics_of(scores: Mapping[str, Sequence[Mapping[str, Any]]], main: str, value: float) -> dict[str, float]:
    """Metrics by name, the mean over splits and subsets; what is no number, or not a finite one, is left out.

    Args:
        scores: by split those of each subset.
        main: name of the main metric.
        value: its value.
    """
    parts = [part for split in scores.values() for part in split]
    found = {
        name: float(np.mean([part[name] for part in parts]))
        for name in sorted(parts[0])
        if name != "main_score" and all(_is_number(part.get(name)) for part in parts)
    }
    return {**found, main: value}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def items_of(job: Job, scores: Mapping[str, Sequence[Mapping[str, Any]]], predictions: Path, main: str) -> Items | None:
    """The items of a task with one split and one subset whose main metric is a mean over items or a correlation.

    Args:
        job: the task, its data loaded.
        scores: by split those of each subset, as mteb gives them.
        predictions: folder of mteb's predictions.
        main: name of the main metric.

    Returns:
        None for tasks of other kinds or metrics: what the items say is compared with what mteb says.
    """
    from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval, AbsTaskSTS

    parts = [(split, part) for split, found in scores.items() for part in found]
    file = predictions / f"{job.task.metadata.name}_predictions.json"
    if len(parts) != 1 or not file.is_file():
        return None
    (split, part), data = parts[0], getattr(job.task, "dataset", None) or {}
    said = json.loads(file.read_bytes())[part["hf_subset"]][split]
    found = data.get(part["hf_subset"], data)
    if isinstance(job.task, AbsTaskRetrieval):
        items = _queries(found[split]["relevant_docs"], said, main)
    elif isinstance(job.task, AbsTaskSTS) and main in ("cosine_spearman", "cosine_pearson"):
        items = _pairs(_ids(job, len(found[split])), said["cosine_scores"], found[split]["score"], main)
    elif isinstance(job.task, AbsTaskClassification) and main == "accuracy":
        gold = np.array(found[split][job.task.label_column_name])
        right = np.mean([np.array(one) == gold for one in said], axis=0) if _fit(said, gold) else None
        items = None if right is None else _mean(_ids(job, len(gold)), right)
    elif isinstance(job.task, AbsTaskClustering) and main == "v_measure":
        runs = [(f"{level}/{n}", v) for level, vs in part["v_measures"].items() for n, v in enumerate(vs, 1)]
        items = _mean([name for name, _ in runs], [value for _, value in runs])
    else:
        items = None
    return items if items is not None and abs(items.value - part["main_score"]) <= ROUNDED else None


def _queries(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]], main: str) -> Items | None:
    """What trec_eval says of each query."""
    import pytrec_eval

    metric, at, depth = main.rpartition("_at_")
    if not at or metric not in CUTS:
        return None
    name = CUTS[metric]
    found = pytrec_eval.RelevanceEvaluator(qrels, {f"{name}.{depth}"}).evaluate(run)
    return _mean(list(found), [one[f"{name}_{depth}"] for one in found.values()])


def _pairs(ids: Sequence[str], cosines: Sequence[float], gold: Sequence[float], main: str) -> Items:
    from scipy.stats import pearsonr, spearmanr

    table = items_table(ids, cosines, gold)
    if main == "cosine_pearson":
        return Items("pearson", table, float(pearsonr(gold, cosines)[0]))
    return Items("spearman", table, float(spearmanr(gold, cosines)[0]))


def _mean(ids: Sequence[str], values: Sequence[float]) -> Items:
    return Items("mean", items_table(ids, values), float(np.mean(values)))


def _fit(predictions: Sequence[Sequence[Any]], gold: Any) -> bool:
    """Whether each experiment was asked all texts; those of a cross-validation are asked a part each."""
    return all(len(one) == len(gold) for one in predictions)


def _ids(job: Job, count: int) -> list[str]:
    """Names of pairs or texts: those of the local set, else their numbers from 1."""
    ids = getattr(job.data, "ids", None) or getattr(getattr(job.data, "test", None), "ids", None)
    return list(ids or map(str, range(1, count + 1)))

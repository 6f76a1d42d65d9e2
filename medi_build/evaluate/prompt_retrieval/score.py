"""How right answers are, and how right the examples are that were retrieved."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.tasks import Example, Task, sql


class Judgement(NamedTuple):
    """How a task went.

    Attributes:
        main_metric: the one that is the mean of ``values``.
        metrics: by name, as fractions of 1.
        values: one of each question.
        no_label: answers that are none of the labels; they count as wrong.
    """

    main_metric: str
    metrics: dict[str, float]
    values: list[float]
    no_label: int = 0


def judge_answers(task: Task, answers: Sequence[str]) -> Judgement:
    """Accuracy where there are labels, else ROUGE-L and exact matches of whole queries.

    The public script reports ROUGE-L of all tasks; of labels, which it compares as numbers, that is the accuracy.

    Raises:
        EvaluationError: a package is missing.
    """
    right = [question.answer for question in task.questions]
    if task.form.labels:
        found = [label_in(answer, task.form.labels) for answer in answers]
        values = [float(label == gold) for label, gold in zip(found, right, strict=True)]
        return Judgement("accuracy", {"accuracy": float(np.mean(values))}, values, found.count(None))
    queries = [query_of(task, answer) for answer in answers]
    values = rouge_l(queries, right)
    exact = [query == gold for query, gold in zip(queries, right, strict=True)]
    return Judgement("rouge_l", {"rouge_l": float(np.mean(values)), "exact_match": float(np.mean(exact))}, values)


def judge_examples(task: Task, examples: Sequence[Sequence[Example]]) -> Judgement:
    """The share of each question's examples, the most similar last, that are of its kind; and of the nearest alone.

    That is the share with the right label or, in a task without labels, with the template of the right SQL query. A
    question without examples counts as 0.
    """
    same = [[one.kind == asked.kind for one in own] for asked, own in zip(task.questions, examples, strict=True)]
    values = [float(np.mean(own)) if own else 0.0 for own in same]
    nearest = [bool(own) and own[-1] for own in same]
    what = "label" if task.form.labels else "template"
    main = f"{what}_share"
    return Judgement(main, {main: float(np.mean(values)), f"nearest_{what}": float(np.mean(nearest))}, values)


def label_in(text: str, labels: Sequence[str]) -> str | None:
    """The label that a generated text is or begins with, whatever its case and the marks around it; None if none is."""
    words = re.findall(r"\w+", text.casefold())
    for label in labels:  # none of which begins with another
        told = re.findall(r"\w+", label.casefold())
        if words[: len(told)] == told:
            return label
    return None


def query_of(task: Task, answer: str) -> str:
    """The whole query that an answer stands for, up to where one ends: models that chat begin it anew."""
    begin, text = task.form.begin, answer.strip()
    text = min((text.split(end)[0] for end in task.form.stop), key=len)
    return sql(text if text.upper().startswith(begin) else f"{begin} {text}")


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L (F) of each pair, stemmed, as the public script computes it.

    Raises:
        EvaluationError: the library is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise EvaluationError(
            "ROUGE-L needs the package rouge_score, which is not installed; pip install 'medi-build[eval]'"
        ) from error
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [float(scorer.score(r, p)["rougeL"].fmeasure) for p, r in zip(predictions, references, strict=True)]

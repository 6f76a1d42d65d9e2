"""One task of Prompt Retrieval from its files to a result."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from medi_build.errors import EvaluationError
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.prompt_retrieval.complete import ESTIMATED, Asked, LanguageModel, complete, estimate
from medi_build.evaluate.prompt_retrieval.score import judge_answers, judge_examples, rouge_l
from medi_build.evaluate.prompt_retrieval.select import Lengths, choose, measure, same_texts, vote_k
from medi_build.evaluate.prompt_retrieval.tasks import Task
from medi_build.evaluate.results import Result, items_table
from medi_build.progress import Silent

TASK_TYPE = "PromptRetrieval"


@dataclass(frozen=True)
class Setup:
    """How examples are chosen.

    Attributes:
        select: "knn": from the whole pool; "vote-k": from as many examples of it as ``pool_size``, chosen by vote-k.
        pool_size: see ``select``.
        budget: tokens of a prompt at most; None for the task's own, or less where the language model's window is less.
    """

    select: Literal["knn", "vote-k"] = "knn"
    pool_size: int = 100
    budget: int | None = None


class Prepared(NamedTuple):
    """A task that can be run: what could be wrong with it before any text is encoded is not.

    Attributes:
        task: the task.
        lengths: of its texts in tokens, and the budget.
        setup: how examples are chosen.
        llm: who completes the prompts; None where only the examples are judged.
    """

    task: Task
    lengths: Lengths
    setup: Setup
    llm: LanguageModel | None

    @property
    def name(self) -> str:
        """What results are called: the task, who completes or "knn", and how the pool was chosen if it was."""
        chosen = f"-vote-k-{self.setup.pool_size}" if self.setup.select == "vote-k" else ""
        return f"{self.task.name}-{self.llm.name if self.llm else 'knn'}{chosen}"


def prepare(task: Task, setup: Setup, llm: LanguageModel | None) -> Prepared:
    """Check what can be checked before the encoding.

    Raises:
        EvaluationError: the budget is over the language model's window or fits no example, or a package is missing.
    """
    budget = setup.budget or task.form.budget
    if llm is not None and llm.window is not None:
        room = llm.window - task.form.answer_tokens
        if setup.budget is not None and setup.budget > room:
            raise EvaluationError(
                f"--budget {setup.budget}: {llm.name} takes {llm.window} tokens, of which an answer of {task.name} "
                f"needs {task.form.answer_tokens}; allow at most {room}"
            )
        budget = min(budget, room)
    if llm is not None and not task.form.labels:
        rouge_l([], [])  # tells if the package is missing
    return Prepared(task, measure(task, llm.count if llm else estimate, budget), setup, llm)


def evaluate(
    model: EvaluatedModel, prepared: Prepared, folder: Path, progress: Silent | None = None
) -> tuple[Result, pa.Table]:
    """What a model reaches on one task, and on each of its questions.

    Args:
        model: chooses the examples.
        prepared: the task.
        folder: of results, where answers of a language model are kept.
        progress: told of stages.

    Raises:
        EncoderError: the model cannot be loaded, or gives unusable vectors.
        EvaluationError: the language model gives no usable answers.
    """
    start, progress = time.perf_counter(), progress or Silent()
    task, setup, llm = prepared.task, prepared.setup, prepared.llm
    progress.stage(prepared.name, "encode")
    texts = [example.text for example in [*task.pool, *task.questions]]
    vectors = model.vectors(texts, TASK_TYPE, task=task.name).astype(np.float16)
    pool, questions = vectors[: len(task.pool)], vectors[len(task.pool) :]
    kept = np.sort(vote_k(pool, setup.pool_size)) if setup.select == "vote-k" else np.arange(len(pool))
    chosen = choose(task, prepared.lengths, pool, questions, kept, llm.count if llm else estimate)
    examples = [[task.pool[number] for number in own] for own in chosen]
    counts = {
        "questions": len(questions),
        "pool": len(kept),
        "examples": sum(map(len, chosen)),
        "questions_without_examples": sum(not own for own in chosen),
        "examples_with_a_questions_own_text": len(same_texts(task)[0]),
    }
    if llm is None:
        judged = judge_examples(task, examples)
    else:
        progress.stage(prepared.name, "complete")
        prompts = [task.prompt(question, own) for question, own in zip(task.questions, examples, strict=True)]
        form = task.form
        asked = [Asked(prompt, form.labels, form.stop, form.answer_tokens) for prompt in prompts]
        answers, kept_answers = complete(llm, asked, folder, progress.advance)
        judged = judge_answers(task, answers)
        counts |= {"answers_kept_from_before": kept_answers, "answers_that_are_no_label": judged.no_label}
    settings: dict[str, Any] = {
        "language_model": None if llm is None else dict(llm.about),
        "select": setup.select,
        "pool_size": len(kept),
        "budget": prepared.lengths.budget,
        "tokens": llm.tokens if llm else ESTIMATED,
    }
    result = Result(
        suite="prompt-retrieval",
        task=prepared.name,
        task_type=TASK_TYPE,
        model=dict(model.about),
        instructions={
            "source": model.instructions.source,
            "query": model.told(TASK_TYPE, task=task.name),
        },
        main_metric=judged.main_metric,
        metrics=judged.metrics,
        statistic="mean",
        counts=counts,
        settings=settings,
        seconds=time.perf_counter() - start,
    )
    return result, items_table([question.id for question in task.questions], judged.values)

"""What a run is evaluated by on its way: triplets held out of its data, and evaluation sets on disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from medi_build.arrays import Floats32
from medi_build.embedding import Side
from medi_build.encode.instructor import Instructor
from medi_build.errors import TrainError
from medi_build.evaluate.instructions import choose_instructions
from medi_build.evaluate.local_data import LocalSet
from medi_build.evaluate.local_sets import read_local_set
from medi_build.evaluate.mteb_model import need_mteb
from medi_build.evaluate.mteb_run import local_scores
from medi_build.evaluate.mteb_tasks import MAIN_METRICS
from medi_build.train.holdout import ACCURACY, TripletEvaluator

FORMS = {"beir": "Retrieval", "sts": "STS", "classification": "Classification", "clustering": "Clustering"}


def read_sets(named: Sequence[str]) -> tuple[LocalSet, ...]:
    """Evaluation sets, as ``--eval`` names them.

    Args:
        named: ``FORM:DIR``, each.

    Raises:
        TrainError: one is not of that form, has no such form, or two have one name.
        EvaluationError: a folder is no evaluation set, or mteb is not installed.
        InputError: a file cannot be read.
    """
    found: dict[str, LocalSet] = {}
    for one in named:
        form, colon, folder = one.partition(":")
        if not colon or form not in FORMS:
            raise TrainError(f"eval is {one!r}; it has to be FORM:DIR, FORM being one of {', '.join(FORMS)}")
        need_mteb()
        data = read_local_set(Path(folder))
        if data.task_type != FORMS[form]:
            kind = next(name for name, kind in FORMS.items() if kind == data.task_type)
            raise TrainError(f"eval {one}: the folder is of the form {kind}; write {kind}:{folder}")
        if data.name in found:
            raise TrainError(f"eval {one}: another set is named {data.name!r}, too; rename the folder")
        found[data.name] = data
    return tuple(found.values())


def metric_of(data: LocalSet) -> str:
    """Name of a set's score among a run's metrics: ``SET_METRIC``."""
    return f"{data.name}_{MAIN_METRICS[data.task_type]}"


class Evaluator(BaseEvaluator):  # type: ignore[misc]
    """Held-out accuracy, where rows are held out, and the main metric of each evaluation set.

    Sets are encoded under the instructions of `medi eval` for their kind of task, by the model as it is, in bfloat16
    where the hardware has it.
    """

    def __init__(self, triplets: TripletEvaluator | None, sets: Sequence[LocalSet]) -> None:
        super().__init__()
        self.triplets, self.sets = triplets, sets
        self.primary_metric = ACCURACY if triplets else metric_of(sets[0])

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate; accuracies as `TripletEvaluator` has them, and the scores of the sets by `metric_of`."""
        found = self.triplets(model) if self.triplets else {}
        training = model.training
        with _no_bars():
            for data in self.sets:
                found[metric_of(data)] = local_scores(_vectors(model), data)[MAIN_METRICS[data.task_type]]
        model.train(training)
        return found


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hold back the progress bars of datasets, which mteb has one of for each set."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _vectors(model: Any) -> Any:
    """`EvaluatedModel.vectors` of a model in training."""
    encoder = Instructor(modules=list(model), device=str(model.device), dtype="auto", truncate_dim=model.truncate_dim)
    instructions = choose_instructions("templates", leaves_instruction_out=True)

    def vectors(texts: Sequence[str], task_type: str, side: Side | None = None, task: str = "") -> Floats32:
        instruction = instructions.prompt(task_type, side, task).instruction
        found: Floats32 = encoder.encode([[instruction, text] for text in texts], normalize_embeddings=True)
        return found

    return vectors

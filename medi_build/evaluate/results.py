"""Results of evaluations: one JSON file each, with what a comparison needs item by item beside it."""

import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medi_build.devices import cores
from medi_build.errors import EvaluationError
from medi_build.files import atomic_file

Suite = Literal["mteb", "billboard", "prompt-retrieval", "triplets", "robustness"]
Statistic = Literal["mean", "pearson", "spearman"]
LIBRARIES = ("medi-build", "torch", "transformers", "sentence-transformers", "mteb")


def versions() -> dict[str, str]:
    """Versions of the libraries that decide results, those that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # an extra that is not there
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores in use, and accelerator."""
    import torch

    return {
        "machine": platform.machine(),
        "processor": torch.cpu.get_capabilities().get("cpu_name"),
        "cores": cores(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


class Result(BaseModel):
    """What one model reached on one task.

    Attributes:
        suite: which suite.
        task: name of the task.
        task_type: its kind, as mteb names kinds.
        model: name, revision, digest of the files, dtype, window and device.
        instructions: where they come from, and the text of each role (query, document, ...).
        main_metric: the metric that averages and comparisons take.
        metrics: value by name, as fractions of 1.
        statistic: what makes the main metric of the items; None where there are none.
        counts: sizes by name (queries, documents, dropped rows by reason, ...).
        settings: what else decides the result (seed, language model, token budget, ...).
        versions: of the libraries that took part.
        hardware: processor, cores, accelerator.
        seconds: wall time, without loading the model.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    suite: Suite
    task: str
    task_type: str
    model: dict[str, Any]
    instructions: dict[str, Any]
    main_metric: str
    metrics: dict[str, float]
    statistic: Statistic | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=versions)
    hardware: dict[str, Any] = Field(default_factory=hardware)
    seconds: float

    @property
    def main_score(self) -> float:
        """The value of the main metric."""
        return self.metrics[self.main_metric]

    @property
    def label(self) -> str:
        """The model as tables name it: its name, and what its texts had in front."""
        return f"{self.model['model']} ({self.instructions['source']})"


def items_table(ids: Sequence[str], values: Sequence[float], gold: Sequence[float] | None = None) -> pa.Table:
    """What the main metric is made of, a row per item.

    Args:
        ids: of the items (queries, pairs, test texts), the same for every model.
        values: a score whose mean is the metric, or what the model says where the metric is a correlation.
        gold: the other side of a correlation.
    """
    columns = {"id": pa.array(ids, pa.string()), "value": pa.array(values, pa.float64())}
    if gold is not None:
        columns["gold"] = pa.array(gold, pa.float64())
    return pa.table(columns)


def result_path(folder: Path, suite: str, task: str, model: Mapping[str, Any], source: str) -> Path:
    """Where a result lies: ``FOLDER/MODEL-DIGEST-INSTRUCTIONS/SUITE/TASK.json``."""
    name = f"{_slug(str(model['model']))}-{str(model['digest'])[:8]}-{_slug(Path(source).stem)}"
    return folder / name / suite / f"{_slug(task)}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text.strip("/").replace("/", "__")) or "_"


def save_result(folder: Path, result: Result, items: pa.Table | None = None) -> Path:
    """Write a result, its items first, so that a result that is there is whole.

    Raises:
        OSError: the folder is not writable.
    """
    path = result_path(folder, result.suite, result.task, result.model, result.instructions["source"])
    path.parent.mkdir(parents=True, exist_ok=True)
    if items is not None:
        with atomic_file(items_path(path)) as file:
            pq.write_table(items, pa.PythonFile(file, mode="w"), compression="zstd")
    with atomic_file(path) as file:
        file.write(orjson.dumps(result.model_dump(), option=orjson.OPT_INDENT_2) + b"\n")
    return path


def items_path(path: Path) -> Path:
    """Where the items of a result lie."""
    return path.with_suffix(".items.parquet")


def load_result(path: Path) -> Result:
    """Read a result.

    Raises:
        EvaluationError: the file is none.
    """
    try:
        return Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise EvaluationError(
            f"{path}: is no result of `medi eval` ({where}: {fault['msg']}); evaluate again, or move the file away"
        ) from error


def load_items(path: Path) -> pa.Table:
    """The items of the result at ``path``.

    Raises:
        EvaluationError: they are not there or cannot be read.
    """
    try:
        return pq.read_table(items_path(path))
    except (OSError, pa.ArrowException) as error:
        raise EvaluationError(f"{items_path(path)}: cannot be read ({error}); evaluate again") from error

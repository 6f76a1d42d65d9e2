"""Instructions of `medi eval`: by kind of task (`templates/evaluation.yaml`), or a user's own in the same form."""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medi_build.content.load import EVALUATION
from medi_build.content.yaml_files import UnreadableYamlError, read_yaml
from medi_build.errors import ContentError
from medi_build.paths import content_root


class Sides(BaseModel):
    """What stands in front of the texts of each side, to the letter; without ``document`` both get ``query``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str
    document: str | None = None


class EvaluationInstructions(BaseModel):
    """Instructions by name of the task, else by kind of task, else ``other``.

    Attributes:
        task_types: by kind of task.
        tasks: by name, for a user's own.
        other: of all other tasks.
        paraphrases: by kind of task, the same in other words.
        wrong: one that asks for something else than any of the tasks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_types: dict[str, Sides] = Field(default_factory=dict)
    tasks: dict[str, Sides] = Field(default_factory=dict)
    other: Sides
    paraphrases: dict[str, tuple[Sides, ...]] = Field(default_factory=dict)
    wrong: Sides | None = None

    def of(self, task_type: str, task: str) -> Sides:
        """The instructions of a task."""
        return self.tasks.get(task) or self.task_types.get(task_type) or self.other


@cache
def shipped_instructions() -> EvaluationInstructions:
    """Those that come along.

    Raises:
        ContentError: the file is not in its form.
    """
    return read_instructions(content_root() / "templates" / EVALUATION)


def read_instructions(path: Path) -> EvaluationInstructions:
    """Instructions from a file.

    Raises:
        ContentError: it cannot be read or is not in the form.
    """
    try:
        return EvaluationInstructions.model_validate(read_yaml(path))
    except OSError as error:
        raise ContentError(f"{path}: cannot be read ({error.strerror}); name a YAML file of instructions") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise ContentError(
            f"{path}: {where}: {fault['msg']}, saw {str(fault['input'])[:80]!r}; the form is that of "
            f"templates/{EVALUATION}: `other`, and by name `task_types` and `tasks`, each with "
            "`query` and optionally `document`"
        ) from error
    except UnreadableYamlError as error:
        raise ContentError(f"{path}: {error}") from error

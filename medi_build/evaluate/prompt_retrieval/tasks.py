"""The tasks of Prompt Retrieval: which rows there are, what is encoded of them, and how they stand in a prompt.

Texts, wording of the prompts, label names, budgets and ends of an answer are those of INSTRUCTOR's public script
(https://github.com/xlang-ai/instructor-embedding, evaluation/prompt_retrieval: `get_task.py`, `main_geo.py`, `main.py`
with MetaICL's "direct" form), but for these: GeoQuery's tables are told from the file itself, without rows of a
database that did not come with it, and its answers may be 256 tokens long, not 50, which many queries exceed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from medi_build.errors import EvaluationError, did_you_mean

Row = dict[str, Any]
_T = TypeVar("_T")


class Example(NamedTuple):
    """A row of the pool, or a test question.

    Attributes:
        id: its number in the file, from 0.
        text: what is encoded.
        ask: how it stands in a prompt, up to its answer.
        answer: the right one, as it stands in a prompt.
        kind: what is the same in examples that show the same: the label, or the template of the SQL query.
    """

    id: str
    text: str
    ask: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Form:
    """How a kind of rows is asked.

    Attributes:
        example: a row and its id as an example. Raises `KeyError` or `ValueError` if something is missing in it.
        labels: all answers that there are; none where the answer is free text.
        between: what separates an example from what comes next.
        begin: what the answer to the question begins with, the end of its prompt.
        stop: texts that end an answer.
        budget: tokens of a prompt, unless the user says otherwise.
        answer_tokens: tokens of an answer at most.
        header: what stands before the examples, from the first row; None for nothing.
    """

    example: Callable[[Row, str], Example]
    labels: tuple[str, ...]
    between: str = "\n\n\n"
    begin: str = ""
    stop: tuple[str, ...] = ("\n\n\n",)
    budget: int = 1000
    answer_tokens: int = 8
    header: Callable[[Row], str] | None = None


class Task(NamedTuple):
    """A task with its rows.

    Attributes:
        name: of the task.
        form: how its rows are asked.
        header: what stands before the examples of every prompt.
        pool: where examples are taken from.
        questions: what is asked.
    """

    name: str
    form: Form
    header: str
    pool: list[Example]
    questions: list[Example]

    def block(self, example: Example) -> str:
        """An example as it stands in a prompt."""
        return f"{example.ask}{example.answer}{self.form.between}"

    def prompt(self, question: Example, examples: list[Example]) -> str:
        """What is asked of a language model."""
        return f"{self.header}{''.join(map(self.block, examples))}{question.ask}{self.form.begin}"


def read_task(folder: Path, name: str) -> Task:
    """Read ``NAME_train.json`` (the pool) and ``NAME_eval.json`` (the questions).

    Raises:
        EvaluationError: no such task, a file is missing, empty or not in its form.
    """
    if name not in FORMS:
        raise EvaluationError(
            f"--task {name}: is no Prompt Retrieval task{did_you_mean(name, FORMS)}; they are {', '.join(FORMS)}"
        )
    form = FORMS[name]
    paths = files_of(folder, name)
    rows = [_rows(path) for path in paths]
    header = _made(f"{paths[0]}, row 0", form.header, rows[0][0]) if form.header else ""
    pool, questions = (
        [_made(f"{path}, row {i}", form.example, row, str(i)) for i, row in enumerate(part)]
        for path, part in zip(paths, rows, strict=True)
    )
    return Task(name, form, header, pool, questions)


def files_of(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a task's pool and its questions have to lie."""
    return folder / f"{name}_train.json", folder / f"{name}_eval.json"


def tasks_there(folder: Path) -> list[str]:
    """The tasks whose files are all there, at least one.

    Raises:
        EvaluationError: there are none.
    """
    found = [name for name in FORMS if all(path.is_file() for path in files_of(folder, name))]
    if not found:
        raise EvaluationError(
            f"--data {folder}: holds the files of no Prompt Retrieval task; name the folder that holds "
            f"{' or '.join(f'{name}_train.json and {name}_eval.json' for name in list(FORMS)[:2])} ..."
        )
    return found


def _rows(path: Path) -> list[Row]:
    """The objects of a JSON array, at least one."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: is missing; put it there, or leave the task out") from error
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise EvaluationError(f"{path}: is no JSON ({error}); get the file again") from error
    if not isinstance(parsed, list) or not parsed or not all(isinstance(row, dict) for row in parsed):
        raise EvaluationError(f"{path}: has to be a JSON array of objects, at least one; get the file again")
    return parsed


def _made(place: str, make: Callable[..., _T], *of: Any) -> _T:
    """What is made of a row; what is wrong with it is told with its place."""
    try:
        return make(*of)
    except KeyError as error:
        raise EvaluationError(f"{place}: has no {error.args[0]!r}; get the file again") from error
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{place}: {error}; get the file again") from error


def _text(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is {str(value)[:80]!r}, not a text")
    return value


def _label(row: Row, labels: tuple[str, ...]) -> str:
    """The label by its number."""
    number = row["label"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(labels):
        raise ValueError(f"'label' is {number!r}, not a number from 0 to {len(labels) - 1}")
    return labels[number]


def _rte(row: Row, number: str) -> Example:
    text = f"{_text(row, 'sentence1')}.\nquestion: {_text(row, 'sentence2')}"
    label = _label(row, RTE)
    return Example(number, text, f"{text}. True or False?\nanswer:\n", label, label)


def _sst5(row: Row, number: str) -> Example:
    text, label = _text(row, "text"), _label(row, SST5)
    return Example(number, text, f"How do you feel about the following sentence?\n{text}\nanswer:\n", label, label)


def _mrpc(row: Row, number: str) -> Example:
    text = f"{_text(row, 'sentence1')}.\n{_text(row, 'sentence2')}"
    label = _label(row, MRPC)
    asked = "Are the following two sentences 'equivalent' or 'not equivalent'?"
    return Example(number, text, f"{asked}\n{text}.\nanswer:\n", label, label)


def _geoquery(row: Row, number: str) -> Example:
    question, query = _text(row, "question"), sql(_text(row, "query"))
    return Example(number, _text(row, "seq_in"), f"-- {question}\n", query, sql(_text(row, "sql_template")))


def _tables(row: Row) -> str:
    """The tables of a question's database, and what is asked of it."""
    columns = list(zip(row["db_column_names"], row["db_column_types"], strict=True))
    told = []
    for number, table in enumerate(row["db_table_names"]):
        own = [f"  {column['column_name']} {kind}" for column, kind in columns if column["table_id"] == number]
        told.append(f"CREATE TABLE {table}(\n" + ",\n".join(own) + "\n)\n\n")
    return "".join(told) + "-- Using valid SQLite, answer the following questions for the tables provided above.\n"


def sql(query: str) -> str:
    """A query with single blanks and without its closing semicolon, which one file has and the other has not."""
    return " ".join(query.split()).rstrip("; ")


RTE = ("True", "False")
SST5 = ("very negative", "negative", "neutral", "positive", "very positive")
MRPC = ("not equivalent", "equivalent")
FORMS = {
    "rte": Form(_rte, RTE),
    "sst5": Form(_sst5, SST5),
    "mrpc": Form(_mrpc, MRPC),
    "geoquery": Form(
        _geoquery,
        (),
        between="\n\n",
        begin="SELECT",
        stop=("--", "\n\n", ";", "#"),
        budget=3800,
        answer_tokens=256,
        header=_tables,
    ),
}
"""Task -> how it is asked."""

"""What is looked for: the texts of evaluation sets, from mteb, a folder or a file."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from medi_build.errors import EvaluationError, InputError
from medi_build.evaluate.contamination.index import Entry, SetBatch
from medi_build.evaluate.local_sets import read_local_set
from medi_build.ingest.rows import rows_of
from medi_build.ingest.streams import lines_of
from medi_build.ledger import Ledger

MTEB = "mteb:"
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Files of rows with a ``text``; any other file holds a text a line."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TEXTS_AT_ONCE = 8192
_NO_CONTENT = {
    *(
        "id",
        "_id",
        "qid",
        "query-id",
        "corpus-id",
        "idx",
        "url",
        "source",
        "file",
        "dataset",
        "split",
        "lang",
        "language",
    ),
    *("label", "labels", "label_text", "category", "domain", "genre", "score", "top_ranked", "relevant_docs", "qrels"),
}
"""Columns of mteb's tasks that hold no text which a model is asked about."""


@dataclass(frozen=True)
class EvaluationSource:
    """An evaluation set whose texts can be read.

    Attributes:
        name: under which hits are reported.
        read: yields its texts; each call from the beginning.
    """

    name: str
    read: Callable[[], Iterator[Entry]]


@dataclass(frozen=True)
class ReadSet:
    """What was read of an evaluation set.

    Attributes:
        name: of the set.
        texts: texts with a word, repeated ones counted again.
        digest: SHA-256 over all texts in their order.
    """

    name: str
    texts: int
    digest: str


def open_against(given: Sequence[str]) -> list[EvaluationSource]:
    """Evaluation sets as a user names them: ``mteb:TASK`` (or a benchmark's name), a folder, a file.

    Raises:
        EvaluationError: nothing is given, there is no such task, folder or file, a folder is no evaluation set, two
            have the same name, or mteb is not installed.
        InputError: a file of a folder cannot be read.
    """
    sources = [source for one in given for source in _open(one)]
    if not sources:
        raise EvaluationError("nothing to check against; name mteb:TASK, a folder or a file")
    names: dict[str, EvaluationSource] = {}
    for source in sources:
        if source.name in names:
            raise EvaluationError(
                f"{', '.join(given)}: two sets are named {source.name!r}; rename one, or leave it out"
            )
        names[source.name] = source
    return sources


def _open(given: str) -> list[EvaluationSource]:
    if given.startswith(MTEB):
        return [EvaluationSource(task.metadata.name, partial(_task_texts, task)) for task in _tasks(given)]
    path = Path(given)
    if path.is_dir():
        found = read_local_set(path)
        return [EvaluationSource(found.name, lambda: (Entry(*one) for one in found.texts()))]
    if path.is_file():
        return [EvaluationSource(path.name, partial(_file_texts, path))]
    raise EvaluationError(
        f"{given}: no such file or folder; give {MTEB}TASK, the folder of an evaluation set, or a file with a text a "
        "line or JSON lines with `text`"
    )


def batches(sources: Sequence[EvaluationSource], told: list[ReadSet]) -> Iterator[SetBatch]:
    """The texts of all sets in batches; ``told`` gets what was read of each.

    Raises:
        EvaluationError: a set has no text with a word.
        InputError: a file cannot be read or a row has no text.
    """
    for number, source in enumerate(sources):
        digest, count = hashlib.sha256(), 0
        entries = source.read()
        while some := list(islice(entries, TEXTS_AT_ONCE)):
            for entry in some:
                digest.update(entry.text.encode(errors="surrogatepass") + b"\0")
            usable = [entry for entry in some if any(map(str.isalnum, entry.text))]
            count += len(usable)
            if usable:
                yield SetBatch(number, usable)
        if not count:
            raise EvaluationError(f"{source.name}: holds no text; is it the right file or folder, and whole?")
        told.append(ReadSet(source.name, count, digest.hexdigest()))


# --- files


def _file_texts(path: Path) -> Iterator[Entry]:
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return _row_texts(path) if name.endswith(TABLES) else _line_texts(path)


def _line_texts(path: Path) -> Iterator[Entry]:
    for number, line in lines_of(path):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: is not UTF-8 ({error.reason}); convert the file") from error
        if text:
            yield Entry("text", str(number), text)


def _row_texts(path: Path) -> Iterator[Entry]:
    ledger = Ledger(path.name)
    for number, row in rows_of(path, ledger, known=("text",)):
        _check_whole(ledger)
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            seen = f"the keys {', '.join(map(str, row)) or 'none'}" if isinstance(row, dict) else repr(row)[:80]
            raise InputError(f"{path}: row {number} has {seen}; a row of evaluation texts has a string `text`")
        yield Entry("text", str(row.get("id", row.get("_id", number))), row["text"])
    _check_whole(ledger)


def _check_whole(ledger: Ledger) -> None:
    for reason, places in ledger.places.items():
        raise InputError(f"{places[0]}: {reason.removeprefix('adapt/')}; mend the file: no text may be missed")


# --- mteb


def _tasks(given: str) -> list[Any]:
    """The task, or the tasks of the benchmark, that is named."""
    from medi_build.evaluate.mteb_tasks import named_tasks  # which brings torch

    found = named_tasks(given.removeprefix(MTEB), given, MTEB)
    return [part for task in found for part in (task.metadata.tasks if _is_aggregate(task) else [task])]


def _is_aggregate(task: Any) -> bool:
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    return isinstance(task, AbsTaskAggregate)


def _task_texts(task: Any) -> Iterator[Entry]:
    name = task.metadata.name
    try:
        task.load_data()
    except Exception as error:  # of the hub's and the data sets' libraries: there is no root to name
        raise EvaluationError(
            f"{MTEB}{name}: its data, {task.metadata.dataset['path']}, cannot be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); without a network give a folder or a file of its texts, or what "
            "is in the hub's cache with HF_HUB_OFFLINE=1"
        ) from error
    yield from task_entries(task.dataset, list(task.eval_splits), list(task.hf_subsets))
    task.unload_data()


def task_entries(dataset: Any, splits: Sequence[str], subsets: Sequence[str]) -> Iterator[Entry]:
    """All texts of the evaluation splits of a task's data, whatever its columns are called."""
    found = 0
    for split in splits:
        for subset in subsets:
            part = dataset.get(subset, dataset) if subset in dataset or split in dataset else {}
            if split in part:
                yield from _part_texts(part[split], split if subset == "default" else f"{subset}/{split}")
                found += 1
    if not found:  # data of an older shape: parts by name, with the splits inside
        for part in ("corpus", "queries"):
            for split in splits:
                if split in dataset.get(part, {}):
                    yield from _part_texts({part: dataset[part][split]}, split)


def _part_texts(part: Any, where: str) -> Iterator[Entry]:
    """Texts of a split: a table, or tables and dictionaries by name."""
    if hasattr(part, "column_names"):
        names = [name for name in part.column_names if name.lower() not in _NO_CONTENT]
        titled = {"title", "text"} <= {*names}
        for number, row in enumerate(part):
            key = f"{where}/{row.get('id', row.get('_id', number))}"
            if titled:
                yield Entry("text", key, f"{row['title'] or ''} {row['text'] or ''}".strip())
            for name in names:
                if not titled or name not in ("title", "text"):
                    yield from (Entry(name, key, text) for text in _strings(row[name]))
    elif isinstance(part, dict):
        for name, inner in part.items():
            if name.lower() not in _NO_CONTENT:
                if hasattr(inner, "column_names"):
                    yield from (entry._replace(role=name) for entry in _part_texts(inner, where))
                else:
                    yield from (Entry(name, where, text) for text in _strings(inner))


def _strings(value: Any) -> Iterator[str]:
    """All strings in lists and dictionaries of any depth; of a document its title and text as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("text"), str):
        yield f"{value.get('title') or ''} {value['text']}".strip()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)

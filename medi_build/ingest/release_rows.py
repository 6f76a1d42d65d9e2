"""Rows of a public release of MEDI, in any form it had: a file, a folder of files, or a dataset on the hub.

Of 2022 and 2023, a row is ``{query: [instruction, text], pos, neg, task_id}`` (``task_name`` at first, with 0 or 1 as a
third entry of a side; lists of rows for each batch). In a later form a side is a list of such pairs and the file's name
is the task. In the re-uploads, sides are texts, beside ``query_instruct``, ``pos_instruct``, ``neg_instruct`` and
``task_name``.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medi_build.dataset.release import ReleaseRow
from medi_build.errors import InputError, MissingInputError
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger

SIDES = ("query", "pos", "neg")
ENDINGS = (".json", ".jsonl", ".parquet", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst")
_FORMS = "a row has query, pos, neg and task_id or task_name (beside plain texts also query_instruct and so on)"


def release_rows(source: str) -> Iterator[ReleaseRow]:
    """Stream all rows of a release.

    Args:
        source: a file of JSON lines, a JSON array or Parquet; a folder of them; or a dataset's id on the hub.

    Raises:
        MissingInputError: there is no such file, folder or dataset.
        InputError: a file is empty, damaged, or holds something else.
    """
    path = Path(source)
    if path.is_file():
        yield from _file_rows(path, _stem(path) if _stem(path).isdecimal() else None)
    elif path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.name.endswith(ENDINGS) and file.is_file()]
        if not files:
            raise MissingInputError(f"{path}: holds no file of rows (*{', *'.join(ENDINGS)})")
        for file in files:
            yield from _file_rows(file, _stem(file))
    elif re.fullmatch(r"[\w.\-]+/[\w.\-]+", source) and not source.startswith(".") and not source.endswith(ENDINGS):
        yield from _checked(_hub_rows(source), source, None)
    else:
        raise MissingInputError(f"{source}: no such file or folder, and no id of the hub (OWNER/NAME); check the path")


def _stem(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _file_rows(path: Path, task: str | None) -> Iterator[ReleaseRow]:
    ledger = Ledger(path.name)
    yield from _checked(_whole_rows(path, ledger), str(path), task)


def _whole_rows(path: Path, ledger: Ledger) -> Iterator[Any]:
    """The rows of a file, of which none may be broken: a file that is cut is not to be compared."""
    for _, value in rows_of(path, ledger):
        if ledger.dropped:
            break
        yield value
    if ledger.dropped:
        [(reason, places)] = list(ledger.places.items())[:1]
        raise InputError(
            f"{places[0]}: {reason.removeprefix('adapt/')}; this is no row of MEDI, or the file is cut: fetch it again"
        )


def _hub_rows(name: str) -> Iterator[Any]:
    from datasets import load_dataset

    try:
        yield from load_dataset(name, split="train", streaming=True)
    except Exception as error:  # whatever the hub client raises, often on several lines
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingInputError(
            f"{name}: neither a file or folder nor a dataset that the hub gives out ({told}); check the name, or fetch "
            "its files and give their folder"
        ) from error


def _checked(values: Iterable[Any], source: str, task: str | None) -> Iterator[ReleaseRow]:
    """Rows from what was read, lists of rows laid flat; ``task`` is that of rows which name none."""
    count = 0
    for value in values:
        for one in value if isinstance(value, list) else (value,):
            count += 1
            yield _row(one, f"{source}: row {count}", task)
    if not count:
        raise InputError(f"{source}: holds no rows; is it whole?")


def _row(value: Any, where: str, task: str | None) -> ReleaseRow:
    if not isinstance(value, dict):
        raise InputError(f"{where}: is {_shown(value)}; {_FORMS}")
    missing = [side for side in SIDES if side not in value]
    name = value.get("task_name", value.get("task_id", task))
    if missing or isinstance(name, bool) or not isinstance(name, str | int):
        lacks = missing or ["task_id or task_name"]
        raise InputError(
            f"{where}: has no {', no '.join(lacks)}; its columns are {', '.join(map(str, value))}; {_FORMS}"
        )
    query, pos, neg = (_side(value, side, where) for side in SIDES)
    if not query or not pos:
        raise InputError(f"{where}: {'pos' if query else 'query'} is empty; {_FORMS}")
    return ReleaseRow(str(name), *query[0], pos[0][0], [text for _, text in neg])


def _side(row: dict[str, Any], side: str, where: str) -> list[tuple[str, str]]:
    """``(instruction, text)`` of each text of a side."""
    value, instruction = row[side], row.get(f"{side}_instruct")
    if isinstance(instruction, str):
        texts = value if isinstance(value, list) else [value]
        if len(texts) == 2 and texts[0] == instruction:
            texts = texts[1:]
        if all(isinstance(text, str) for text in texts):
            return [(instruction, text) for text in texts]
        value = texts
    elif side == "neg" and value is None:
        return []
    if _is_pair(value):
        return [(value[0], value[1])]
    if isinstance(value, list) and all(map(_is_pair, value)):
        return [(pair[0], pair[1]) for pair in value]
    raise InputError(
        f"{where}: {side} is {_shown(row[side])}; it has to be [instruction, text], a list of such, or a text beside "
        f"{side}_instruct"
    )


def _is_pair(value: Any) -> bool:
    """Whether it is ``[instruction, text]``, perhaps with a third entry."""
    return isinstance(value, list) and len(value) in (2, 3) and isinstance(value[0], str) and isinstance(value[1], str)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"

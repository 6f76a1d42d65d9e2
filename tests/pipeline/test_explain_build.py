"""``--explain`` and ``--exclude`` over whole builds: beside the dataset, resumed, in processes, locked, committed."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.explain import explain
from medi_build.dataset.explanations import MARKED, TAKEN
from medi_build.dataset.marks import RECORD, Mark, write_marks
from medi_build.dataset.reader import open_dataset
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.verify import verify
from medi_build.errors import DatasetError, InputError, LockError
from medi_build.files import text_digest
from medi_build.pipeline import run
from medi_build.pipeline.dry_run import dry_run
from medi_build.pipeline.executor.attempt import Attempt
from medi_build.pipeline.executor.away import Done, build_away
from medi_build.pipeline.executor.bring import blocks_of
from medi_build.pipeline.lock import lock_of, write_lock
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from medi_build.pipeline.unit import UnitJob, build_unit
from medi_build.progress import Silent

pytestmark = pytest.mark.slow

CAPTIONS, FAQ = "embedding_training_data/sample_captions", "embedding_training_data/sample_faq"
SOURCES = (CAPTIONS, FAQ, "super_ni/task9005_sample_report_tagging")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def options(out: Path, cache: Path, **changes: object) -> BuildOptions:
    given = {"out": out, "cache": cache, "offline": True, "sources": SOURCES, "limit_per_dataset": 40}
    return BuildOptions(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build(options(tmp_path_factory.mktemp("plain") / "out", cache))


@pytest.fixture(scope="module")
def told(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build(options(tmp_path_factory.mktemp("told") / "out", cache, explain=True))


def digests(folder: Path, *parts: str) -> dict[str, str]:
    files = [path for part in parts for path in sorted(folder.glob(part))]
    assert files
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def record_of(out: Path, dataset: str, place: int = 0) -> dict[str, object]:
    built = open_dataset(out)
    entry = next(one for one in built.manifest.datasets if one.name == dataset)
    return pl.read_parquet(built.shards_of(entry)).row(place, named=True)


DATA = ("data/*", "medi-data.json", "tasks.csv", "README.md")


def test_the_dataset_is_the_same_with_explanations_and_without(plain: BuildResult, told: BuildResult) -> None:
    assert digests(told.out, *DATA) == digests(plain.out, *DATA)
    assert told.manifest.digest == plain.manifest.digest
    listed = {file.path: file.sha256 for file in told.manifest.explanations}
    assert listed == digests(told.out, "explain/*") and len(listed) == 2 * len(SOURCES)
    assert not plain.manifest.explanations and not (plain.out / "explain").exists()
    verify(told.out)


def test_a_damaged_explanation_is_found_and_a_missing_one_is_none(told: BuildResult, tmp_path: Path) -> None:
    copy = shutil.copytree(told.out, tmp_path / "copy")
    path = copy / told.manifest.explanations[0].path
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(DatasetError, match="sha256 is"):
        verify(copy)
    path.unlink()
    verify(copy)


def test_processes_and_a_resumed_build_give_the_same(
    plain: BuildResult, told: BuildResult, cache: Path, tmp_path: Path
) -> None:
    build(options(tmp_path / "two", cache, explain=True, jobs=2))
    assert digests(tmp_path / "two", *DATA, "explain/*") == digests(told.out, *DATA, "explain/*")
    build(options(tmp_path / "later", cache))
    later = options(tmp_path / "later", cache, explain=True)
    assert {one.what for one in dry_run(later)} == {"build"}
    build(later)
    assert digests(tmp_path / "later", *DATA, "explain/*") == digests(told.out, *DATA, "explain/*")
    assert {one.what for one in dry_run(later)} == {"keep"}
    (tmp_path / "later" / told.manifest.explanations[0].path).unlink()
    again = build(later)
    assert list(again.seconds) == [CAPTIONS], "what was lost is made again, and no more"
    kept = build(options(tmp_path / "later", cache))
    assert not kept.seconds and kept.manifest == again.manifest, "who does not ask again does not lose them"


def test_every_record_is_explained(told: BuildResult) -> None:
    built = open_dataset(told.out)
    for name in SOURCES:
        record = record_of(told.out, name, 3)
        found = explain(built, str(record["id"]))
        taken = [one for one in found.candidates if one.verdict == TAKEN]
        assert [(one.id, one.text) for one in taken] == [(record["neg_id"], record["neg"][1])]  # type: ignore[index]
        assert len(found.candidates) > 5
        assert found.found is not None and found.found.record["source_row"] == record["source_row"]


def test_without_explanations_one_error_says_what_helps(plain: BuildResult, told: BuildResult, tmp_path: Path) -> None:
    some = str(record_of(plain.out, FAQ)["id"])
    with pytest.raises(DatasetError, match="--explain writes them"):
        explain(open_dataset(plain.out), some)
    with pytest.raises(DatasetError, match=r"no record of .* has this id"):
        explain(open_dataset(told.out), f"{FAQ}/none")


def test_the_command_prints_a_table_or_json(told: BuildResult, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(told.out, FAQ)
    monkeypatch.chdir(told.out)
    done = CliRunner().invoke(app, ["explain", str(record["id"])])
    assert (
        done.exit_code == 0
        and "taken" in done.stdout
        and "spare" in done.stdout
        and str(record["source_file"]) in done.stdout
    )
    parsed = json.loads(CliRunner().invoke(app, ["explain", str(record["id"]), "--json"]).stdout)
    assert [one["text"] for one in parsed["candidates"] if one["verdict"] == "taken"] == [record["neg"][1]]  # type: ignore[index]


@pytest.fixture
def marks(told: BuildResult, tmp_path: Path) -> Path:
    """A wrong negative, a record, and what is not there."""
    wrong, out = record_of(told.out, CAPTIONS), record_of(told.out, FAQ)
    query, neg = (text_digest(wrong[side][1]) for side in ("query", "neg"))  # type: ignore[index]
    made = [
        Mark(str(wrong["id"]), neg, query, reason="true as well"),
        Mark(str(out["id"]), RECORD),
        Mark(f"{FAQ}/gone", RECORD),
        Mark("other/set/1", RECORD),
    ]
    write_marks(tmp_path / "marks.jsonl", made)
    return tmp_path / "marks.jsonl"


def test_marks_are_honoured_counted_and_written_down(
    told: BuildResult, cache: Path, marks: Path, tmp_path: Path
) -> None:
    asked = options(tmp_path / "out", cache, exclude=marks, explain=True)
    made = build(asked)
    wrong, gone = record_of(told.out, CAPTIONS), record_of(told.out, FAQ)
    now = record_of(made.out, CAPTIONS)
    assert now["id"] == wrong["id"] and now["neg"] != wrong["neg"]
    assert [one.id for one in explain(open_dataset(made.out), str(now["id"])).candidates if one.verdict == MARKED] == [
        wrong["neg_id"]
    ]
    assert gone["id"] not in pl.read_parquet(sorted((made.out / "data").glob("*faq*")))["id"]
    ledgers = {one.dataset: one for one in made.ledgers}
    assert ledgers[FAQ].dropped["mine"]["marked_record"] == 1
    assert ledgers[CAPTIONS].notes["marked_negatives"] == 1
    used = made.manifest.marks
    assert used is not None and (used.marks, used.without_effect) == (4, 2)
    assert used.sha256 == hashlib.sha256(marks.read_bytes()).hexdigest()
    assert digests(made.out, "data/*super_ni*") == digests(told.out, "data/*super_ni*")
    assert not build(asked).seconds, "the same marks decide the same"
    verify(made.out)


def test_only_datasets_whose_marks_changed_are_built_again(cache: Path, marks: Path, tmp_path: Path) -> None:
    build(options(tmp_path / "out", cache, exclude=marks))
    lines = marks.read_text(encoding="utf-8").splitlines()
    marks.write_text("\n".join([lines[0].replace("true as well", "yes"), *lines[2:]]), encoding="utf-8")
    again = build(options(tmp_path / "out", cache, exclude=marks))
    assert list(again.seconds) == [FAQ]
    assert list(build(options(tmp_path / "out", cache)).seconds) == [CAPTIONS, FAQ]


def test_a_lock_file_tells_of_marks(cache: Path, marks: Path, tmp_path: Path) -> None:
    made = build(options(tmp_path / "out", cache, exclude=marks, limit_per_dataset=None))
    write_lock(lock_of(made.manifest), tmp_path / "medi.lock")
    locked = {"locked": tmp_path / "medi.lock", "limit_per_dataset": None}
    with pytest.raises(LockError, match=f"{CAPTIONS}: marks: .* -> none"):
        build(options(tmp_path / "again", cache, **locked))
    build(options(tmp_path / "again", cache, exclude=marks, explain=True, **locked))
    assert digests(tmp_path / "again", *DATA) == digests(tmp_path / "out", *DATA)


def test_a_faulty_file_of_marks_stops_the_build_before_it_starts(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "marks.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"marks\.jsonl:1: has no id"):
        build(options(tmp_path / "out", cache, exclude=tmp_path / "marks.jsonl"))
    assert not (tmp_path / "out").exists()


def test_a_version_has_the_records_and_not_the_explanations(told: BuildResult, tmp_path: Path) -> None:
    runner, warehouse = CliRunner(), ["--warehouse", str(tmp_path / "warehouse")]
    done = runner.invoke(app, ["commit", str(told.out), "-m", "told", *warehouse])
    assert done.exit_code == 0, done.output
    some = str(record_of(told.out, FAQ)["id"])
    failed = runner.invoke(app, ["explain", some, "--in", "main", *warehouse])
    assert isinstance(failed.exception, DatasetError) and "name the folder" in str(failed.exception)
    done = runner.invoke(app, ["checkout", "main", "--out", str(tmp_path / "got"), *warehouse])
    assert done.exit_code == 0, done.output
    assert digests(tmp_path / "got", "data/*", "medi-data.json") == digests(told.out, "data/*", "medi-data.json")


def test_another_node_makes_the_same_and_hands_it_over(
    told: BuildResult, cache: Path, marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dataset goes the way that it goes on a cluster whose nodes share no disk."""
    (tmp_path / "token").write_text("the driver's", encoding="utf-8")

    def travelled(job: UnitJob, watcher: Silent, share: object) -> Receipt:
        attempt, receipt = Attempt(0, job, 0), None
        errand = attempt.errand(tmp_path / "node", (tmp_path / "token", "another's"), lambda _: "", "cpu")
        for one in build_away(errand, partial(build_unit, watcher=watcher), blocks_of):
            if isinstance(one, Done):
                receipt = one.receipt
            else:
                attempt.take(one, watcher)
        assert receipt is not None
        attempt.keep(receipt)
        return receipt

    here = build(options(tmp_path / "here", cache, exclude=marks, explain=True))
    monkeypatch.setattr(run, "build_unit", travelled)
    away = build(options(tmp_path / "away", cache, exclude=marks, explain=True))
    assert digests(away.out, *DATA, "explain/*") == digests(here.out, *DATA, "explain/*")
    assert away.manifest.explanations == here.manifest.explanations

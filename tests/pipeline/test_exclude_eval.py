"""`exclude_eval`: examples that hold evaluation text are dropped and counted, candidates that do are left out."""

import hashlib
import json
from pathlib import Path

import pytest

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.verify import verify
from medi_build.errors import EvaluationError, OptionError
from medi_build.evaluate.contamination.report import contamination
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build

pytestmark = pytest.mark.slow

SOURCES = ("medmcqa/sample", "embedding_training_data/sample")


def built(out: Path, sources: tuple[str, ...] = ("all",), **changes: object) -> BuildResult:
    options = {"offline": True, "cache": out.parent / "cache", **changes}
    return build(BuildOptions(out=out, sources=sources, **options))  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("excluding")


@pytest.fixture(scope="module")
def plain(root: Path) -> BuildResult:
    return built(root / "plain")


def records(out: Path) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = json.loads((out / "medi-data.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def sets(root: Path, plain: BuildResult) -> list[str]:
    """Two sets: queries (changed in case) of some records, and positives and negatives of others."""
    some = records(plain.out)
    queries = [one["query"][1].upper() for one in some[::9]]
    others = [one["pos"][1] for one in some[4::11]] + [one["neg"][1] for one in some[7::13]]
    (root / "queries.txt").write_text("\n".join(" ".join(text.split()) for text in queries), encoding="utf-8")
    (root / "others.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in others), encoding="utf-8")
    return [str(root / "queries.txt"), str(root / "others.jsonl")]


@pytest.fixture(scope="module")
def fresh(root: Path, sets: list[str]) -> BuildResult:
    return built(root / "fresh", exclude_eval=tuple(sets))


def test_the_records_hold_none_of_the_texts_any_more(plain: BuildResult, fresh: BuildResult, sets: list[str]) -> None:
    before = contamination(plain.out, sets).to_dict()
    after = contamination(fresh.out, sets).to_dict()
    assert before["records_hit"] > 50 and after["records_hit"] == 0
    assert 0 < after["records"] < before["records"]
    assert verify(fresh.out).rows == fresh.manifest.rows == after["records"]


def test_every_row_is_accounted_for(plain: BuildResult, fresh: BuildResult) -> None:
    dropped = {"queries.txt": 0, "others.jsonl": 0}
    for ledger, as_before in zip(fresh.ledgers, plain.ledgers, strict=True):
        ledger.check()
        assert (ledger.dataset, ledger.read, ledger.adapted) == (as_before.dataset, as_before.read, as_before.adapted)
        for reason, count in ledger.dropped.get("sample", {}).items():
            if reason.startswith("evaluation_text:"):
                dropped[reason.removeprefix("evaluation_text:")] += count
    assert all(dropped.values())
    assert {one.name: one.dropped for one in fresh.manifest.excluded} == dropped
    assert sum(ledger.notes["evaluation_text_negatives"] for ledger in fresh.ledgers) > 0


def test_manifest_and_card_tell_what_was_checked(plain: BuildResult, fresh: BuildResult, sets: list[str]) -> None:
    assert open_dataset(fresh.out).manifest == fresh.manifest
    assert [(one.name, one.texts) for one in fresh.manifest.excluded] == [
        (Path(path).name, len(Path(path).read_text(encoding="utf-8").splitlines())) for path in sets
    ]
    assert fresh.manifest.pipeline["exclude_eval"] == sets
    card = (fresh.out / "README.md").read_text(encoding="utf-8")
    for one in fresh.manifest.excluded:
        assert f"| {one.name} | {one.texts:,} | {one.dropped:,} | `{one.sha256[:16]}` |" in card
    assert plain.manifest.excluded == []
    assert "compared with no evaluation set" in (plain.out / "README.md").read_text(encoding="utf-8")


def test_the_bytes_are_the_same_with_two_processes(root: Path, fresh: BuildResult, sets: list[str]) -> None:
    built(root / "two", exclude_eval=tuple(sets), jobs=2)
    assert digests(root / "two") == digests(fresh.out)


def test_running_it_again_touches_nothing_and_other_texts_build_anew(
    root: Path, plain: BuildResult, sets: list[str]
) -> None:
    built(root / "again", exclude_eval=tuple(sets))
    before = {p: p.stat().st_mtime_ns for p in (root / "again").rglob("*") if p.is_file() and p.name != "lock"}
    assert built(root / "again", exclude_eval=tuple(sets)).seconds == {}
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert built(root / "again", exclude_eval=(sets[0],)).seconds
    built(root / "again")
    assert digests(root / "again") == digests(plain.out)


def test_sets_that_are_not_there_are_told_before_anything_is_built(root: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nowhere: no such file or folder"):
        built(tmp_path / "out", exclude_eval=(str(tmp_path / "nowhere"),))
    with pytest.raises(OptionError, match="mteb:NFCorpus: comes from the hub"):
        built(tmp_path / "out", exclude_eval=("mteb:NFCorpus",))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(EvaluationError, match="holds no text"):
        built(tmp_path / "out", exclude_eval=(str(tmp_path / "empty.txt"),))
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out" / "data").exists()

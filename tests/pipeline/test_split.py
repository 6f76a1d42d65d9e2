"""Builds whose datasets are handed out in pieces have the bytes of those that are not."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from medi_build.content.load import load_content
from medi_build.dataset.receipt import Basis, Receipt
from medi_build.encode.embedder import Block, open_embedder
from medi_build.errors import OptionError
from medi_build.pipeline.options import BuildOptions, pipeline_of
from medi_build.pipeline.plan import inputs_of, resolve
from medi_build.pipeline.run import build
from medi_build.pipeline.unit import UnitJob, build_unit, opened_embedders
from medi_build.progress import Silent
from medi_build.search.parts import Search
from medi_build.share import Share
from tests.conftest import ROOT
from tests.encode.tiny_models import save_bert, save_t5, unigram_tokenizer
from tests.shares import pickled

pytestmark = pytest.mark.slow

ROWS = 5
SOURCES = (
    "kilt/sample_nq",
    "medmcqa/sample",
    "embedding_training_data/sample_paraphrases",
    "embedding_training_data/sample_search",
    "super_ni/task9001*",
    "super_ni/task9007*",
)
RULES = {
    "paper": "preset: paper",
    "all": (
        "preset: positive-aware, num_negatives: 3, range_max: 30, sampling_strategy: random, lexical: true, "
        "encoders: [OTHER], guide: OTHER, max_guide_score: 0.9, consistency_top: 25, round_trip_top: 25"
    ),
    "ranked": "preset: positive-aware, range_max: 12",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return save_t5(folder / "main", unigram_tokenizer()), save_bert(folder / "other", "mean")


def content(folder: Path, models: tuple[Path, Path], rule: str) -> Path:
    (folder / "pipelines").mkdir(parents=True)
    text = "name: own\ndescription: a sample of each kind\nsources: [sample]\nbundled_data: true\nseed: 3\n"
    text += f"encoder: {{model: {models[0]}}}\nmining: {{{RULES[rule].replace('OTHER', str(models[1]))}}}\n"
    (folder / "pipelines" / "own.yaml").write_text(text, encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Everything that a build has written, receipts included."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("rule", RULES)
def test_a_build_in_pieces_has_the_bytes_of_a_build(
    rule: str, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = content(tmp_path / "content", models, rule)

    def options(name: str) -> BuildOptions:
        return BuildOptions(
            out=tmp_path / name,
            cache=tmp_path / f"cache-{name}",
            pipeline="own",
            sources=SOURCES,
            content=own,
            device="cpu",
            offline=True,
            limit_per_dataset=12,
        )

    seen: Counter[type] = Counter()

    def counted(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        def noted() -> Iterator[Any]:
            for item in items:
                seen[type(item)] += 1
                assert max(len(item.texts) if isinstance(item, Block) else len(item.corpus), 1) <= ROWS
                yield item

        return pickled(function, noted())

    build(options("whole"))
    assert not seen

    def split(one: UnitJob, watcher: Silent, share: Share | None = None) -> Receipt:
        return build_unit(replace(one, split_above=ROWS), watcher, counted)

    monkeypatch.setattr("medi_build.pipeline.run.build_unit", split)
    build(options("pieces"))
    assert seen[Block] > 25 and seen[Search] > 25
    assert files(tmp_path / "pieces") == files(tmp_path / "whole")


def job(model: Path, out: Path, cache: Path, split_above: int | None = None) -> UnitJob:
    """A sample of questions and pages, ready to be built into ``out``."""
    loaded = load_content()
    pipeline = pipeline_of(loaded, BuildOptions(out=out, encoder=str(model)))
    unit = resolve(loaded, pipeline, ("kilt/sample_nq",), None, None, cache / "downloads").units[0]
    (out / "work").mkdir(parents=True)
    inputs, basis = inputs_of(unit, cache / "indexes"), Basis(build={}, dataset={})
    vectors = cache / "vectors"
    return UnitJob(unit, inputs, pipeline, basis, out, out / "work", vectors, device="cpu", split_above=split_above)


def built(one: UnitJob, share: Share | None = None) -> tuple[Receipt, list[bytes]]:
    with opened_embedders():
        receipt = build_unit(one, Silent(), share)
    return receipt, [(one.out / entry.path).read_bytes() for entry in (*receipt.shards, receipt.fragment)]


def test_processes_do_the_pieces(models: tuple[Path, Path], tmp_path: Path) -> None:
    def pooled(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        yield from pool.map(function, items)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pieces = built(job(models[0], tmp_path / "pieces", tmp_path / "one", 20), pooled)
        assert pool.submit(os.getpid).result() != os.getpid()
    assert pieces == built(job(models[0], tmp_path / "whole", tmp_path / "other"))


def killed_after(model: Path, out: Path, cache: Path, most: int) -> None:
    """Builds in pieces, and kills its own process when so many have come back."""

    def some(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == most:
                os.kill(os.getpid(), signal.SIGKILL)
            assert isinstance(item, Block)
            yield worker.block(item)

    one = job(model, out, cache, 10)
    worker = open_embedder(one.pipeline.encoder, "cpu", cache / "worker")
    build_unit(one, Silent(), some)


def test_a_killed_build_goes_on_with_the_texts_that_it_lacks(models: tuple[Path, Path], tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from tests.pipeline.test_split import killed_after\n"
    program += "killed_after(*map(Path, sys.argv[1:]), 4)"
    command = [sys.executable, "-c", program, str(models[0]), str(tmp_path / "killed"), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=300, check=False).returncode == -signal.SIGKILL
    asked: list[str] = []

    def noted(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            asked.extend(item.texts if isinstance(item, Block) else [])
            yield function(item)

    found = built(job(models[0], tmp_path / "again", tmp_path, 10), noted)
    again = list(asked)
    asked.clear()
    assert found == built(job(models[0], tmp_path / "afresh", tmp_path / "new", 10), noted)
    assert again in [asked[10 * kept :] for kept in (2, 3, 4)], "two blocks may have been on their way to the store"


def test_small_datasets_and_builds_without_a_share_are_one_piece(models: tuple[Path, Path], tmp_path: Path) -> None:
    def never(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        raise AssertionError("nothing is to be handed out")

    assert built(job(models[0], tmp_path / "a", tmp_path, 10_000), never) == built(
        job(models[0], tmp_path / "b", tmp_path, 1)
    )
    with pytest.raises(OptionError, match="split_above is 0"):
        build(BuildOptions(out=tmp_path / "out", cache=tmp_path, executor="ray", split_above=0))
    with pytest.raises(OptionError, match="split_above is 9, which only --executor ray uses"):
        build(BuildOptions(out=tmp_path / "out", cache=tmp_path, split_above=9))

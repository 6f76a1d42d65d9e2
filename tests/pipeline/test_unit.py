"""A unit is the same wherever it runs: picklable in and out, its encoders opened there."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from medi_build.content.load import load_content
from medi_build.dataset.receipt import Basis, Receipt
from medi_build.pipeline.options import BuildOptions, pipeline_of
from medi_build.pipeline.plan import inputs_of, resolve
from medi_build.pipeline.unit import UnitJob, build_unit, opened_embedders
from medi_build.progress import Lines, Silent


def job(out: Path, cache: Path) -> UnitJob:
    """The sample of MedMCQA, ready to be built into ``out``."""
    content = load_content()
    pipeline = pipeline_of(content, BuildOptions(out=out))
    unit = resolve(content, pipeline, ("medmcqa/sample",), None, None, cache / "downloads").units[0]
    work = out / ".medi" / "work"
    work.mkdir(parents=True)
    inputs = inputs_of(unit, cache / "indexes")
    return UnitJob(unit, inputs, pipeline, Basis(build={}, dataset={}), out, work, cache / "vectors", batch_multiple=5)


def files(receipt: Receipt, out: Path) -> list[bytes]:
    return [(out / entry.path).read_bytes() for entry in (*receipt.shards, receipt.fragment)]


@pytest.mark.slow
def test_a_unit_is_the_same_in_another_process(tmp_path: Path) -> None:
    here, there = job(tmp_path / "here", tmp_path), job(tmp_path / "there", tmp_path)
    assert pickle.loads(pickle.dumps(here)) == here
    told: list[tuple[str, str]] = []

    class Watcher(Silent):
        def stage(self, dataset: str, stage: str) -> None:
            told.append((dataset, stage))

    with opened_embedders():
        first = build_unit(here, Watcher())
    assert told == [("medmcqa/sample", stage) for stage in ("adapt", "mine", "write")]
    assert first.rows % 5 == 0 and first.rows > 0
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        second = pool.submit(partial(build_unit, watcher=Watcher()), there).result()
    assert second == first
    assert files(second, tmp_path / "there") == files(first, tmp_path / "here")
    for out in ("here", "there"):
        assert not list((tmp_path / out / ".medi" / "work").iterdir())
        assert not (tmp_path / out / ".medi" / "receipts").exists()  # whoever commits is not the unit


def test_a_watcher_says_nothing_in_another_process() -> None:
    from rich.console import Console

    assert type(pickle.loads(pickle.dumps(Lines(Console())))) is Silent


def test_encoders_are_forgotten_with_the_build(tmp_path: Path) -> None:
    """A model that was trained anew in its place is another encoder for the next build."""
    pipeline = pipeline_of(load_content(), BuildOptions(out=tmp_path))
    with opened_embedders() as opened:
        first = opened(pipeline, "cpu", tmp_path)
        assert opened(pipeline, "cpu", tmp_path)[0] is first[0]
    with opened_embedders() as opened:
        assert opened(pipeline, "cpu", tmp_path)[0] is not first[0]

"""What stands in front of the texts when a dataset is built: in the scores, in the manifest, in what is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.encode.prompts import CONFIG
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from tests.commands import run_main
from tests.encode.tiny_models import edit_json, save_byte_level

SOURCES = ("kilt/sample_fever", "super_ni/task9001*")
"""Pairs of queries and passages, and a classification, whose texts are all alike."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_byte_level(tmp_path_factory.mktemp("models") / "prompted")
    edit_json(folder / CONFIG, prompts={"query": "Which page answers this? ", "document": "passage: "})
    return folder


def content_with(folder: Path, model: Path, *further: str) -> Path:
    (folder / "pipelines").mkdir(parents=True, exist_ok=True)
    lines = [
        "name: own", "description: with prompts", "sources: [sample]", "bundled_data: true",
        f"encoder: {{model: {model}, dtype: float32}}", *further,
    ]  # fmt: skip
    (folder / "pipelines" / "own.yaml").write_text("\n".join(lines))
    return folder


def built(folder: Path, model: Path, *further: str, out: str = "out") -> BuildResult:
    content = content_with(folder / "content", model, *(further or ("mining: {preset: paper}",)))
    return build(
        BuildOptions(out=folder / out, cache=folder / "cache", offline=True, sources=SOURCES, pipeline="own",
                     content=content, limit_per_dataset=20, device="cpu")
    )  # fmt: skip


def worst(folder: Path, kind: str, queries: Any, documents: Any, *, instructed: bool = False) -> float:
    """The largest difference of a positive's score from that of two functions of sentence-transformers."""
    rows = pl.read_parquet(str(folder / "data" / "*.parquet")).filter(pl.col("task_name").str.starts_with(kind))
    assert len(rows) > 5
    sides = []
    for side, encode in (("query", queries), ("pos", documents)):
        instructions, texts = zip(*rows[side].to_list(), strict=True)
        assert not instructed or len(set(instructions)) == 1
        own = {"prompt": instructions[0]} if instructed else {}
        sides.append(encode(list(texts), normalize_embeddings=True, **own))
    scores = (sides[0] * sides[1]).sum(axis=1)
    return float(np.abs(scores - rows["pos_score"].to_numpy()).max())


def test_saved_prompts_are_those_of_the_side_and_stand_in_the_manifest(tmp_path: Path, model: Path) -> None:
    built(tmp_path, model)
    peer = SentenceTransformer(str(model), device="cpu")
    assert worst(tmp_path / "out", "kilt", peer.encode_query, peer.encode_document) < 2e-3
    assert worst(tmp_path / "out", "super_ni", peer.encode_query, peer.encode_query) < 2e-3
    for kind in ("kilt", "super_ni"):
        assert worst(tmp_path / "out", kind, peer.encode, peer.encode) > 4e-3
    told = {str(model): {"query": "Which page answers this? ", "document": "passage: "}}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["prompts"] == told
    edit_json(model / CONFIG, prompts={"query": "Which page answers this? ", "document": "text: "})
    try:  # other prompts are another encoder: nothing of the first build stands
        again = built(tmp_path, model)
        peer = SentenceTransformer(str(model), device="cpu")
        assert again.seconds
        assert worst(tmp_path / "out", "kilt", peer.encode_query, peer.encode_document) < 2e-3
    finally:
        edit_json(model / CONFIG, prompts={"query": "Which page answers this? ", "document": "passage: "})


def test_under_instructions_each_record_s_own_stands_in_front(tmp_path: Path, model: Path) -> None:
    guided = f"mining: {{preset: paper, guide: {model}-guide, max_guide_score: 1.0}}"
    guide = save_byte_level(model.with_name(model.name + "-guide"))
    result = built(tmp_path, model, "mine_with_instructions: true", guided)
    peer = SentenceTransformer(str(model), device="cpu")
    for kind in ("kilt", "super_ni"):
        assert worst(tmp_path / "out", kind, peer.encode, peer.encode, instructed=True) < 2e-3
    told = {name: one.model_dump() for name, one in result.manifest.prompts.items()}
    assert told == {
        str(model): {"query": None, "document": None},
        str(guide): {"query": "", "document": ""},
    }


def test_the_command_tells_what_it_mined_under(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []
    monkeypatch.setattr("medi_build.cli.build.OUT.print", lambda *parts, **_: printed.extend(map(str, parts)))
    for further, told in (
        ((), f'mined with {model} under its saved prompts: queries "Which page answers this? ", documents "passage: "'),
        (("mine_with_instructions: true",), f"mined with {model} under the datasets' instructions"),
    ):
        content = content_with(tmp_path / "content", model, "mining: {preset: paper}", *further)
        code, errors = run_main(
            capsys, monkeypatch, "build", "--offline", "--out", tmp_path / "out", "--cache", tmp_path / "cache",
            "--pipeline", "own", "--content", content, "--sources", "kilt/sample*", "--limit-per-dataset", 20,
        )  # fmt: skip
        assert code == 0, errors
        assert told in printed

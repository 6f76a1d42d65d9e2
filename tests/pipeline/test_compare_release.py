"""``medi compare-release``: what it prints, and content from a release that builds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.content.load import load_content
from medi_build.content.release_overlay import ReleasedTask, write_overlay
from medi_build.errors import ContentError, OutputError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from tests.dataset.release_files import rows_of_2023, texts, write_array

MOOD, FAQ = "super_ni/task9001_sample_note_mood", "embedding_training_data/sample_faq"
THEIRS = ("Represent the {{ note }} of a day", "Represent the note's mood: sad or glad")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    root = tmp_path_factory.mktemp("built")
    return build(
        BuildOptions(
            out=root / "out", cache=root / "cache", sources=(MOOD, FAQ), offline=True, limit_per_dataset=40
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def release(built: BuildResult) -> Path:
    """Twenty rows of one dataset under instructions of 2022, five of another without any, and ten that nobody knows."""
    rows = json.loads((built.out / "medi-data.json").read_text())
    ids = {entry.name: entry.task_id for entry in built.manifest.datasets}
    parts = []
    for name, number, count, instructions in ((MOOD, 7, 20, THEIRS), (FAQ, 8, 5, ("", ""))):
        own = [row for row in rows if row["task_id"] == ids[name]][:count]
        made = [(row["query"][1], row["pos"][1], row["neg"][1]) for row in own]
        parts += rows_of_2023(instructions, made, "; Input: ", task_id=number)
    parts += rows_of_2023(THEIRS, texts("odd", range(10)), "; Input: ", task_id=9)
    return write_array(built.out.parent / "medi-data-2022.json", parts)


def test_the_table_tells_tasks_rows_and_instructions(built: BuildResult, release: Path) -> None:
    printed = CliRunner().invoke(app, ["compare-release", str(built.out), "--with", str(release)])
    assert printed.exit_code == 0, printed.output
    text = " ".join(printed.output.split())
    assert f"7 = {MOOD} by queries; rows: 20 there, " in text
    assert f"there: {THEIRS[0]} / {THEIRS[1]}" in text and "there: (no instruction)" in text
    assert "2 tasks on both sides, 1 unresolved, 0 only here; 35 rows there" in text
    assert "unresolved: in the release, and not known which dataset here 9 10 rows" in text


def test_json_tells_the_same(built: BuildResult, release: Path) -> None:
    printed = CliRunner().invoke(app, ["compare-release", str(built.out), "--with", str(release), "--json"])
    found = json.loads(printed.stdout)
    [mood] = [one for one in found["matches"] if one["built"]["name"] == MOOD]
    assert mood["by"] == "queries" and mood["released"]["rows"] == 20
    assert mood["queries"]["there"] == 20 and mood["queries"]["ours"] >= 20
    assert [task["name"] for task in found["unresolved"]] == ["9"]


def test_the_content_that_is_written_builds_with_the_instructions_of_the_release(
    built: BuildResult, release: Path, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    printed = CliRunner().invoke(
        app, ["compare-release", str(built.out), "--with", str(release), "--write-content", str(content)]
    )
    assert printed.exit_code == 0, printed.output
    left = [line.split("\t") for line in (content / "not_taken.tsv").read_text().splitlines()]
    assert left[1:] == [
        ["8", FAQ, "5", "instruction does not begin with 'Represent ', ours are kept"],
        ["9", "", "10", "not known which dataset it is"],
    ]
    again = build(
        BuildOptions(
            out=tmp_path / "out", cache=built.out.parent / "cache", content=content, pipeline="medi-release",
            offline=True,
        )
    )  # fmt: skip
    entries = {entry.name: entry for entry in again.manifest.datasets}
    assert entries[MOOD].instructions == [(THEIRS[0] + ";", THEIRS[1] + ";")]
    assert entries[FAQ].instructions == [
        entry.instructions[0] for entry in built.manifest.datasets if entry.name == FAQ
    ]
    assert again.manifest.pipeline["caps"] == {MOOD: 20, FAQ: 5}
    assert 0 < entries[MOOD].rows <= 20 and 0 < entries[FAQ].rows <= 5
    assert again.manifest.encoder == built.manifest.encoder


def task(dataset: str | None = MOOD) -> ReleasedTask:
    return ReleasedTask("7", dataset, 20, THEIRS, THEIRS)


def test_content_is_written_whole_or_not_at_all(built: BuildResult, tmp_path: Path) -> None:
    content, pipeline = load_content(), built.manifest.pipeline
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="holds something already"):
        write_overlay(tmp_path / "full", [task()], pipeline, content)
    with pytest.raises(ContentError, match="no task of the release is known"):
        write_overlay(tmp_path / "none", [task(None)], pipeline, content)
    with pytest.raises(ContentError, match="not one of this version"):
        write_overlay(tmp_path / "old", [task()], {"name": "toy", "odd": 1}, content)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_every_card_of_medi_can_be_written(built: BuildResult, tmp_path: Path) -> None:
    content = load_content()
    tasks = [
        ReleasedTask(name, name, 10, THEIRS, THEIRS) for name in content.cards if name.startswith(("kilt", "super"))
    ]
    taken, left = write_overlay(tmp_path / "content", tasks[:340], built.manifest.pipeline, content)
    loaded = load_content(tmp_path / "content")
    assert (taken, left) == (340, 0)
    for name in loaded.pipelines["medi-release"].sources:
        assert loaded.cards[name].options == content.cards[name].options
        assert loaded.cards[name].download == content.cards[name].download

"""``medi lint`` over content and raw files written here."""

import json
import shutil
from pathlib import Path

import pytest

from medi_build.errors import ContentError
from medi_build.pipeline.lint import lint
from medi_build.pipeline.validate import validate
from tests.commands import run_main
from tests.conftest import ROOT

FIRST, SECOND, THIRD = (
    "task875_emotion_classification",
    "task512_twitter_emotion_classification",
    "task195_sentiment140_classification",
)
HEADER = "task\toutputs\tdomain\ttext_type\tobjective"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """Our tasks with other hand-written instructions; a pipeline of three of them."""
    root = tmp_path / "content"
    (root / "sources").mkdir(parents=True)
    (root / "pipelines").mkdir()
    for name in ("super_ni.yaml", "super_ni_tasks.tsv"):
        shutil.copy(ROOT / "sources" / name, root / "sources" / name)
    pipeline = (ROOT / "pipelines" / "medi.yaml").read_text(encoding="utf-8")
    pipeline = pipeline.replace("name: medi", "name: three").replace(
        "sources: [medi]", f"sources: [super_ni/{FIRST}, super_ni/{SECOND}, super_ni/{THIRD}]"
    )
    (root / "pipelines" / "three.yaml").write_text(pipeline, encoding="utf-8")
    write(root)
    return root


def write(root: Path, *rows: str) -> None:
    (root / "sources" / "super_ni_overrides.tsv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def raw(folder: Path, task: str, definition: str, labels: tuple[str, str]) -> None:
    instances = [{"id": f"{task}-{n}", "input": f"text {n} of it", "output": [labels[n % 2]]} for n in range(8)]
    (folder / "super_ni").mkdir(parents=True, exist_ok=True)
    told = {"Definition": [definition], "Categories": ["Sentiment Analysis"], "Instances": instances}
    (folder / "super_ni" / f"{task}.json").write_text(json.dumps(told), encoding="utf-8")


def test_shipped_pipelines_are_clean() -> None:
    found = lint()
    assert found.findings == []
    assert found.datasets > 100


def test_datasets_that_no_pipeline_names_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "tickets.yaml").write_text(
        "{name: our/tickets, description: ours, options: {adapter: pairs}, files: {train: [tickets.jsonl]}, "
        "licence: {spdx: unconfirmed, commercial_use: unknown}, citation: ours, "
        "instruction: {template: similarity, fields: {target: the the ticket, text_type: ticket}}}"
    )
    (tmp_path / "sources" / "task_ids.tsv").write_text("task_id\tname\n100000\tour/tickets\n")
    [finding] = lint(tmp_path).findings
    assert (finding.dataset, finding.what) == ("our/tickets", "'the' stands twice")
    assert lint(tmp_path, ["medi"]).findings == []
    assert validate(tmp_path, None).to_mend == 1


def test_a_table_of_groups_in_another_encoding_is_told(overlay: Path) -> None:
    table = overlay / "sources" / "same_instruction.tsv"
    table.write_bytes(b"names\twhy\n\xff\n")
    with pytest.raises(ContentError, match=r"same_instruction\.tsv: cannot be read"):
        lint(overlay, ["three"])
    table.write_text("names\twhy\n", encoding="utf-8-sig")
    assert lint(overlay, ["three"]).findings == []


def test_without_files_only_hand_written_instructions_are_known(overlay: Path) -> None:
    write(overlay, f"{FIRST}\t\t-\tpost\tclassifying its mood", f"{SECOND}\t\t-\tpost\tclassifying its mood")
    found = lint(overlay, ["three"])
    assert (found.datasets, found.unknown) == (2, 1)
    [finding] = found.findings
    assert {finding.dataset, finding.what.removeprefix("shared with ")} == {f"super_ni/{FIRST}", f"super_ni/{SECOND}"}
    assert finding.instruction == "Represent the post for classifying its mood"


def test_a_listed_group_may_share(overlay: Path) -> None:
    write(overlay, f"{FIRST}\t\t-\tpost\tclassifying its mood", f"{SECOND}\t\t-\tpost\tclassifying its mood")
    (overlay / "sources" / "same_instruction.tsv").write_text(
        f"names\twhy\nsuper_ni/{FIRST} super_ni/{SECOND}\tone request\n", encoding="utf-8"
    )
    assert lint(overlay, ["three"]).findings == []


@pytest.mark.parametrize(
    ("definition", "labels", "shared"),
    [
        ("Given a post, classify its mood.", ("glad", "sad"), 0),
        ("Given a post,  classify its mood.", ("glad", "sad"), 0),  # blanks say nothing
        ("Given a post, classify its tone.", ("glad", "sad"), 1),
        ("Given a post, classify its mood.", ("glad", "cross"), 1),
    ],
)
def test_with_files_the_same_definition_and_labels_may_share(
    overlay: Path, tmp_path: Path, definition: str, labels: tuple[str, str], shared: int
) -> None:
    write(overlay, f"{FIRST}\t\t-\tpost\tclassifying its mood", f"{SECOND}\t\t-\tpost\tclassifying its mood")
    raw(tmp_path, FIRST, "Given a post, classify its mood.", ("glad", "sad"))
    raw(tmp_path, SECOND, definition, labels)
    found = lint(overlay, ["three"], tmp_path)
    assert len(found.findings) == shared
    assert (found.datasets, found.unknown) == (2, 1)


def test_a_fault_is_told_once_and_a_broken_file_is_one(overlay: Path, tmp_path: Path) -> None:
    write(overlay, f"{FIRST}\t\t-\tpost\tclassifying its its mood")
    (tmp_path / "super_ni").mkdir()
    (tmp_path / "super_ni" / f"{SECOND}.json").write_text("{", encoding="utf-8")
    found = lint(overlay, ["three"], tmp_path).findings
    assert [finding.what for finding in found if finding.dataset.endswith(FIRST)] == ["'its' stands twice"]
    assert any("not valid JSON" in finding.what for finding in found if finding.dataset.endswith(SECOND))


def test_command(overlay: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(overlay, f"{FIRST}\t\t-\tpost\tclassifying its its mood")
    monkeypatch.setattr("sys.argv", ["medi", "lint", "--pipeline", "three", "--content", str(overlay), "--json"])
    from medi_build.cli import app

    with pytest.raises(SystemExit) as caught:
        app()
    assert caught.value.code == 1
    [finding] = json.loads(capsys.readouterr().out)
    assert finding == {
        "dataset": f"super_ni/{FIRST}",
        "instruction": "Represent the post for classifying its its mood",
        "what": "'its' stands twice",
        "do": "take one away",
    }
    code, err = run_main(capsys, monkeypatch, "lint", "--pipeline", "quickstart")
    assert code == 0
    assert "0 to mend" in err


def test_unknown_pipeline_is_told() -> None:
    with pytest.raises(ContentError, match="no pipeline 'mediii'"):
        lint(None, ["mediii"])

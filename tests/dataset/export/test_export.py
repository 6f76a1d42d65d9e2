"""What lies in an export, what it says of itself, and when it is refused."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import orjson
import pytest
import yaml
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.dataset.export.run import Export, export
from medi_build.dataset.export.writers import FORMATS, ExportFormat
from medi_build.dataset.reader import BuiltDataset, open_dataset
from medi_build.dataset.schema import RECORDS as SCHEMA
from medi_build.dataset.subsets import subset_names
from medi_build.errors import DatasetError, OutputError
from medi_build.progress import Silent
from tests.dataset.built import filled
from tests.dataset.export.conftest import ANSWER, NAMES, QUESTION, RECORDS, SEVERAL, rewrite


def run(toy: BuiltDataset, form: ExportFormat, out: Path, policy: Any = "any") -> Export:
    return export(toy, form, out, policy, Silent())


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(folder: Path, name: str) -> list[dict[str, Any]]:
    found = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(folder.parent / "cache"))
    return list(found.to_list())


def test_sentence_transformers_has_a_subset_for_each_task_and_its_prompts(toy: BuiltDataset, tmp_path: Path) -> None:
    done = run(toy, "sentence-transformers", tmp_path / "st")
    rows = load(tmp_path / "st", "kilt_nq")
    assert list(rows[0]) == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert rows[0] == {
        "anchor": "question 0?", "positive": 'answer "0"\n',
        "negative_1": "wrong 0", "negative_2": "wrong 0 0", "negative_3": "wrong 0",
    }  # fmt: skip
    assert list(load(tmp_path / "st", "plain_texts")[0]) == ["anchor", "positive", "negative_1"]
    several = load(tmp_path / "st", "own_several")
    assert [row["anchor"] for row in several[:2]] == ["Represent it;question 0?", "Encode it;question 1?"]
    assert several[1]["negative_2"] == "Encode the other;wrong 1 0"
    assert json.loads((tmp_path / "st" / "prompts.json").read_text()) == {
        "kilt_nq": {
            "anchor": QUESTION,
            **dict.fromkeys(["positive", "negative_1", "negative_2", "negative_3"], ANSWER),
        },
        "plain_texts": {},
        "own_several": {},
        "kilt_wow": {"anchor": QUESTION},
    }
    assert done.notes["kilt_nq"].filled == 4
    card = (tmp_path / "st" / "README.md").read_text()
    assert "- **kilt_nq**: 4 rows, to 3 negatives" in card
    assert "without a blank between, in own_several: records of one dataset have several phrasings" in card


def test_medi_json_is_what_a_build_writes(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "medi-json", tmp_path / "json")
    found = json.loads((tmp_path / "json" / "medi-data.json").read_text())
    assert found == [{key: row[key] for key in ("query", "pos", "neg", "task_id")} for row in RECORDS]


def test_jsonl_has_every_column(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "jsonl", tmp_path / "lines")
    assert load(tmp_path / "lines", "default") == [filled(row) for row in sorted(RECORDS, key=_file_order)]
    assert load(tmp_path / "lines", "own_several") == [filled(row) for row in RECORDS if row["task_id"] == 3]


def test_the_receipt_names_the_manifest_as_the_log_of_versions_does(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "medi-json", tmp_path / "json")
    digest = hashlib.sha256((toy.root / "manifest.json").read_bytes()).hexdigest()
    assert orjson.loads((tmp_path / "json" / "export.json").read_bytes())["manifest_sha256"] == digest


def test_jsonl_tells_types_that_its_lines_do_not(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "jsonl", tmp_path / "lines")
    for name in ("default", "own_several"):  # inferred, an empty list is of null, and datasets would not go together
        found = datasets.load_dataset(str(tmp_path / "lines"), name, split="train", cache_dir=str(tmp_path / "cache"))
        columns = {field.name: str(field.type).replace("item: ", "") for field in found.features.arrow_schema}
        assert columns == {field.name: re.sub("item: | not null", "", str(field.type)) for field in SCHEMA}


def _file_order(row: dict[str, Any]) -> str:
    return NAMES[row["task_id"]]


def test_flagembedding_has_a_prompt_in_every_line(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "flagembedding", tmp_path / "flag")
    nq, plain, several = (
        list(map(orjson.loads, (tmp_path / "flag" / "data" / f"{name}.jsonl").read_bytes().splitlines()))
        for name in ("kilt_nq", "plain_texts", "own_several")
    )
    assert (nq[0]["prompt"], nq[0]["query"], nq[0]["pos"]) == (QUESTION, "question 0?", [f'{ANSWER}answer "0"\n'])
    assert plain[0]["prompt"] == ""
    assert {line["prompt"] for line in several} == {one[0] for one in SEVERAL}
    names = {path.name for path in (tmp_path / "flag" / "data").iterdir()}
    assert names == {f"{name.replace('/', '_')}.jsonl" for name in NAMES.values()}  # the loader reads all of a folder


def test_without_instructions_flagembedding_gets_no_prompt(toy: BuiltDataset, tmp_path: Path) -> None:
    names = ["kilt/nq", "plain/texts", "own/several", "kilt/wow"]
    rewrite(
        toy.root, datasets=[{"commercial_use": "allowed" if name == "plain/texts" else "unknown"} for name in names]
    )
    run(open_dataset(toy.root), "flagembedding", tmp_path / "flag", "commercial")
    line = orjson.loads((tmp_path / "flag" / "data" / "plain_texts.jsonl").read_bytes().splitlines()[0])
    assert "prompt" not in line


def test_tevatron_has_both_instructions_in_the_texts(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "tevatron", tmp_path / "tev")
    row = load(tmp_path / "tev", "kilt_nq")[0]
    assert row["query"] == f"{QUESTION}question 0?"
    assert [passage["text"] for passage in row["negative_passages"]] == [f"{ANSWER}wrong 0", f"{ANSWER}wrong 0 0"]
    assert len(load(tmp_path / "tev", "default")) == len(RECORDS)


@pytest.mark.parametrize("form", FORMATS)
def test_a_policy_leaves_out_and_says_what(form: ExportFormat, toy: BuiltDataset, tmp_path: Path) -> None:
    arguments = [str(toy.root), "--format", form, "--out", str(tmp_path / "out"), "--license-policy", "commercial"]
    printed = CliRunner().invoke(app, ["export", *arguments], env={"COLUMNS": "100"})
    assert printed.exit_code == 0, printed.output
    assert "left out: kilt/wow, licence CC-BY-NC-4.0, commercial use not-allowed, 4 rows" in printed.stdout
    assert f"24 rows of 3 datasets written to {tmp_path / 'out'}" in printed.stdout.replace("\n", "")
    files = tree(tmp_path / "out")
    assert "| kilt/wow | CC-BY-NC-4.0 | not-allowed | 4 |" in files["README.md"].decode()
    del files["README.md"], files["export.json"]
    assert not any("wow" in name or b"toy/4" in data or b'"task_id":4' in data for name, data in files.items())


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_command_gives_the_same_bytes(form: ExportFormat, toy: BuiltDataset, tmp_path: Path) -> None:
    assert run(toy, form, tmp_path / "one").fresh
    before = tree(tmp_path / "one")
    again = run(toy, form, tmp_path / "one")
    run(toy, form, tmp_path / "two")
    assert not again.fresh
    assert again.rows == {name.replace("/", "_"): 4 if name == "kilt/wow" else 8 for name in NAMES.values()}
    assert before == tree(tmp_path / "one") == tree(tmp_path / "two")
    for listed in json.loads(before["export.json"])["files"]:
        assert len(before.pop(listed["path"])) == listed["size"]
    assert set(before) == {"export.json"}


def test_front_matter_names_every_subset(toy: BuiltDataset, tmp_path: Path) -> None:
    run(toy, "jsonl", tmp_path / "lines")
    front = yaml.safe_load((tmp_path / "lines" / "README.md").read_text().split("---\n")[1])
    names = [config["config_name"] for config in front["configs"]]
    assert names == ["default", "kilt_nq", "plain_texts", "own_several", "kilt_wow"]


def test_another_folder_is_refused(toy: BuiltDataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run(toy, "jsonl", out)  # empty: may be taken
    with pytest.raises(OutputError, match=r"another export \(jsonl"):
        run(toy, "tevatron", out)
    with pytest.raises(OutputError, match="another export"):
        run(toy, "jsonl", out, "commercial")
    path = out / "data" / "kilt_nq.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OutputError, match="a file of it was changed"):
        run(toy, "jsonl", out)
    with pytest.raises(OutputError, match="holds something else"):
        run(toy, "jsonl", toy.root)
    with pytest.raises(OutputError, match="holds something else"):
        run(toy, "jsonl", path)


def test_nothing_left_is_said_before_anything_is_written(toy: BuiltDataset, tmp_path: Path) -> None:
    rewrite(toy.root, datasets=[{"commercial_use": "unknown"}] * 4)
    with pytest.raises(OutputError, match="none of 4 datasets has records whose licence"):
        run(open_dataset(toy.root), "jsonl", tmp_path / "out", "commercial")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_shard_leaves_no_folder(form: ExportFormat, toy: BuiltDataset, tmp_path: Path) -> None:
    shard = toy.shards[-1]
    data = bytearray(shard.read_bytes())
    data[4:200] = bytes(196)
    shard.write_bytes(data)
    before = set(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="cannot be read"):
        run(toy, form, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_instructions_that_the_manifest_does_not_know_are_an_error(toy: BuiltDataset, tmp_path: Path) -> None:
    rewrite(toy.root, datasets=[{"instructions": [("Represent;", ANSWER)]}, {}, {}, {}])
    with pytest.raises(DatasetError, match=r"holds the instructions .*Represent the question"):
        run(open_dataset(toy.root), "sentence-transformers", tmp_path / "out")


def test_what_a_killed_export_left_is_removed(toy: BuiltDataset, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getppid()):
        (tmp_path / f".out.{pid}.tmp" / "data").mkdir(parents=True)
    run(toy, "jsonl", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"build", "out", f".out.{os.getppid()}.tmp"}


def test_no_two_subsets_have_one_name(toy: BuiltDataset) -> None:
    one = toy.manifest.datasets[0]
    names = ["a/b_c", "a_b/c", "default", "A/B_c", "d"]
    entries = [one.model_copy(update={"name": name, "task_id": task}) for task, name in enumerate(names)]
    assert subset_names(entries) == ["a_b_c-00000", "a_b_c-00001", "default-00002", "A_B_c-00003", "d"]

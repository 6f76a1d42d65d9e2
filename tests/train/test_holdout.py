"""Triplet accuracy against sentence-transformers' encode, triplet by triplet."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.train.collate import TripletCollator, leave_instructions_out
from medi_build.train.data import prepare
from medi_build.train.holdout import ACCURACY, TripletEvaluator


def test_accuracy_by_task(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = prepare(toy_data, [toy_data], tmp_path)
    rows = np.arange(0, 60, 2)
    model = load_model(find_model(str(tiny_model)))
    leave_instructions_out(model)
    model.train()
    collator = TripletCollator(model.tokenizer, 512, np.array([], np.int64))
    found = TripletEvaluator(data, rows, collator, 100)(model)
    assert model.training
    peer = SentenceTransformer(str(tiny_model), device="cpu")
    right: dict[int, list[bool]] = {1: [], 2: []}
    for row in rows.tolist():
        texts = data.rows([row])
        query, pos, neg = (
            peer.encode(texts.texts[side][0], prompt=texts.instructions[side][0]) for side in ("query", "pos", "neg")
        )
        right[int(data.keys.task[row])].append(float(query @ pos) > float(query @ neg))
    wanted = {f"{ACCURACY}_task_{task}": float(np.mean(values)) for task, values in right.items()}
    assert found == pytest.approx({ACCURACY: float(np.mean(list(wanted.values()))), **wanted})

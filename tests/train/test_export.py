"""The InstructorEmbedding form is, file by file, the folder that that package loaded for the golden vectors."""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from medi_build.encode.load import find_model, load_model
from medi_build.errors import TrainError
from medi_build.train.export import save_model

GOLDEN = Path(__file__).parent.parent / "golden" / "tiny_instructor"


def test_the_public_form_is_the_one_that_was_tried(tmp_path: Path) -> None:
    model = load_model(find_model(str(GOLDEN)))
    save_model(model, tmp_path, form="instructor")
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    for name in sorted(files):
        if name.suffix == ".bin":
            ours, tried = (torch.load(folder / name, weights_only=True) for folder in (tmp_path, GOLDEN))
            assert ours.keys() == tried.keys()
            assert all(torch.equal(ours[key], tried[key]) for key in ours)
        else:
            ours, tried = (json.loads((folder / name).read_text()) for folder in (tmp_path, GOLDEN))
            assert ours == tried, name


def test_what_the_old_package_does_not_know_is_refused(tmp_path: Path) -> None:
    model = load_model(find_model(str(GOLDEN)))
    model[1] = Pooling(16, "lasttoken", include_prompt=False)
    with pytest.raises(TrainError, match="no pooling lasttoken"):
        save_model(model, tmp_path, form="instructor")
    del model[1]
    with pytest.raises(TrainError, match="loads Transformer, Pooling"):
        save_model(model, tmp_path, form="instructor")

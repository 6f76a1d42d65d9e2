"""The InstructorEmbedding form is, file by file, the folder that that package loaded for the golden vectors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.errors import TrainError
from medi_build.train.export import not_for_instructor, save_model
from tests.encode.tiny_models import save_bert
from tests.encode.tiny_networks import save_network

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


def last_token(model: Any) -> None:
    model[1] = Pooling(16, "lasttoken", include_prompt=False)


def first_token(model: Any) -> None:
    model[1] = Pooling(16, ("mean", "cls"), include_prompt=False)


def no_pooling(model: Any) -> None:
    del model[1]


def unknown_network(model: Any) -> None:
    model[0].auto_model.config.model_type = "modernbert"


def cut_vectors(model: Any) -> None:
    model.truncate_dim = 4


REFUSED = [
    (last_token, "cannot leave the instruction out of pooling lasttoken"),
    (first_token, "cannot leave the instruction out of pooling cls"),
    (no_pooling, "loads Transformer, Pooling"),
    (unknown_network, "loads no modernbert network; it loads albert, bert,"),
    (cut_vectors, "cut to truncate_dim 4, which InstructorEmbedding cannot"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_the_old_package_does_not_know_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    model = load_model(find_model(str(GOLDEN)))
    assert not_for_instructor(model) == []
    change(model)
    (fault,) = not_for_instructor(model)
    assert message in fault
    with pytest.raises(TrainError, match=message):
        save_model(model, tmp_path / "out", form="instructor")
    assert not list(tmp_path.iterdir())


def test_a_window_that_the_old_package_would_run_past_is_refused(tmp_path: Path) -> None:
    model = load_model(find_model(str(save_bert(tmp_path / "bert", "mean", window=48))))
    assert "always takes 512 tokens, but the model has 48 positions" in " ".join(not_for_instructor(model))


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(find_model(str(GOLDEN)))
    save_model(model, tmp_path / "out", form="instructor")
    (tmp_path / "out" / "left.txt").touch()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        for name in ("out", "new"):
            with pytest.raises(OSError, match="No space left"):
                save_model(model, tmp_path / name, form="instructor")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    save_model(model, tmp_path / "out", form="instructor")
    assert not (tmp_path / "out" / "left.txt").exists()


def test_older_tokenizers_read_the_merges(tmp_path: Path) -> None:
    """tokenizers 0.13 knows a merge as one string."""
    core = Tokenizer(models.BPE({"<unk>": 0, "<pad>": 1, "a": 2, "b": 3, "ab": 4}, [("a", "b")], unk_token="<unk>"))
    model = load_model(find_model(str(save_network(tmp_path / "model", "Roberta"))))
    model[0].processor = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")
    save_model(model, tmp_path / "out", form="instructor")
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert written["model"]["merges"] == ["a b"]
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["tokenizer_class"] == (
        "PreTrainedTokenizerFast"
    )

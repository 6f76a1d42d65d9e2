"""What can be known before the first step is told before it, and the output folder is left as it was."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.quantize import quantize
from medi_build.errors import MediError, TrainError
from medi_build.train.checks import Faults, nothing_left
from tests.encode.tiny_models import edit_json, letters_tokenizer
from tests.encode.tiny_networks import save_adapter, save_network
from tests.train.conftest import toy_records
from tests.train.runs import Steps, losses, run, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("models") / "bert", "Bert", include_prompt=False)


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


class Case:
    """Files of one test; a fault changes them and returns settings."""

    def __init__(self, tmp_path: Path, bert: Path, data: Path) -> None:
        self.tmp_path, self.data, self.bert = tmp_path, data, bert
        self.model, self.out = tmp_path / "model", tmp_path / "out" / "run"
        shutil.copytree(bert, self.model)

    def records(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        self.data = self.tmp_path / "data.json"
        self.data.write_text(json.dumps(records))
        return {}

    def file_above(self) -> dict[str, Any]:
        self.out.parent.write_text("a file")
        return {}

    def file_there(self) -> dict[str, Any]:
        self.out.parent.mkdir()
        self.out.write_text("a file")
        return {}

    def other_model(self) -> dict[str, Any]:
        shutil.copytree(self.bert, self.out)
        return {}

    def model_itself(self) -> dict[str, Any]:
        self.out = self.model
        return {}

    def no_pad(self) -> dict[str, Any]:
        edit_json(self.model / "tokenizer_config.json", pad_token=None)
        for name in ("special_tokens_map.json", "added_tokens.json"):
            (self.model / name).unlink(missing_ok=True)
        return {}

    def last_token(self) -> dict[str, Any]:
        edit_json(self.model / "1_Pooling" / "config.json", pooling_mode="lasttoken")
        return {"export": "instructor"}

    def int8(self) -> dict[str, Any]:
        quantize(str(self.bert), self.tmp_path / "int8", "int8")
        self.model = self.tmp_path / "int8"
        return {}

    def static(self) -> dict[str, Any]:
        self.model = self.tmp_path / "static"
        modules = [StaticEmbedding(letters_tokenizer().backend_tokenizer, embedding_dim=8)]
        SentenceTransformer(modules=modules, device="cpu").save(str(self.model))
        return {}

    def not_finite(self) -> dict[str, Any]:
        weights = load_file(self.model / "model.safetensors")
        weights["encoder.layer.0.output.dense.bias"][3] = torch.nan
        save_file(weights, self.model / "model.safetensors", metadata={"format": "pt"})
        return {}

    def gone_base(self) -> dict[str, Any]:
        self.model = save_adapter(self.bert, self.tmp_path / "adapter")
        edit_json(self.model / "adapter_config.json", base_model_name_or_path="/no/such/base")
        return {}

    def long_instruction(self) -> dict[str, Any]:
        records = toy_records()
        records[7]["pos"][0] = "Represent " * 80
        return self.records(records)

    def negative_is_positive(self) -> dict[str, Any]:
        records = toy_records()
        for record in records:
            record["neg"] = record["pos"]
        return self.records(records)

    def empty_text(self) -> dict[str, Any]:
        records = toy_records()
        records[5]["query"][1] = " "
        return self.records(records)


def extra(**arguments: Any) -> Callable[[Case], dict[str, Any]]:
    return lambda case: {"extra": {"use_cpu": True, "disable_tqdm": True, **arguments}}


FAULTS: dict[str, tuple[Callable[[Case], dict[str, Any]], str]] = {
    "file above": (Case.file_above, r"out is a file; name another one"),
    "file there": (Case.file_there, r"run is a file; name another one"),
    "other model": (Case.other_model, "holds a model that medi train did not write"),
    "the model's folder": (Case.model_itself, "is the folder of the model, which would be overwritten"),
    "no data": (lambda case: setattr(case, "data", case.tmp_path / "none.json"), "no such file or folder"),
    "no model": (lambda case: setattr(case, "model", case.tmp_path), "is no saved encoder"),
    "int8": (Case.int8, "its weights are int8, which cannot be trained; start from the model that it was"),
    "static": (Case.static, "is made of StaticEmbedding; training"),
    "NaN": (Case.not_finite, "1 weights are not finite"),
    "gone base": (Case.gone_base, "is an adapter for /no/such/base, which is not there"),
    "no pad token": (Case.no_pad, "no token to pad with.*eos_token will do"),
    "window": (lambda case: {"max_source_length": 600}, "max_tokens 600 is more than the 514 positions"),
    "export": (Case.last_token, "cannot leave the instruction out of pooling lasttoken.*leave out --export"),
    "export and pooled instruction": (
        lambda case: {"export": "instructor", "pool_instruction": True}, "always leaves the instruction out"
    ),
    "lora layers": (
        lambda case: {"lora_rank": 2, "lora_targets": "q_proj"}, "'q_proj' is the name of no linear layer.*query, value"
    ),
    "lora layers without rank": (lambda case: {"lora_targets": "query"}, "lora_rank is 0"),
    "float16 on the CPU": (lambda case: {"precision": "float16"}, "float16, which the CPU does not train in"),
    "argument": (extra(adam_beta7=1), "the trainer does not take these arguments"),
    "optimiser": (extra(optim="adamw_bnb_8bit"), "optim .*bitsandbytes"),
    "schedule": (extra(lr_scheduler_type="cosine_with_min_lr"), "lr_scheduler_type .*min_lr"),
    "report": (extra(report_to="no_such_tool"), "the trainer cannot be set up: no_such_tool"),
    "long instruction": (Case.long_instruction, "record 7 .*leaves no room for text"),
    "nothing to learn": (Case.negative_is_positive, "there are no rows to train on"),
    "empty text": (Case.empty_text, "the text of query is empty"),
    "no records": (lambda case: case.records([]), "no records|holds no"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_before_the_first_step_and_nothing_is_written(
    tmp_path: Path, bert: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    case, steps = Case(tmp_path, bert, toy_data), Steps()
    change, message = FAULTS[fault]
    changes = change(case) or {}
    before = tree(tmp_path)
    with pytest.raises(MediError, match=f"(?s){message}"):
        run(settings_for(case.data, case.model, case.out, **changes), callbacks=[steps])
    assert tree(tmp_path) == before
    assert not steps.begun


def test_all_faults_of_settings_and_model_are_one_error(tmp_path: Path, bert: Path) -> None:
    case = Case(tmp_path, bert, tmp_path / "none.json")
    case.file_there()
    changes = {**case.last_token(), "precision": "float16", "lora_rank": 2, "lora_targets": "nothing"}
    with pytest.raises(TrainError, match="5 faults, found before the first step") as caught:
        run(settings_for(case.data, case.model, case.out, **changes))
    for part in ("run is a file", "float16", "no such file", "pooling lasttoken", "'nothing' is the name of no linear"):
        assert part in str(caught.value)
    with pytest.raises(TrainError, match=r"loss 'x' is not one of.*learning_rate is 0.*steps is 0"):
        settings_for(case.data, case.model, case.out, loss="x", learning_rate=0.0, max_steps=0)


def test_a_disk_without_room_is_told_with_what_is_needed(
    tmp_path: Path, bert: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (bert / "model.safetensors").stat().st_size
    usage = namedtuple("usage", "total used free")
    for changes, checkpoints, models in (
        ({"max_steps": 9}, 3, 3 * 3 + 1),
        ({"max_steps": 1}, 1, 3 + 1),
        ({"max_steps": 9, "lora_rank": 1}, 3, 1),
    ):
        settings, steps = settings_for(toy_data, bert, tmp_path / "out", **changes), Steps()
        monkeypatch.setattr(shutil, "disk_usage", lambda _, models=models: usage(0, 0, int((models - 0.5) * size)))
        with pytest.raises(
            TrainError, match=rf"out: {checkpoints} checkpoints and the model take about .* MB are free"
        ):
            run(settings, callbacks=[steps])
        assert not steps.begun
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 5 * size))
    assert losses(run(settings_for(toy_data, bert, tmp_path / "out", max_steps=1)))


def test_another_runs_checkpoint_leaves_the_folder_as_it_was(tmp_path: Path, bert: Path, toy_data: Path) -> None:
    settings, steps = settings_for(toy_data, bert, tmp_path / "out"), Steps()
    run(settings)
    before = tree(tmp_path)
    with pytest.raises(TrainError, match="belongs to another run"):
        run(settings_for(toy_data, bert, tmp_path / "out", seed=7), callbacks=[steps])
    assert tree(tmp_path) == before
    assert not steps.begun
    assert run(settings).resumed_from == 2  # a finished run's own folder is no fault


def test_a_model_with_weighted_mean_pooling_is_trained_and_loaded(tmp_path: Path, toy_data: Path) -> None:
    model = save_network(tmp_path / "model", "Bert", "weightedmean")
    run(settings_for(toy_data, model, tmp_path / "out"))
    loaded = load_model(find_model(str(tmp_path / "out")))
    peer = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert not loaded[1].include_prompt
    prompt, texts = "Represent the question;", ["why copper roofs?", "x"]
    assert (loaded.encode(texts, prompt=prompt) == peer.encode(texts, prompt=prompt)).all()


def test_only_what_the_block_made_is_taken_away(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    for there in (False, True):
        if there:
            (out / "training-data" / "old").mkdir(parents=True)
        with pytest.raises(TrainError), nothing_left(out):
            (out / "training-data" / "new").mkdir(parents=True)
            (out / "file").touch()
            raise TrainError("x")
        assert [path.name for path in tmp_path.rglob("*")] == (["a", "b", "training-data", "old"] if there else [])
    with pytest.raises(KeyboardInterrupt), nothing_left(out):
        (out / "file").touch()
        raise KeyboardInterrupt
    assert (out / "file").exists()


def test_one_fault_is_raised_as_it_is() -> None:
    faults = Faults()
    faults.raise_them()
    error = MediError("one")

    def raises() -> None:
        raise error

    assert faults.of(raises) is None
    with pytest.raises(MediError) as caught:
        faults.raise_them()
    assert caught.value is error

"""Model folders as hostile hands make them: no code of theirs runs, and what cannot be loaded is one clear error."""

import json
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from medi_build.encode.load import load_any
from medi_build.encode.model_files import find_model
from medi_build.encode.quantize import quantize
from medi_build.errors import EncoderError, MediError
from medi_build.train.export import save_model
from tests.conftest import ROOT

TINY = ROOT / "tests" / "golden" / "tiny_instructor"


class Owned:
    """As a pickle, a call that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    save_model(load_any(find_model(str(TINY))), folder)
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(folder: Path, mark: Path) -> str:
    with pytest.raises(MediError) as caught:
        load_any(find_model(str(folder)))
    assert not mark.exists(), "code ran"
    return str(caught.value)


@pytest.mark.parametrize("place", ["model.safetensors", "2_Dense/model.safetensors"])
def test_a_pickle_in_place_of_weights_runs_nothing(saved: Path, tmp_path: Path, place: str) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(saved, folder)
    (folder / place).unlink()
    bad = (folder / place).with_name("pytorch_model.bin")
    bad.write_bytes(pickle.dumps(Owned(mark)))
    assert str(folder) in refused(folder, mark)
    with bad.open("rb") as file:
        pickle.load(file)
    assert mark.is_dir(), "the pickle would have run"


def test_a_pickle_named_safetensors_runs_nothing(saved: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(saved, folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Owned(mark)))
    assert "cannot be loaded" in refused(folder, mark)


@pytest.mark.parametrize("kind", ["os.system", "subprocess.Popen", "mine.Evil", "sentence_transformers.util.http_get"])
def test_modules_of_other_packages_are_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(saved, folder)
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[3]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules))
    monkeypatch.chdir(tmp_path)
    assert str(folder) in refused(folder, mark)


@pytest.mark.parametrize("config", ["config.json", "tokenizer_config.json"])
def test_code_named_in_a_config_does_not_run(saved: Path, tmp_path: Path, config: str) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(saved, folder)
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    maps = {"config.json": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"},
            "tokenizer_config.json": {"AutoTokenizer": ["mine.Slow", "mine.Fast"]}}  # fmt: skip
    change(folder / config, auto_map=maps[config], model_type="mine", tokenizer_class="Mine")
    with suppress(EncoderError):
        load_any(find_model(str(folder)))
    assert not mark.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", '{"a": ' * 50_000, "\0" * 100, '{"model_type": 7}'])
@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"])
def test_configs_that_are_none_are_one_error(saved: Path, tmp_path: Path, name: str, text: str) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(saved, folder)
    (folder / name).write_text(text)
    assert len(refused(folder, mark)) < 5000


@pytest.mark.slow
def test_an_int8_folder_names_no_class_but_a_network(saved: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "int8", tmp_path / "owned"
    quantize(str(saved), folder, "int8-weights")
    load_any(find_model(str(folder)))
    change(folder / "config.json", architectures=["pipeline"])
    assert "names 'pipeline', which is no network" in refused(folder, mark)

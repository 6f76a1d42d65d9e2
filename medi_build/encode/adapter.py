"""Adapters of PEFT (LoRA and its kin): where a folder holds one, what it was trained on, merging it into the weights.

Two forms exist. sentence-transformers saves an adapter in place of the transformer's weights, among the other modules
of the model. PEFT saves the adapter alone: everything else is then the base model's.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from medi_build.errors import EncoderError

CONFIG = "adapter_config.json"
_NAME = "default"
_WEIGHTS = {".safetensors", ".bin"}
_INSTALL = "pip install 'medi-build[train]'"


class Adapter(NamedTuple):
    """An adapter on disk.

    Attributes:
        folder: holds adapter_config.json and the adapter's weights.
        base: the model it was trained on: a folder or hub id.
        revision: of the base on the hub; None for the newest.
    """

    folder: Path
    base: str
    revision: str | None


def find_adapter(folder: Path, transformer: str) -> Adapter | None:
    """The adapter of a model folder, if it has one.

    Args:
        folder: of the model, or of the adapter alone.
        transformer: where in it the transformer's files lie; "" for the folder itself.

    Raises:
        EncoderError: the adapter does not tell what it was trained on.
    """
    place = folder / transformer
    path = place / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
    except (ValueError, AttributeError, RecursionError) as error:
        raise EncoderError(f"{path}: is no config of an adapter ({error}); copy or save the model again") from error
    if any(_is_base(file) and file.suffix in _WEIGHTS for file in place.iterdir()):
        return Adapter(place, str(place), None)
    if not isinstance(base, str) or not base or Path(base).absolute() == place.absolute():
        raise EncoderError(
            f"{path}: base_model_name_or_path is {base!r}, which does not say which model the adapter was trained "
            "on; set it to that model's folder or hub id"
        )
    beside = place / base  # of a folder that was moved together with its base; an absolute name stays as it is
    return Adapter(place, str(beside) if not Path(base).is_dir() and beside.is_dir() else base, revision)


def _is_base(file: Path) -> bool:
    """Whether a file is config or weights of a whole transformer."""
    return file.name == "config.json" or file.name.startswith(("model", "pytorch_model"))


@contextmanager
def without_adapter(folder: Path, files: Iterable[Path], adapter: Adapter, base: Path) -> Iterator[Path]:
    """A folder with a model's files, but the base's transformer in place of the adapter, for as long as the block runs.

    Args:
        folder: of the model.
        files: of the model.
        adapter: of the model.
        base: folder with the base's transformer.
    """
    with TemporaryDirectory(prefix="medi-adapter-", ignore_cleanup_errors=True) as temporary:
        for file in files:
            if file.parent != adapter.folder or not (_is_base(file) or file.name.startswith("adapter_")):
                _link(file, Path(temporary) / file.relative_to(folder))
        place = Path(temporary) / adapter.folder.relative_to(folder)
        for file in base.iterdir():
            if _is_base(file):
                _link(file, place / file.name)
        yield Path(temporary)


def _link(file: Path, name: Path) -> None:
    """Have a file under another name; a copy of it where links are not allowed, as on Windows."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        name.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, name)


def check_peft() -> None:
    """Raise `EncoderError` where PEFT is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise EncoderError(f"adapters need the package peft ({error}); {_INSTALL}") from error


def put_on(network: Any, adapter: Adapter) -> None:
    """Put an adapter on its base's transformer, in layers of its own.

    Raises:
        EncoderError: it does not fit the transformer.
    """
    from peft import PeftConfig, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    network.add_adapter(PeftConfig.from_pretrained(str(adapter.folder)), _NAME)
    prefixes = ("base_model.model.", f"{network.base_model_prefix}.")  # PEFT's own, and that of a model with a head
    weights = {}
    for name, value in load_peft_weights(str(adapter.folder), device="cpu").items():
        plain = name
        for prefix in prefixes:
            plain = plain.removeprefix(prefix)
        weights[plain] = value
    result = set_peft_model_state_dict(network, weights, _NAME)
    strange = [name for name in result.unexpected_keys if not name.startswith("decoder.")]
    missing = [name for name in result.missing_keys if _NAME in name.split(".")]
    if strange or missing:
        told = [f"{len(strange)} of its weights have no place there ({strange[0]})"] if strange else []
        told += [f"{len(missing)} places there have no weight in it ({missing[0]})"] if missing else []
        raise EncoderError(
            f"{adapter.folder}: does not fit its base {adapter.base}: {', and '.join(told)}; set "
            f"base_model_name_or_path in {CONFIG} to the model that it was trained on"
        )


def merge_adapters(model: Any) -> None:
    """Add adapters to the weights they sit on, and take them away: what is left is an ordinary model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper
    from transformers.integrations import PeftAdapterMixin

    def plain(child: Any) -> Any:
        if hasattr(child, "unload_and_optionally_merge_module"):
            return child.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        child.merge()
        return child.get_base_layer()

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer | AuxiliaryTrainingWrapper):
                setattr(parent, name, plain(child))
    for parent in model.modules():
        if isinstance(parent, PeftAdapterMixin) and (adapters := getattr(parent, "peft_config", None)):
            parent.delete_adapter(list(adapters))
    for parameter in model.parameters():
        parameter.requires_grad_(True)

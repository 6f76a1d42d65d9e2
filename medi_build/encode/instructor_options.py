"""What a user asks of `Instructor` when it is made: which model, how loaded, where, in which arithmetic."""

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
from pydantic import ValidationError

from medi_build.content.pipelines import EncoderSpec
from medi_build.devices import devices
from medi_build.encode.encoder import as_int8_can
from medi_build.encode.load import load_any
from medi_build.encode.model_files import find_model
from medi_build.errors import EncoderError, OptionError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Loaded(NamedTuple):
    """A model for the constructor: its modules, what it says about itself, and how it is to compute."""

    modules: "OrderedDict[str, torch.nn.Module]"
    module_kwargs: Any
    dtype: Any
    device: str | None
    options: dict[str, Any]


_OF_FILES = ("cache_folder", "token", "local_files_only")
_OF_MODEL = ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
_OF_LOADING = ("model_kwargs", "processor_kwargs", "config_kwargs", *_OF_MODEL)
_RENAMED = {"use_auth_token": "token", "tokenizer_kwargs": "processor_kwargs"}


def load_as_asked(
    name: str, device: str | None, dtype: Dtype, max_tokens: int | None, options: dict[str, Any]
) -> Loaded:
    """Find and load a model, as ``options`` say.

    Raises:
        EncoderError: it cannot be loaded as asked.
    """
    given = {_RENAMED.get(option, option): value for option, value in options.items() if value is not None}
    backend, card = given.pop("backend", "torch"), given.pop("model_card_data", None)
    trust, revision = given.pop("trust_remote_code", False), given.pop("revision", None)
    if unknown := given.keys() - {*_OF_FILES, *_OF_LOADING}:
        raise EncoderError(f"Instructor has no argument {', '.join(sorted(unknown))}; see help(medi_build.Instructor)")
    if backend != "torch" or "device_map" in given.get("model_kwargs", {}):
        what = f"backend {backend!r}" if backend != "torch" else "device_map"
        raise EncoderError(
            f"{name}: {what} is not supported; leave it out (device names a single device), or use "
            "sentence_transformers.SentenceTransformer with a prompt"
        )
    try:
        spec = EncoderSpec(model=name, revision=revision, dtype=dtype, max_tokens=max_tokens, trust_remote_code=trust)
    except ValidationError as error:
        fault = error.errors()[0]
        raise EncoderError(f"{fault['loc'][0]} is {fault['input']!r}: {fault['msg'].lower()}") from error
    of_files = {option: given[option] for option in _OF_FILES if option in given}
    files = find_model(name, revision, trust_remote_code=spec.trust_remote_code, **of_files)
    actual, device = as_int8_can(files, spec.dtype, device)
    of_loading = {option: given[option] for option in _OF_LOADING if option in given}
    model = load_any(files, trust_remote_code=spec.trust_remote_code, **of_loading)
    kept = {option: getattr(model, option) for option in _OF_MODEL}
    kept |= {"trust_remote_code": spec.trust_remote_code, "model_card_data": card}
    return Loaded(OrderedDict(model.named_children()), model.module_kwargs, actual, device, kept)


def single_device(device: Any) -> torch.device:
    """A single device that exists; for None a GPU if there is one.

    Raises:
        OptionError: there is no such device.
    """
    try:
        other = device is not None and torch.device(device).type not in ("cpu", "cuda")
        if other:  # another kind that this build of torch knows
            return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OptionError(f"device {device!r} cannot be used here ({error}); use 'cpu', 'cuda' or 'cuda:0'") from error
    return torch.device(devices(None if device is None else str(device))[0])

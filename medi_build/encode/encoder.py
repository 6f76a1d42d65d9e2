"""The encoder that mines: a model found by name, with an identity, behind our batching (`engine`)."""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from medi_build.content.pipelines import EncoderSpec
from medi_build.devices import devices, has_fast_bfloat16
from medi_build.encode import engine
from medi_build.encode.compiled import Compiled, is_free_of_masks
from medi_build.encode.engine import Arithmetic, Budget, Features, Progress, Replica
from medi_build.encode.int8 import multiplies_in_int8
from medi_build.encode.linears import narrow_linears, refuse_int8, scales_by_pass
from medi_build.encode.load import is_plain, load_any
from medi_build.encode.model_files import ModelFiles, find_model
from medi_build.encode.pair_tokens import Tokens, tokenise
from medi_build.encode.prompts import prompts_of
from medi_build.encode.whole_texts import Task, WholeReplica, WholeTexts, run_whole
from medi_build.encode.window import set_window, window_of
from medi_build.errors import EncoderError

ENGINE_VERSION = 3
"""To be raised by hand whenever a change here or in `engine` changes vectors."""


class Encoded(NamedTuple):
    """Vectors of some texts.

    Attributes:
        vectors: float32 [n, d], L2-normalised unless asked otherwise.
        flags: uint8 [n], see `pair_tokens.TRUNCATED` and `pair_tokens.UNALIGNED`; 0 where the model tokenises itself.
    """

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]


class Encoder:
    """A sentence-transformers model behind our batching.

    A transformer, pooling, and optionally Dense and Normalize go through `engine`. Models of another build (Router,
    StaticEmbedding, custom code) tokenise and compute themselves, a text at a time on the CPU (`whole_texts`).

    Attributes:
        identity: hex; equal only for the same name, revision, files (weights, tokenizer, configs of window and
            pooling, code that is trusted), dtype, asked-for window, device type and engine. Known without loading.
        about: what the identity stands for, as plain data.
        prompts: those that the model was saved with.
        routed: whether queries and documents may take other ways through it.
        device: the first device in use.
        dtype: what the transformer computes in.
    """

    def __init__(self, spec: EncoderSpec, device: str | None = None) -> None:
        """Find the model; it is loaded when it is first needed.

        Args:
            spec: which model, in which dtype and window.
            device: "cpu", "cuda" (all GPUs), "cuda:1", ...; None for the GPUs if there are any.

        Raises:
            EncoderError: there is no such model, it is int8 and is to compute in another way, or its saved prompts are
                none.
            OptionError: there is no such device.
        """
        self._spec = spec
        self._files = find_model(spec.model, spec.revision, trust_remote_code=spec.trust_remote_code)
        self.prompts = prompts_of(self._files.folder)
        self.routed = self._files.routed
        dtype, device = as_int8_can(self._files, spec.dtype, device)
        self._devices = [torch.device(name) for name in devices(device)]
        self.device = self._devices[0]
        self.dtype = dtype_of(dtype, self.device)
        self.about = {
            "model": self._files.name,
            "revision": self._files.revision,
            "digest": self._files.digest,
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_tokens": spec.max_tokens,
            "device": self.device.type,
            "engine": ENGINE_VERSION,
        }
        self.identity = identity_of(self.about)
        self._budget = Budget(self.device, model_stays=True)

    @cached_property
    def model(self) -> Any:
        """The sentence-transformers model, on the first device. Loaded when first asked for.

        Raises:
            EncoderError: its files do not make an encoder.
        """
        model = load_any(self._files, trust_remote_code=self._spec.trust_remote_code)
        if not is_plain(model):
            set_window(model, self._files.name, self._spec.max_tokens)
        elif self.dtype != torch.float32:
            narrow_linears(model[0], self.dtype, self.device)
        refuse_int8(model, self.device, self._files.name)
        if scales_by_pass(model):
            self._budget.tokens = 1  # so that each text has a pass of its own
        return model.to(self.device)

    @cached_property
    def _replicas(self) -> list[tuple[Any, torch.device]]:
        """The model on each device."""
        others = [(copy.deepcopy(self.model).to(device), device) for device in self._devices[1:]]
        return [(self.model, self.device), *others]

    @cached_property
    def _engines(self) -> list[Replica]:
        """The same for `engine`; on GPUs the transformer is compiled once that pays."""
        compiles = self.device.type == "cuda" and is_free_of_masks(self.model[0])
        return [
            Replica(list(model), device, Compiled(model[0]) if compiles else None) for model, device in self._replicas
        ]

    @cached_property
    def _plain(self) -> bool:
        """Whether `engine` can run it."""
        return is_plain(self.model)

    @cached_property
    def window(self) -> int:
        """Tokens per text at most."""
        return window_of(self.model, self._files.name, self._spec.max_tokens)

    @cached_property
    def dimension(self) -> int:
        """Length of a vector; the model's ``truncate_dim`` where it has one."""
        return int(self.model.get_embedding_dimension())

    @cached_property
    def skip_instruction(self) -> bool:
        """Whether the pooling leaves the instruction out."""
        return leaves_instruction_out(self.model)

    def tokenise(
        self, texts: Sequence[str], instruction: str | Sequence[str] = "", task: Task | None = None
    ) -> Tokens | WholeTexts:
        """Tokenise texts under one instruction, or one instruction each; ``task`` is the route of a Router."""
        instructions = [instruction] * len(texts) if isinstance(instruction, str) else instruction
        if not self._plain:
            return WholeTexts(texts, instructions, task)
        return tokenise(self.model.tokenizer, texts, instructions, self.window, skip_instruction=self.skip_instruction)

    def encode(
        self,
        texts: Sequence[str],
        instruction: str | Sequence[str] = "",
        *,
        task: Task | None = None,
        normalise: bool = True,
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode texts; repeated (instruction, text) pairs are encoded as often as they are given.

        Raises:
            EncoderError: a vector has NaN or infinite entries, or a single text does not fit in memory.
        """
        tokens = self.tokenise(texts, instruction, task)
        return self.encode_tokens(tokens, texts, normalise=normalise, progress=progress)

    def encode_tokens(
        self,
        tokens: Tokens | WholeTexts,
        texts: Sequence[str],
        *,
        normalise: bool = True,
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode what `tokenise` made of ``texts``, which are only needed to name one in an error.

        Raises:
            EncoderError: as `encode`.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def keep(rows: npt.NDArray[np.int64], found: npt.NDArray[np.float32]) -> None:
            good = np.isfinite(found).all(axis=1)
            if not good.all():
                raise EncoderError(
                    f"{self.about['model']} in {self.about['dtype']} gives NaN or infinite values for the text "
                    f"{texts[rows[int(np.argmin(good))]][:80]!r}; try dtype float32, or check the model's weights"
                )
            vectors[rows] = found

        if isinstance(tokens, WholeTexts):

            def keep_whole(rows: npt.NDArray[np.int64], found: torch.Tensor) -> None:
                keep(rows, (torch.nn.functional.normalize(found) if normalise else found).cpu().numpy())

            replicas = [WholeReplica(*one) for one in self._replicas]
            run_whole(replicas, tokens, keep_whole, self.dtype, progress)
            return Encoded(vectors, np.zeros(len(texts), np.uint8))
        wanted = "unit_embedding" if normalise else "sentence_embedding"
        self.run(tokens, lambda rows, features: keep(rows, features[wanted].cpu().numpy()), progress)
        return Encoded(vectors, tokens.flags)

    def run(
        self,
        tokens: Tokens,
        keep: Callable[[npt.NDArray[np.int64], Features], None],
        progress: Progress | None = None,
    ) -> None:
        """Send tokens through the model's replicas: `engine.run`, with features in float32."""
        how = Arithmetic(self.window, self.dtype, self.model.truncate_dim)
        engine.run(self._engines, tokens, keep, how, self._budget, progress)


def as_int8_can(files: ModelFiles, dtype: str, device: str | None) -> tuple[str, str | None]:
    """The dtype and device that were asked for; of a folder that multiplies in int8 those that it does so in.

    Raises:
        EncoderError: an int8 folder cannot be as asked.
    """
    if not multiplies_in_int8(files.folder):
        return dtype, device
    for name, value, good in (("dtype", dtype, ("auto", "float32")), ("device", device, (None, "cpu"))):
        if value not in good:
            raise EncoderError(
                f"{files.name}: is an int8 folder, whose linear layers compute in int8 on the CPU, and {name} is "
                f"{value!r}; leave the {name} out, or name the model that it was made from"
            )
    return "float32", "cpu"


def dtype_of(asked: str, device: torch.device) -> torch.dtype:
    """The dtype of the transformer; "auto" is bfloat16 where the hardware multiplies it natively."""
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked]
    return torch.bfloat16 if has_fast_bfloat16(device.type) else torch.float32


def leaves_instruction_out(model: Any) -> bool:
    """Whether a model's pooling leaves the instruction out, as INSTRUCTOR's does."""
    return not all(getattr(module, "include_prompt", True) for module in model)


def identity_of(about: dict[str, Any]) -> str:
    """The identity that stands for what an encoder is (`Encoder.about`)."""
    return xxhash.xxh3_128_hexdigest(repr(sorted(about.items())).encode())

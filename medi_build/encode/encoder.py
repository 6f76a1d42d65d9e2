"""The encoder: texts to vectors, many short fixed-shape passes side by side.

On the CPU each pass runs on one thread and several passes run at once, one per core. Kernels then see the same shapes
on the same single thread whatever the number of cores, so a text's vector is the same bit for bit; and no core waits
for another inside a kernel.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from medi_build.content.pipelines import EncoderSpec
from medi_build.devices import devices, has_fast_bfloat16
from medi_build.encode.linears import narrow_linears
from medi_build.encode.load import find_model, load_model, window_of
from medi_build.encode.pair_tokens import Tokens, tokenise
from medi_build.encode.passes import ForwardPass, plan
from medi_build.encode.prompts import prompts_of
from medi_build.errors import EncoderError

ENGINE_VERSION = 3
"""To be raised by hand whenever a change here changes vectors."""
CPU_BUDGET = 1024
"""Padded tokens of a pass on one core: the activations stay near its cache, and little is filler."""
CUDA_BUDGET = 1 << 16
"""Padded tokens of a pass on a GPU, to begin with; halved when memory runs out."""

Features = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


class Encoded(NamedTuple):
    """Vectors of some texts.

    Attributes:
        vectors: float32 [n, d], L2-normalised unless asked otherwise.
        flags: uint8 [n], see `tokens.TRUNCATED` and `tokens.UNALIGNED`.
    """

    vectors: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]


class Encoder:
    """A sentence-transformers model (transformer, pooling, optionally Dense and Normalize) behind our batching.

    Attributes:
        identity: hex; equal only for the same name, revision, files (weights, tokenizer, configs of window and
            pooling), dtype, asked-for window, device type and engine. Known without loading the model.
        about: what the identity stands for, as plain data.
        prompts: those that the model was saved with.
        device: the first device in use.
        dtype: what the transformer computes in.
    """

    def __init__(self, spec: EncoderSpec, device: str | None = None) -> None:
        """Find the model; it is loaded when it is first needed.

        Args:
            spec: which model, in which dtype and window.
            device: "cpu", "cuda" (all GPUs), "cuda:1", ...; None for the GPUs if there are any.

        Raises:
            EncoderError: there is no such model, or its saved prompts are none.
            OptionError: there is no such device.
        """
        self._spec = spec
        self._files = find_model(spec.model, spec.revision)
        self.prompts = prompts_of(self._files.folder)
        self._devices = [torch.device(name) for name in devices(device)]
        self.device = self._devices[0]
        self.dtype = _dtype(spec.dtype, self.device)
        self.about = {
            "model": self._files.name,
            "revision": self._files.revision,
            "digest": self._files.digest,
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_tokens": spec.max_tokens,
            "device": self.device.type,
            "engine": ENGINE_VERSION,
        }
        self.identity = xxhash.xxh3_128_hexdigest(repr(sorted(self.about.items())).encode())
        self._budget = CUDA_BUDGET if self.device.type == "cuda" else CPU_BUDGET

    @cached_property
    def model(self) -> Any:
        """The sentence-transformers model, on the first device. Loaded when first asked for.

        Raises:
            EncoderError: its files do not make an encoder.
        """
        model = load_model(self._files)
        if self.dtype != torch.float32:
            narrow_linears(model[0], self.dtype, self.device)
        return model.to(self.device)

    @cached_property
    def _replicas(self) -> list[tuple[Any, torch.device]]:
        """The model on each device."""
        others = [(copy.deepcopy(self.model).to(device), device) for device in self._devices[1:]]
        return [(self.model, self.device), *others]

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
        return not all(getattr(module, "include_prompt", True) for module in self.model)

    def tokenise(self, texts: Sequence[str], instruction: str | Sequence[str] = "") -> Tokens:
        """Tokenise texts under one instruction, or one instruction each."""
        instructions = [instruction] * len(texts) if isinstance(instruction, str) else instruction
        return tokenise(self.model.tokenizer, texts, instructions, self.window, skip_instruction=self.skip_instruction)

    def encode(
        self,
        texts: Sequence[str],
        instruction: str | Sequence[str] = "",
        *,
        normalise: bool = True,
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode texts; repeated (instruction, text) pairs are encoded as often as they are given.

        Raises:
            EncoderError: a vector has NaN or infinite entries, or a single text does not fit in memory.
        """
        return self.encode_tokens(self.tokenise(texts, instruction), texts, normalise=normalise, progress=progress)

    def encode_tokens(
        self, tokens: Tokens, texts: Sequence[str], *, normalise: bool = True, progress: Progress | None = None
    ) -> Encoded:
        """Encode what `tokenise` made of ``texts``, which are only needed to name one in an error.

        Raises:
            EncoderError: as `encode`.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)

        def keep(rows: npt.NDArray[np.int64], features: Features) -> None:
            found = features["unit_embedding" if normalise else "sentence_embedding"].cpu().numpy()
            good = np.isfinite(found).all(axis=1)
            if not good.all():
                raise EncoderError(
                    f"{self.about['model']} in {self.about['dtype']} gives NaN or infinite values for the text "
                    f"{texts[rows[int(np.argmin(good))]][:80]!r}; try dtype float32, or check the model's weights"
                )
            vectors[rows] = found

        self.run(tokens, keep, progress)
        return Encoded(vectors, tokens.flags)

    def run(
        self,
        tokens: Tokens,
        keep: Callable[[npt.NDArray[np.int64], Features], None],
        progress: Progress | None = None,
    ) -> None:
        """Send all texts through the model and hand each pass's features to ``keep``, from several threads.

        Args:
            tokens: the texts.
            keep: called with the rows (indices into ``tokens``) and the features of exactly those rows:
                ``sentence_embedding`` and (normalised) ``unit_embedding`` [k, d], ``token_embeddings`` [k, width, h],
                all fp32, and ``attention_mask`` [k, width], 0 on padding and on the instruction where the pooling
                leaves it out.
            progress: told after each pass.
        """
        passes = plan(tokens.lengths, self.window, self._budget, fixed=self.device.type == "cpu")
        lock = threading.Lock()
        done = 0

        def take() -> ForwardPass | None:
            with lock:
                return next(passes, None)

        def work(model: Any, device: torch.device) -> None:
            nonlocal done
            while planned := take():
                for rows, features in self._passes(model, device, tokens, planned):
                    keep(rows, features)
                    with lock:
                        done += len(rows)
                        if progress:
                            progress(done, len(tokens.skip))

        with _one_thread_each(self.device) as workers:
            jobs = self._replicas * workers
            with ThreadPoolExecutor(len(jobs)) as pool:
                futures = [pool.submit(_alone, self.device, work, *job) for job in jobs]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:  # after an error or an interrupt nobody begins another pass
                    with lock:
                        passes.close()
            for future in futures:
                future.result()

    def _passes(
        self, model: Any, device: torch.device, tokens: Tokens, planned: ForwardPass
    ) -> Iterator[tuple[npt.NDArray[np.int64], Features]]:
        """Run one pass, in smaller pieces once memory has run out."""
        start = 0
        while start < len(planned.rows):
            capacity = min(planned.capacity, max(1, self._budget // planned.width))
            rows = planned.rows[start : start + capacity]
            features: Features | None = None
            try:
                features = _forward(model, device, self.dtype, _pad(tokens, rows, planned.width, capacity))
            except torch.OutOfMemoryError as error:
                if capacity == 1:
                    raise EncoderError(
                        f"out of memory on {device} with a single text of {planned.width} tokens; lower max_tokens, or "
                        "use a smaller model or dtype"
                    ) from error
            if features is None:  # outside the handler, whose traceback keeps the failed pass's tensors alive
                self._budget = min(self._budget, capacity * planned.width) // 2
                torch.cuda.empty_cache()
                continue
            yield rows, {name: value[: len(rows)] for name, value in features.items()}
            start += len(rows)


class _Padded(NamedTuple):
    """A pass's input: int64 [capacity, width] ids and mask, int64 [capacity] tokens to leave out of the pooling."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    skip: npt.NDArray[np.int64]


def _pad(tokens: Tokens, rows: npt.NDArray[np.int64], width: int, capacity: int) -> _Padded:
    """Lay texts out in a rectangle; missing rows repeat the last text."""
    filled = np.concatenate([rows, np.repeat(rows[-1:], max(0, capacity - len(rows)))])
    places = np.arange(width)
    inside = places < tokens.lengths[filled][:, None]
    index = np.where(inside, tokens.offsets[filled][:, None] + places, 0)
    return _Padded(np.where(inside, tokens.ids[index], 0), inside.astype(np.int64), tokens.skip[filled])


@torch.inference_mode()
def _forward(model: Any, device: torch.device, dtype: torch.dtype, padded: _Padded) -> Features:
    """Transformer in ``dtype``; pooling and what follows in fp32 (bf16 pooling costs two digits of the cosine)."""
    mask = torch.from_numpy(padded.mask).to(device)
    features: Features = {"input_ids": torch.from_numpy(padded.ids).to(device), "attention_mask": mask}
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        features = model[0](features)
    places = torch.arange(mask.shape[1], device=device)
    pooled = mask * (places >= torch.from_numpy(padded.skip).to(device)[:, None])
    features = {"token_embeddings": features["token_embeddings"].float(), "attention_mask": pooled}
    for module in list(model)[1:]:
        features = module(features)
    features["sentence_embedding"] = features["sentence_embedding"][..., : model.truncate_dim]
    features["unit_embedding"] = torch.nn.functional.normalize(features["sentence_embedding"])
    return features


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    """The dtype of the transformer; "auto" is bfloat16 where the hardware multiplies it natively."""
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked]
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else has_fast_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _alone(device: torch.device, work: Callable[..., None], *arguments: Any) -> None:
    """Run a worker; on the CPU its kernels stay on its own thread."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    work(*arguments)


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[int]:
    """Yield how many passes to run at once, and put the caller's thread count back afterwards."""
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)

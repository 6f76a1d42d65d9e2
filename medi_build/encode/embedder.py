"""Encoder and store together: each distinct text is encoded once, now or in an earlier build."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Ints, Vectors
from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Embedded, Prompt, Side
from medi_build.encode.encoder import Encoded, Encoder
from medi_build.encode.engine import Progress
from medi_build.encode.pair_tokens import TRUNCATED, UNALIGNED
from medi_build.encode.segments import Keys
from medi_build.encode.store import Lookup, VectorStore, keys_of
from medi_build.encode.writing import writing

CHUNK_TEXTS = 20_000
"""Texts encoded between two commits to the store: what a kill can lose, with what is being written."""
CHUNK_TEXTS_CUDA = 200_000
"""The same on a GPU, a minute or two of a large model: among so many there are enough texts of each length."""


class Embedder:
    """Encodes texts through a store, or without one. Satisfies `medi_build.embedding.Embed`.

    Attributes:
        encoder: the encoder; it loads its model only when a text is missing.
        encoded: texts that went through the model so far.
        progress: called with (texts done, texts to encode) of the call under way, from worker threads, or None.
    """

    def __init__(self, encoder: Encoder, store: VectorStore | None = None, progress: Progress | None = None) -> None:
        self.encoder = encoder
        self.encoded = 0
        self._store = store
        self.progress = progress

    def __call__(self, texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
        """Return one vector per text, in order; only texts that the store lacks go through the model.

        Args:
            texts: the texts.
            instruction: what stands in front of each; None for the prompt that the model has saved for the side.
            side: what the texts are: `encode_query` and `encode_document` of sentence-transformers, or its `encode`.

        Raises:
            EncoderError: the model cannot be loaded, or gives unusable vectors.
            StoreError: the store cannot be read or written.
        """
        instruction = self.encoder.prompts.text(Prompt(instruction, side))
        route = side if self.encoder.routed else None
        in_front = f"{route}\0{instruction}" if route else instruction
        keys, first, inverse = _distinct(keys_of(self.encoder.identity, in_front, texts))
        known = self._look_up(keys)
        missing = np.flatnonzero(~known.mask)
        if len(missing):
            known = self._widen(known)
            with writing(self._keep) as keep:
                for rows, encoded in self._encode(texts, first, missing, instruction, route):
                    known.vectors[rows], known.flags[rows] = encoded.vectors, encoded.flags
                    self.encoded += len(rows)
                    keep(keys[rows], known.vectors[rows], known.flags[rows])
        flags = known.flags[inverse]
        return Embedded(
            known.vectors if len(keys) == len(texts) else known.vectors[inverse],
            truncated=int(np.count_nonzero(flags & TRUNCATED)),
            unaligned=int(np.count_nonzero(flags & UNALIGNED)),
        )

    def _encode(
        self, texts: Sequence[str], first: Ints, missing: Ints, instruction: str, route: Side | None
    ) -> Iterator[tuple[Ints, Encoded]]:
        """Encode the missing texts chunk by chunk; the next chunk is tokenised while the model has this one.

        Yields:
            The chunk's part of ``missing``, and its vectors.
        """
        size = CHUNK_TEXTS_CUDA if self.encoder.device.type == "cuda" else CHUNK_TEXTS
        chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
        chosen = [[texts[i] for i in first[chunk]] for chunk in chunks]
        start = 0
        with ThreadPoolExecutor(1) as ahead:
            jobs = (ahead.submit(self.encoder.tokenise, part, instruction, route) for part in chosen)
            upcoming = next(jobs)
            for chunk, part in zip(chunks, chosen, strict=True):
                tokens, upcoming = upcoming.result(), next(jobs, upcoming)
                yield chunk, self.encoder.encode_tokens(tokens, part, progress=self._shifted(start, len(missing)))
                start += len(chunk)

    def _keep(self, keys: Keys, vectors: Vectors, flags: npt.NDArray[np.uint8]) -> None:
        """Put vectors into the store, if there is one."""
        if self._store:
            self._store.put(self.encoder.identity, self.encoder.about, keys, vectors, flags)

    def _look_up(self, keys: Keys) -> Lookup:
        if self._store:
            return self._store.get(self.encoder.identity, keys)
        count = len(keys)
        return Lookup(np.zeros(count, np.bool_), np.zeros((count, 0), np.float16), np.zeros(count, np.uint8))

    def _widen(self, known: Lookup) -> Lookup:
        """The same, with room for vectors where the store was empty."""
        dimension, count = self.encoder.dimension, len(known.mask)
        if known.vectors.shape[1] == dimension:
            return known
        room = self._store.room(count, dimension) if self._store else np.zeros((count, dimension), np.float16)
        return known._replace(vectors=room)

    def _shifted(self, start: int, total: int) -> Progress | None:
        """The caller's progress, told of this chunk's texts as part of all."""
        progress = self.progress
        return (lambda done, _: progress(start + done, total)) if progress else None


def open_embedder(
    spec: EncoderSpec, device: str | None = None, store_dir: Path | None = None, progress: Progress | None = None
) -> Embedder:
    """An embedder for a pipeline's encoder.

    Args:
        spec: which model, in which dtype and window.
        device: "cpu", "cuda" (all GPUs), "cuda:1", ...; None for the GPUs if there are any.
        store_dir: folder of the vector store; None keeps nothing between calls.
        progress: called with (texts done, texts to encode) of the call under way, from worker threads.

    Raises:
        EncoderError: there is no such model or dtype.
        OptionError: there is no such device.
        StoreError: ``store_dir`` is no usable store.
    """
    return Embedder(Encoder(spec, device), VectorStore(store_dir) if store_dir else None, progress)


def _distinct(keys: Keys) -> tuple[Keys, Ints, Ints]:
    """Distinct keys in order of first appearance.

    Returns:
        The keys, the index at which each first appears, and for each given key its place among the distinct.
    """
    packed = np.ascontiguousarray(keys).view([("high", np.uint64), ("low", np.uint64)]).reshape(-1)
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return keys[first[order]], first[order], rank[inverse.reshape(-1)]

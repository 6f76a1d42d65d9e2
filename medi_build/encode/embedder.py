"""Encoder and store together: each distinct text is encoded once, now or in an earlier build."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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
from medi_build.errors import EncoderError
from medi_build.share import Split

CHUNK_TEXTS = 20_000
"""Texts encoded between two commits to the store: what a kill can lose, with what is being written."""
CHUNK_TEXTS_CUDA = 200_000
"""The same on a GPU, a minute or two of a large model: among so many there are enough texts of each length."""


class Block(NamedTuple):
    """Texts to encode, as they go to another process.

    Attributes:
        texts: n distinct texts.
        instruction: what stands in front of each.
        route: through a model that has several.
        identity: of the encoder that is meant.
    """

    texts: Sequence[str]
    instruction: str
    route: Side | None
    identity: str


class Known(NamedTuple):
    """What is known of n texts.

    Attributes:
        vectors: float16 [n, d], L2-normalised.
        flags: uint8 [n], see `Encoded`.
    """

    vectors: Vectors
    flags: npt.NDArray[np.uint8]


class Elsewhere(NamedTuple):
    """Where texts are encoded that the store lacks, if not here.

    Attributes:
        split: how blocks of them are handed out.
        encode: what is done with one; it can be pickled and calls `Embedder.block`.
    """

    split: Split
    encode: Callable[[Block], Known]


class Embedder:
    """Encodes texts through a store, or without one. Satisfies `medi_build.embedding.Embed`.

    Attributes:
        encoder: the encoder; it loads its model only when it has to encode.
        encoded: texts that the store lacked so far.
        progress: called with (texts done, texts to encode) of the call under way, from worker threads, or None.
        elsewhere: where these are encoded; None for here.
    """

    def __init__(self, encoder: Encoder, store: VectorStore | None = None, progress: Progress | None = None) -> None:
        self.encoder = encoder
        self.encoded = 0
        self.progress = progress
        self.elsewhere: Elsewhere | None = None
        self._store = store

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
        vectors, flags = self._known(texts, instruction, route, self.elsewhere)
        return Embedded(
            vectors,
            truncated=int(np.count_nonzero(flags & TRUNCATED)),
            unaligned=int(np.count_nonzero(flags & UNALIGNED)),
        )

    def block(self, block: Block) -> Known:
        """Do a block of another process: by this store and this encoder.

        Raises:
            EncoderError: the encoder that is meant has another identity; else as `__call__`.
            StoreError: as `__call__`.
        """
        if block.identity != self.encoder.identity:
            told = ", ".join(f"{name} {value}" for name, value in self.encoder.about.items())
            raise EncoderError(
                f"a worker's encoder would give other vectors than the one of this build; it has {told}. Give all "
                "workers the same model files, the same medi and one kind of device, and name a dtype if it is auto"
            )
        return self._known(block.texts, block.instruction, block.route, None)

    def _known(self, texts: Sequence[str], instruction: str, route: Side | None, elsewhere: Elsewhere | None) -> Known:
        """Vectors and flags of texts, in order; those that had to be made are in the store then, chunk by chunk."""
        identity = self.encoder.identity
        keys, first, inverse = _distinct(keys_of(identity, f"{route}\0{instruction}" if route else instruction, texts))
        known = self._look_up(keys)
        missing = np.flatnonzero(~known.mask)
        size = CHUNK_TEXTS_CUDA if self.encoder.device.type == "cuda" else CHUNK_TEXTS
        size = size if elsewhere is None else min(size, elsewhere.split.rows)
        chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
        chosen = ([texts[i] for i in first[chunk]] for chunk in chunks)
        if elsewhere is None:
            made: Iterator[Encoded | Known] = self._encode(chosen, instruction, route, len(missing))
        else:
            blocks = (Block(part, instruction, route, identity) for part in chosen)
            made = self._told(elsewhere.split.share(elsewhere.encode, blocks), len(missing))
        with writing(self._keep) as keep:
            before, done = self.encoded, 0
            for rows, encoded in zip(chunks, made, strict=True):
                known = self._widen(known, encoded.vectors.shape[1])
                known.vectors[rows], known.flags[rows] = encoded.vectors, encoded.flags
                done += len(rows)
                self.encoded = before + done  # a share may have this very object do some of them
                keep(keys[rows], known.vectors[rows], known.flags[rows], shared=elsewhere is not None)
        whole = len(keys) == len(texts)
        return Known(known.vectors if whole else known.vectors[inverse], known.flags[inverse])

    def _encode(
        self, chunks: Iterable[Sequence[str]], instruction: str, route: Side | None, total: int
    ) -> Iterator[Encoded]:
        """Encode texts chunk by chunk; the next chunk is tokenised while the model has this one."""
        done = 0
        with ThreadPoolExecutor(1) as ahead:
            jobs = ((texts, ahead.submit(self.encoder.tokenise, texts, instruction, route)) for texts in chunks)
            upcoming = next(jobs, None)
            while upcoming is not None:
                texts, tokens = upcoming[0], upcoming[1].result()
                upcoming = next(jobs, None)
                yield self.encoder.encode_tokens(tokens, texts, progress=self._shifted(done, total))
                done += len(texts)

    def _told(self, blocks: Iterator[Known], total: int) -> Iterator[Known]:
        """Blocks that others did, and the progress told of them."""
        done = 0
        for block in blocks:
            yield block
            done += len(block.flags)
            if self.progress:
                self.progress(done, total)

    def _keep(self, keys: Keys, vectors: Vectors, flags: npt.NDArray[np.uint8], *, shared: bool) -> None:
        """Put vectors into the store; where it may be ``shared`` with who made them, those that it lacks."""
        if self._store is None:
            return
        identity = self.encoder.identity
        new = ~self._store.holds(identity, keys) if shared else slice(None)
        self._store.put(identity, self.encoder.about, keys[new], vectors[new], flags[new])

    def _look_up(self, keys: Keys) -> Lookup:
        if self._store:
            return self._store.get(self.encoder.identity, keys)
        count = len(keys)
        return Lookup(np.zeros(count, np.bool_), np.zeros((count, 0), np.float16), np.zeros(count, np.uint8))

    def _widen(self, known: Lookup, dimension: int) -> Lookup:
        """The same, with room for vectors where the store was empty."""
        count = len(known.mask)
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

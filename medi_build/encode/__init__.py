"""Texts to unit vectors: the encoder, the store that remembers them, and the two together."""

from medi_build.encode.embedder import Embedder, open_embedder
from medi_build.encode.encoder import Encoded, Encoder
from medi_build.encode.store import VectorStore

__all__ = ["Embedder", "Encoded", "Encoder", "VectorStore", "open_embedder"]

"""Texts to unit vectors: the encoder, the store that remembers them, and the two together (`embedder`)."""

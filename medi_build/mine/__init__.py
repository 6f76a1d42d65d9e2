"""Mining: encode -> search -> select, as small functions over arrays."""

from medi_build.mine.engine import mine
from medi_build.mine.exclusions import Exclusions, Labels
from medi_build.mine.search import Ranking, pair_scores, topk

__all__ = ["Exclusions", "Labels", "Ranking", "mine", "pair_scores", "topk"]

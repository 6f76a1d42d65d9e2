"""Signs that a model could tell positives from negatives without reading them."""

import numpy as np
import polars as pl

from medi_build.arrays import Ints
from medi_build.ledger import Ledger

LENGTH_AUC_LIMIT = 0.65


def length_auc(positive: Ints, negative: Ints) -> float:
    """How well length alone tells positives from negatives: 0.5 not at all, 1.0 always, whichever is longer.

    The area under the ROC curve by the Mann-Whitney statistic, mirrored above one half; 0.5 for no texts.
    """
    if not len(positive) or not len(negative):
        return 0.5
    ranks = pl.Series(np.concatenate([positive, negative])).rank("average").to_numpy()
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    area = float(above / (len(positive) * len(negative)))
    return max(area, 1 - area)


def note_length_shortcut(positive: Ints, negative: Ints, ledger: Ledger) -> None:
    """Measure the AUC as ``length_auc``, and note the rows as ``length_shortcut`` where it passes the limit."""
    area = length_auc(positive, negative)
    ledger.measure("length_auc", round(area, 4))
    if area > LENGTH_AUC_LIMIT:
        ledger.note("length_shortcut", len(positive))

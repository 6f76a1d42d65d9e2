"""Mining of one dataset: examples in, one positive and its negatives per example out."""

import pyarrow as pa

from medi_build.dataset.schema import Kind
from medi_build.mine.marks import without_marked
from medi_build.mine.negatives import mine_pairs
from medi_build.mine.paper import by_label, by_output
from medi_build.mine.result import Mined, with_negatives
from medi_build.mine.run import Encoders, Run


def mine(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    kind: Kind,
    encoders: Encoders,
    run: Run,
    symmetric: bool = False,
    verified_negatives: bool = False,
) -> Mined:
    """Find a positive and negatives for each example.

    Args:
        examples: schema ``EXAMPLES``; may be memory-mapped.
        documents: schema ``DOCUMENTS``, candidates beyond the examples' positives (kind "pairs" only), or None.
        kind: which pair rule applies.
        encoders: what encodes the texts, and under which instructions.
        run: the rule, the seed, the ledger and the device.
        symmetric: both sides are alike, so queries are candidates too (kind "pairs" only), and all texts are encoded
            as queries.
        verified_negatives: given negatives are known to be wrong, so no filter of the rule touches them.

    Returns:
        At most one row per example, ascending; `Mined.tables` gives them with their texts.

    Raises:
        MiningError: unusable vectors, or an encoder that the rule names is not among ``encoders.others``.
        OptionError: there is no such device.
    """
    if kind == "classification":
        mined, unique_texts = by_label(examples, encoders, run)
    elif kind == "text2text":
        mined, unique_texts = by_output(examples, encoders, run)
    else:
        mined, unique_texts = mine_pairs(
            examples,
            documents,
            encoders=encoders,
            run=run,
            symmetric=symmetric,
            verified_negatives=verified_negatives,
        )
    return without_marked(run.marks, with_negatives(examples, mined, unique_texts, run), run.ledger)

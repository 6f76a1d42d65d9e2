"""Mining of one dataset: examples in, one positive and its negatives per example out."""

from collections.abc import Mapping

import pyarrow as pa

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import Kind
from medi_build.devices import Device
from medi_build.embedding import Embed
from medi_build.ledger import Ledger
from medi_build.mine.negatives import mine_pairs
from medi_build.mine.paper import by_label, by_output
from medi_build.mine.result import Mined, with_negatives


def mine(
    examples: pa.Table,
    documents: pa.Table | None,
    *,
    kind: Kind,
    rule: MiningRule,
    embed: Embed,
    instructions: tuple[str | None, str | None] = (None, None),
    symmetric: bool = False,
    verified_negatives: bool = False,
    seed: int,
    ledger: Ledger,
    others: Mapping[str, Embed] | None = None,
    device: Device = "cpu",
) -> Mined:
    """Find a positive and negatives for each example.

    Args:
        examples: schema ``EXAMPLES``; may be memory-mapped.
        documents: schema ``DOCUMENTS``, candidates beyond the examples' positives (kind "pairs" only), or None.
        kind: which pair rule applies.
        rule: the knobs.
        embed: encodes texts under an instruction.
        instructions: those of the query and of the document side, for encoding only; None for what the encoder has
            saved for the side. The rule's further ``encoders`` take them, too; its guide takes what it has saved.
        symmetric: both sides are alike, so queries are candidates too (kind "pairs" only), and all texts are encoded
            as queries.
        verified_negatives: given negatives are known to be wrong, so no filter of the rule touches them.
        seed: for every choice that is not by score.
        ledger: dropped rows are counted in stage "mine", rejected candidates in notes ``rejected_{reason}``.
        others: the encoders that the rule names (``rule.others``), by these names (kind "pairs" only).
        device: where to search; the result is the same everywhere.

    Returns:
        At most one row per example, ascending; `Mined.tables` gives them with their texts.

    Raises:
        MiningError: nothing to search in, unusable vectors, or an encoder that the rule names is not among ``others``.
        OptionError: there is no such device.
    """
    if kind == "classification":
        mined, unique_texts = by_label(
            examples, rule=rule, embed=embed, instructions=instructions, seed=seed, ledger=ledger, device=device
        )
    elif kind == "text2text":
        mined, unique_texts = by_output(
            examples, rule=rule, embed=embed, instructions=instructions, seed=seed, ledger=ledger, device=device
        )
    else:
        mined, unique_texts = mine_pairs(
            examples,
            documents,
            rule=rule,
            embed=embed,
            others=others or {},
            instructions=instructions,
            symmetric=symmetric,
            verified_negatives=verified_negatives,
            seed=seed,
            ledger=ledger,
            device=device,
        )
    return with_negatives(examples, mined, unique_texts, rule, ledger)
